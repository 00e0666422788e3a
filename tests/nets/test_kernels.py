"""Every fast way is its definition: values, gradients, derivatives of derivatives; and it steps aside where it must."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.func import jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from reverie.nets import kernels
from reverie.nets.kernels import attending, choice, compiled, definitions, norms, products
from reverie.nets.layers import conv

ONEDNN_BF16 = choice.has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
DTYPES = [
    pytest.param(
        torch.float32, marks=pytest.mark.skipif(not choice.has_onednn(), reason="oneDNN is not in this build")
    ),
    pytest.param(torch.bfloat16, marks=pytest.mark.skipif(not ONEDNN_BF16, reason="this CPU has no bfloat16")),
]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True)
def _every_machine_and_size(monkeypatch):
    """The fast ways are taken for tensors of any size, and by processors that are as fast without them."""
    for module, name, value in ((products, "FEWEST", 0), (norms, "LONG", 150), (attending, "LONG", 0)):
        monkeypatch.setattr(module, name, value)
    for module in (products, attending):
        monkeypatch.setattr(module, "mkl_is_slow", lambda: True)
    for module in (products, attending):
        monkeypatch.setattr(module, "bf16_is_native", lambda: True)


def linear(**sizes):
    return kernels.linear, definitions.linear, [sizes["x"], (sizes["out"], sizes["x"][-1]), (sizes["out"],)]


def pointwise(*h, out):
    return kernels.pointwise, definitions.pointwise, [h, (out, h[1]), (out,)]


def attention(batch, heads, length, keys, width, mask=None):
    def by(f):
        return lambda q, k, v: f(q, k, v, mask)

    shapes = [(batch, heads, length, width), (batch, heads, keys, width), (batch, heads, keys, width)]
    return by(kernels.attention), by(definitions.attention_formula), shapes


def group_norm(*h, groups, modulated, affine, silu):
    def by(f):
        def norm(h, *rest):
            (scale, shift), rest = (rest[:2], rest[2:]) if modulated else ((None, None), rest)
            weight, bias = rest if affine else (None, None)
            return f(h, groups, weight, bias, 1e-5, scale, shift, silu)

        return norm

    shapes = [h] + [h[:2]] * 2 * modulated + [h[1:2]] * 2 * affine
    return by(kernels.group_norm), by(definitions.group_norm), shapes


def layer_norm(*h):
    return kernels.layer_norm, definitions.layer_norm, [h, (h[0], h[2]), (h[0], h[2])]


def convolved_up(*h, out, factors):
    def by(f):
        return lambda h, weight, bias: f(h, weight, bias, factors)

    return by(kernels.convolved_up), by(definitions.convolved_up), [h, (out, h[1], *(3,) * len(factors)), (out,)]


SEEN = torch.tensor([[True, False, True, True, False, True, True], [False] * 7, [True] * 7])
CASES = {
    "linear": (linear(x=(5, 33, 24), out=40), "both"),
    "linear, odd, narrowing": (linear(x=(19, 31), out=7), "both"),
    "pointwise": (pointwise(3, 12, 5, 7, out=20), "bf16"),
    "pointwise, 1-D": (pointwise(2, 9, 33, out=4), "bf16"),
    "attention": (attention(2, 3, 9, 9, 8), "both"),
    "attention, many keys": (attention(2, 3, 5, 70, 8), "both"),
    "attention, masked": (attention(3, 2, 5, 7, 16, SEEN), "both"),
    "attention, masked, many keys": (attention(3, 2, 5, 7, 1, SEEN), "both"),
    "group norm": (group_norm(3, 12, 7, 5, groups=4, modulated=False, affine=True, silu=False), "both"),
    "group norm, bare": (group_norm(3, 12, 7, groups=3, modulated=False, affine=False, silu=False), "both"),
    "group norm, SiLU": (group_norm(3, 12, 3, 4, 2, groups=2, modulated=False, affine=True, silu=True), "both"),
    "group norm, modulated": (group_norm(3, 12, 7, 5, groups=4, modulated=True, affine=False, silu=True), "both"),
    "group norm, all": (group_norm(3, 12, 7, 5, groups=4, modulated=True, affine=True, silu=True), "both"),
    "layer norm, large": (layer_norm(3, 9, 20), "float32"),
    "layer norm, small": (layer_norm(5, 7, 12), "float32"),
    "doubling": (convolved_up(3, 12, 5, 7, out=20, factors=(2, 2)), "both"),
    "doubling, 1-D": (convolved_up(2, 9, 33, out=4, factors=(2,)), "both"),
    "doubling, two axes of three": (convolved_up(2, 4, 3, 5, 4, out=6, factors=(1, 2, 2)), "both"),
}
every_case = pytest.mark.parametrize("name", CASES)


def case(name, dtype):
    """The fast way, the definition and the inputs; skips what has a fast way in the other dtype alone."""
    (fast, plain, shapes), takes = CASES[name]
    if takes != "both" and (takes == "bf16") != (dtype == torch.bfloat16):
        pytest.skip(f"in {dtype} this is the definition")
    generator = torch.Generator().manual_seed(0)
    return fast, plain, [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]


def results(f, inputs):
    """The value, and the gradients along a fixed direction, as float64."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    out = f(*inputs)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    grads = torch.autograd.grad(out, inputs, direction.to(out.dtype))
    return [t.detach().double() for t in (out, *grads)]


def error(found, exact):
    return ((found - exact).norm() / exact.norm().clamp_min(1e-30)).item()


@every_dtype
@every_case
def test_errors_are_those_of_the_definition(name, dtype):
    """Against float64, in value and in every gradient: at most twice, and an eighth of the last bit."""
    fast, plain, inputs = case(name, dtype)
    exact = results(plain, [t.double() for t in inputs])
    for ours, theirs, reference in zip(results(fast, inputs), results(plain, inputs), exact, strict=True):
        assert error(ours, reference) <= 2 * error(theirs, reference) + torch.finfo(dtype).eps / 8


@every_dtype
@every_case
def test_fast_ways_are_taken_unless_plain(name, dtype):
    fast, _, inputs = case(name, dtype)
    assert takes_ours(fast(*inputs))
    with kernels.plain():
        assert not takes_ours(fast(*inputs))
    assert takes_ours(fast(*inputs))


def takes_ours(out):
    """Whether one of our functions, or a transposed convolution, is in the graph, at most a view behind the result."""
    nodes = [out.grad_fn, *(node for node, _ in out.grad_fn.next_functions if node is not None)]
    ours = torch.autograd.function.BackwardCFunction
    return any(isinstance(node, ours) or getattr(node, "_saved_transposed", False) for node in nodes)


@every_case
def test_derivatives_of_derivatives(name):
    dtype = torch.bfloat16 if CASES[name][1] == "bf16" else torch.float32
    if dtype == torch.bfloat16 and not ONEDNN_BF16:
        pytest.skip("this CPU has no bfloat16")
    fast, plain, inputs = case(name, dtype)

    def second(f, dtype):
        given = [t.detach().to(dtype).requires_grad_() for t in inputs]
        torch.manual_seed(2)
        first = torch.autograd.grad(f(*given).sin().sum(), given, create_graph=True)
        along = sum((g * torch.randn(g.shape).to(g)).sum() for g in first)
        return [g.detach().double() for g in torch.autograd.grad(along, given, materialize_grads=True)]

    for ours, exact in zip(second(fast, dtype), second(plain, torch.float64), strict=True):
        assert error(ours, exact) < 100 * torch.finfo(dtype).eps or exact.norm() == 0


@every_dtype
@every_case
def test_forward_mode_and_function_transforms(name, dtype):
    fast, plain, inputs = case(name, dtype)
    given = tuple(t.detach() for t in inputs)
    found, expected = (list(jvp(f, given, given)) for f in (fast, plain))
    if "masked" not in name:  # a mask is of one batch
        found.append(vmap(fast)(*(torch.stack([t, t]) for t in given))[1])
        expected.append(expected[0])
    for a, b in zip(found, expected, strict=True):
        assert error(a.double(), b.double()) < 4 * torch.finfo(dtype).eps


@every_dtype
@every_case
def test_the_same_twice_and_for_any_strides(name, dtype):
    fast, _, inputs = case(name, dtype)
    first, again, apart = (results(f, inputs) for f in (fast, fast, lambda *given: fast(*(strided(t) for t in given))))
    for a, b, c in zip(first, again, apart, strict=True):
        assert torch.equal(a, b)
        assert error(c, a) < 2 * torch.finfo(dtype).eps


def strided(t):
    """The same numbers in other places: the axes in reverse order in memory."""
    order = tuple(reversed(range(t.ndim)))
    return t.permute(order).contiguous().permute(order)


@every_dtype
@every_case
def test_results_may_be_written_over_and_saved_inputs_may_not(name, dtype):
    fast, _, inputs = case(name, dtype)
    exact = results(lambda *given: fast(*given) * 2, inputs)
    for found, expected in zip(results(lambda *given: fast(*given).mul_(2), inputs), exact, strict=True):
        assert torch.equal(found, expected)
    changed = inputs[0] * 1
    out = fast(changed, *inputs[1:])
    changed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@every_case
def test_a_graph_of_gradients_has_the_dtypes_of_the_forward_pass(name):
    """Asked for under autocast, after a forward pass without: the same gradients as of a graph that is thrown away."""
    if not choice.has_onednn():
        pytest.skip("oneDNN is not in this build")
    fast, _, inputs = case(name, torch.float32)
    out = fast(*inputs).sin().sum()
    with torch.autocast("cpu", torch.bfloat16):
        once = torch.autograd.grad(out, inputs, retain_graph=True)
        kept = torch.autograd.grad(out, inputs, create_graph=True)
    for a, b in zip(kept, once, strict=True):
        assert error(a.detach().double(), b.double()) < 30 * torch.finfo(torch.float32).eps


@every_dtype
@pytest.mark.parametrize("name", [name for name in CASES if name != "linear, odd, narrowing"])
def test_examples_do_not_see_their_batch(name, dtype):
    fast, _, inputs = case(name, dtype)
    batch = len(inputs[0])
    others = [t.detach().clone() for t in inputs]
    alike = [t.shape[0] == batch and t.ndim > 1 and t.shape != (batch, batch) for t in inputs]
    alike = [a and not (name.startswith(("linear", "pointwise", "doubling")) and i) for i, a in enumerate(alike)]
    for t, each in zip(others, alike, strict=True):
        if each:
            t[1:] = torch.randn_like(t[1:].float()).to(dtype) * 3
    a, b = (fast(*given)[0] for given in (inputs, others))
    assert torch.equal(a, b)


@every_dtype
def test_a_mask_hides_and_nobody_to_look_at_gives_zero(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, n, 4, dtype=dtype, requires_grad=True) for n in (5, 7, 7))
    out = kernels.attention(q, k, v, SEEN)
    assert torch.equal(out[1], torch.zeros_like(out[1]))
    grads = torch.autograd.grad(out.float().square().sum(), (q, k, v))
    assert all(g.isfinite().all() for g in grads)
    assert all(torch.equal(g[1], torch.zeros_like(g[1])) for g in grads)
    assert all(torch.equal(g.mT[0][..., ~SEEN[0]], torch.zeros(2, 4, 2, dtype=dtype)) for g in grads[1:])
    few = kernels.attention(q[:1], k[:1, :, SEEN[0]], v[:1, :, SEEN[0]])
    torch.testing.assert_close(out[:1], few)


@pytest.mark.skipif(not ONEDNN_BF16, reason="this CPU has no bfloat16")
@every_case
def test_autocast_gives_the_dtypes_of_the_definition(name):
    """Results in the definition's dtype, gradients in that of the parameters."""
    (fast, plain, shapes), _ = CASES[name]
    torch.manual_seed(0)
    inputs = [torch.randn(s, requires_grad=True) for s in shapes]
    found = []
    for f in (fast, plain):
        with torch.autocast("cpu", torch.bfloat16):
            out = f(*inputs)
        found.append((out, *torch.autograd.grad(out.float().square().sum(), inputs)))
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        assert error(ours.double(), theirs.double()) < 0.03


@every_case
def test_definitions_elsewhere(name):
    """In float64, without data, while FLOPs are counted, and with oneDNN switched off."""
    (fast, _, shapes), _ = CASES[name]
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    everywhere = name.startswith("doubling")  # but while FLOPs are counted
    assert takes_ours(fast(*inputs)) == everywhere
    if "masked" not in name:
        assert fast(*(torch.empty(s, device="meta") for s in shapes)).device.type == "meta"
    narrow = [t.detach().float().requires_grad_() for t in inputs]
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        assert takes_ours(fast(*narrow)) == everywhere
    finally:
        torch._C._set_mkldnn_enabled(enabled)
    counts = []
    for way in (nullcontext(), kernels.plain()):
        with way, FlopCounterMode(display=False) as counter:
            out = fast(*narrow)
            assert not takes_ours(out)
            out.sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]


def test_all_can_be_compiled_in_one_graph():
    def all_of(x, weight, bias, scale):
        h = kernels.linear(x, weight, bias)
        h = kernels.layer_norm(h, scale, scale)
        h = kernels.attention(h[:, None], h[:, None], h[:, None])[:, 0]
        return kernels.group_norm(h.mT, 2, None, None, scale=scale, shift=scale, silu=True)

    given = [torch.randn(s, requires_grad=True) for s in ((2, 5, 6), (4, 6), (4,), (2, 4))]
    way = torch.compile(all_of, backend="eager", fullgraph=True)
    torch.testing.assert_close(way(*given), all_of(*given))
    with torch.autocast("cpu", torch.bfloat16):
        made, expected = way(*given), all_of(*given)
    assert made.dtype == expected.dtype
    assert error(made.double(), expected.double()) < 0.03


def test_compiled_products_are_products(monkeypatch):
    """In float32, values and gradients, where compiled code would call MKL; not inside `plain()`."""
    if not choice.has_onednn():
        pytest.skip("oneDNN is not in this build")
    monkeypatch.setattr(compiled, "WANTED", True)
    graphs = []

    def backend(graph, _):
        graphs.append(str(graph.graph))
        return graph

    given = [torch.randn(s, requires_grad=True) for s in ((3, 7, 6), (4, 6), (4,))]
    way = torch.compile(kernels.linear, backend=backend, fullgraph=True)
    with kernels.plain():
        way(*given)
    found = results(way, given)
    assert ["multiplied" in graph for graph in graphs] == [False, True]
    for ours, exact in zip(found, results(definitions.linear, [t.double() for t in given]), strict=True):
        assert error(ours, exact) < 2 * torch.finfo(torch.float32).eps
    torch.library.opcheck(compiled.multiplied, (given[0][0], given[1]))


def test_plain_code_stays_plain_when_it_is_compiled():
    graphs = []

    def backend(graph, _):
        graphs.append(str(graph.graph))
        return graph

    weight = torch.randn(4, 3, 3, 3)
    way = torch.compile(lambda h: kernels.convolved_up(h, weight, None, (2, 2)), backend=backend, fullgraph=True)
    h = torch.randn(2, 3, 4, 5)
    with kernels.plain():
        plain = way(h)
    torch.testing.assert_close(way(h), plain)
    assert ["transpose" in graph for graph in graphs] == [False, True]


def test_a_scale_in_float64_is_not_rounded():
    h, scale = torch.randn(2, 3, 8), torch.randn(2, 8, dtype=torch.float64)
    assert torch.equal(kernels.layer_norm(h, scale, scale), definitions.layer_norm(h, scale, scale))


def test_a_convolution_with_a_kernel_of_one_keeps_its_class_and_its_numbers():
    torch.manual_seed(0)
    for rank, cls in ((1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d)):
        layer = conv(rank, 6, 10, 1)
        assert isinstance(layer, cls)
        x = torch.randn(2, 6, *(3, 4, 5)[:rank])
        torch.testing.assert_close(layer(x), cls.forward(layer, x))
        assert type(conv(rank, 6, 10, 3)) is cls
        assert type(conv(rank, 6, 10, 1, stride=2)) is cls


def test_rules_are_of_the_machine_and_sizes(monkeypatch):
    """Small products, short sequences in float32 and endless ones stay with the definitions."""
    monkeypatch.undo()
    x, weight = torch.randn(4, 8), torch.randn(8, 8)
    assert not products.suits(torch.float32, x, weight)
    assert not products.suits(torch.float64, x.expand(2**20, 4, 8), weight)
    long = torch.empty(1, device="meta").expand(1, 1, 2**13, 4)
    assert not attending.suits(torch.bfloat16, long, long)
    assert not attending.suits_by_head(torch.float32, long, long)
    assert not attending.suits_by_head(torch.float32, x[None, None], x[None, None])
