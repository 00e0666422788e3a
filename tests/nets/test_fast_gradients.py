"""Gradients of whole networks by the fast ways are as near to float64 as those of the definitions."""

from contextlib import nullcontext
from copy import deepcopy
from functools import cache

import pytest
import torch
from helpers import DOUBLE, randn, stirred

from reverie.nets import DiTConfig, MLPConfig, UNetConfig, WaveNetConfig
from reverie.nets.kernels import attending, choice, plain, products

ONEDNN_BF16 = choice.has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
without_onednn = pytest.mark.skipif(not choice.has_onednn(), reason="oneDNN is not in this build")
without_bf16 = pytest.mark.skipif(not ONEDNN_BF16, reason="this CPU has no bfloat16")

UNET = {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": 32, "head_width": 16}
NETS = {
    "unet": (UNetConfig(**UNET), (2, 3, 32, 32)),
    "edm2": (UNetConfig(**UNET, magnitude=True), (2, 3, 32, 32)),
    "dit": (DiTConfig(width=128, depth=2), (2, 3, 64, 32)),
    "mlp": (MLPConfig(depth=2), (64, 12)),
    "wavenet": (WaveNetConfig(width=32, depth=4, embedding=32), (2, 1, 2048)),
}
"""Settings and (B, C, ...): sizes from which on the fast ways are taken."""
WAYS = {
    ("unet", "float32"): {"Linear", "AttentionByHead", "GroupNorm", "doubling"},
    ("unet", "bf16"): {"Linear", "Pointwise", "Attention", "GroupNorm", "doubling"},
    ("edm2", "float32"): {"Linear", "AttentionByHead", "doubling"},
    ("edm2", "bf16"): {"Linear", "Attention", "doubling"},
    ("dit", "float32"): {"Linear", "AttentionByHead", "LayerNorm"},
    ("dit", "bf16"): {"Linear", "Attention", "LayerNorm"},
    ("mlp", "float32"): {"Linear"},
    ("mlp", "bf16"): {"Linear"},
    ("wavenet", "bf16"): {"Pointwise"},
}
MARKS = {"float32": without_onednn, "bf16": without_bf16}
MORE = {"float32": 1e-6, "bf16": 0.01}
"""What an error may have beside twice that of the definitions."""
LIMITS = {"float32": 4e-6, "bf16": 0.06}
"""What no error exceeds; the largest are a third of it."""
every_way = pytest.mark.parametrize(
    ("name", "precision"), [pytest.param(*key, marks=MARKS[key[1]], id=" ".join(key)) for key in WAYS]
)


@pytest.fixture(autouse=True)
def _every_machine(monkeypatch):
    """The fast ways are taken by processors that are as fast without them, too."""
    for module in (products, attending):
        monkeypatch.setattr(module, "mkl_is_slow", lambda: True)
        monkeypatch.setattr(module, "bf16_is_native", lambda: True)


@cache
def reference(name):
    """A network in float32, its inputs and a target, and the gradients of each parameter in float64."""
    config, (batch, *shape) = NETS[name]
    torch.manual_seed(0)
    net = stirred(config.build(tuple(shape))).float()
    for p in net.parameters():
        if p.ndim == 0:  # gains, which had a gradient beside which no other counts
            torch.nn.init.ones_(p)
    x, target = (randn(batch, *shape, seed=i).float() for i in range(2))
    given = x, torch.linspace(10, 900, batch), target
    with plain():
        return net, given, gradients(deepcopy(net).double(), *given)[0]


def gradients(net, x, label, target, precision="float32"):
    """Of the mean squared error, in float64, and the fast ways that were taken."""
    dtype = next(net.parameters()).dtype
    with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
        out = net(x.to(dtype), label)
    loss = (out - target.to(dtype)).square().mean()
    grads = torch.autograd.grad(loss, list(net.parameters()))
    return [g.to(DOUBLE) for g in grads], ways(loss)


def ways(loss):
    """The names of our functions in a graph; a transposed convolution is a doubling."""
    left, seen = [loss.grad_fn], set()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [before for before, _ in node.next_functions]
    ours = {node for node in seen if isinstance(node, torch.autograd.function.BackwardCFunction)}
    doubled = {"doubling" for node in seen if getattr(node, "_saved_transposed", False)}
    return {type(node).__name__.removesuffix("Backward") for node in ours} | doubled


@cache
def errors(name, precision):
    """Of the fast and the plain way, relative, over all parameters and for each that counts; and the ways taken.

    The gradient of a parameter counts if it is more than a number, whose terms may happen to cancel, and not tiny.
    """
    net, given, exact = reference(name)
    fast, taken = gradients(net, *given, precision)
    with plain():
        slow, none = gradients(net, *given, precision)
    sizes = torch.stack([g.norm() for g in exact])
    off = torch.stack([torch.stack([(a - b).norm() for a, b in zip(g, exact, strict=True)]) for g in (fast, slow)])
    kept = (sizes > 1e-3 * sizes.square().mean().sqrt()) & torch.tensor([g.numel() > 1 for g in exact])
    return off.norm(dim=1) / sizes.norm(), (off / sizes)[:, kept], taken, none


@every_way
def test_fast_ways_are_taken_unless_plain(name, precision):
    *_, taken, none = errors(name, precision)
    assert taken == WAYS[name, precision]
    assert none == set()


@every_way
def test_errors_are_those_of_the_definitions(name, precision):
    """Over all parameters together, and for each alone."""
    (fast, slow), (each, each_slow), *_ = errors(name, precision)
    print(f"{name} {precision}: {fast:.2g} fast, {slow:.2g} plain; largest {each.max():.2g}, {each_slow.max():.2g}")
    for ours, theirs in ((fast[None], slow[None]), (each, each_slow)):
        assert (ours <= 2 * theirs + MORE[precision]).all()
        assert ours.max() < LIMITS[precision]
