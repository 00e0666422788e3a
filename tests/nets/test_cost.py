"""Operations against a count of every layer's products; memory against what autograd and the allocator really hold."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from reverie.conditioning import Conditions
from reverie.nets import DiTConfig, MLPConfig, UNetConfig, kernels
from reverie.nets.cost import cost, given

NETS = {
    "mlp": (MLPConfig(width=32, depth=2), (5,)),
    "unet": (UNetConfig(width=16, multipliers=(1, 2), blocks=1, attention=8, head_width=8), (3, 16, 15)),
    "unet in 1-d": (UNetConfig(width=16, multipliers=(1, 2), blocks=1, attention=8, head_width=8), (2, 37)),
    "dit": (DiTConfig(width=32, depth=3, heads=4), (3, 16, 12)),
}
TOLD = Conditions(classes=4)


@pytest.fixture(params=NETS)
def net(request):
    return NETS[request.param]


def products(net, batch, monkeypatch):
    """2 x outputs x inputs of each for every layer, the other way round where transposed; 4 L L' E of attention."""
    total = 0

    def layer(module, inputs, output):
        nonlocal total
        total += 2 * output.numel() * module.weight[0].numel()

    def attention(q, k, v, mask=None):
        nonlocal total
        total += 4 * q.numel() * k.shape[-2]
        return kept(q, k, v, mask)

    def doubled(h, weight, bias, factors):
        nonlocal total
        total += 2 * h.numel() * math.prod(factors) * weight[:, 0].numel()
        return convolved_up(h, weight, bias, factors)

    kept, convolved_up = kernels.attention, kernels.convolved_up
    monkeypatch.setattr(kernels, "attention", attention)
    monkeypatch.setattr(kernels, "convolved_up", doubled)
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            module.register_forward_hook(layer)
    with torch.no_grad():
        net(*given(net, batch))
    return total


def test_operations_are_those_of_every_product(net, monkeypatch):
    config, shape = net
    assert cost(config, shape, TOLD).flops == products(config.build(shape, TOLD), 1, monkeypatch)


def test_tokens_count(monkeypatch):
    config, shape = NETS["mlp"]
    told = Conditions(tokens=6)
    for tokens in (3, 20):
        built = config.build(shape, told)
        with torch.no_grad(), FlopCounterMode(display=False) as counted:
            built(*given(built, 1, tokens))
        assert cost(config, shape, told, tokens=tokens).flops == counted.get_total_flops()
    assert cost(config, shape, told, tokens=20).flops > cost(config, shape, told, tokens=3).flops


def test_a_step_takes_three_times_as_many(net):
    """But for the input of the network, which needs no gradient; on meta, where attention is spelt out and counted."""
    config, shape = net
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        built = config.build(shape, TOLD)
        built(*given(built, 4)).sum().backward()
    assert counted.get_total_flops() == pytest.approx(3 * 4 * cost(config, shape, TOLD).flops, rel=0.1)


def test_parameters_and_weights(net):
    config, shape = net
    built, found = config.build(shape, TOLD), cost(config, shape, TOLD)
    assert found.parameters == sum(p.numel() for p in built.parameters())
    assert found.weights == sum(t.nbytes for t in (*built.parameters(), *built.buffers()))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_what_is_kept_is_what_autograd_keeps(net, precision):
    """All storages that are saved, once each, found by their addresses in a real run."""
    config, shape = net
    built, batch, seen = config.build(shape, TOLD), 6, {}
    own = {t.untyped_storage().data_ptr() for t in (*built.parameters(), *built.buffers())}

    def pack(saved):
        seen[saved.untyped_storage().data_ptr()] = saved
        return saved

    arguments = given(built, batch)
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with half, torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        out = built(*arguments)
    kept = sum(saved.untyped_storage().nbytes() for where, saved in seen.items() if where not in own)
    found = cost(config, shape, TOLD, precision=precision)
    assert out.grad_fn is not None
    assert batch * found.kept + found.shared == pytest.approx(kept, rel=0.02)


def peak(config, shape, batch, checkpointing):
    """The most bytes of tensors that two steps of training hold."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        net = config.build(shape, TOLD)
        net.checkpointing = checkpointing
        average, adam = copy.deepcopy(net), torch.optim.AdamW(net.parameters())
        for _ in range(2):
            x, label, cond = given(net, batch)
            net(x, label, cond).sub(1).square().mean().backward()
            adam.step()
            adam.zero_grad()
    assert not average.checkpointing or checkpointing
    held = most = 0
    for event in told.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (UNetConfig(width=16, multipliers=(1, 2), blocks=1, attention=8), (3, 16, 16)),
        (DiTConfig(width=64, depth=4, heads=4), (3, 16, 16)),
    ],
)
def test_the_estimate_is_near_the_peak(config, shape, checkpointing):
    estimate = cost(config, shape, TOLD).training(32, 1, checkpointing)
    assert estimate == pytest.approx(peak(config, shape, 32, checkpointing), rel=0.3)


def test_checkpointing_and_half_precision_need_less():
    config, shape = UNetConfig(width=32, blocks=2), (3, 32, 32)
    full, half = cost(config, shape), cost(config, shape, precision="bf16")
    assert full.training(32, checkpointing=True) < 0.6 * full.training(32)
    assert half.training(32) < 0.75 * full.training(32)
    assert half.flops == full.flops


def test_a_device_that_is_not_there_is_counted_as_float32_on_meta():
    config, shape = NETS["mlp"]
    elsewhere = cost(config, shape, device="xpu", precision="bf16")
    assert elsewhere.kept == pytest.approx(cost(config, shape).kept, rel=0.3)


def test_nothing_is_drawn_from_the_global_generator(net):
    before = torch.get_rng_state()
    cost(*net)
    assert torch.equal(before, torch.get_rng_state())
