"""What every backbone promises, whatever its kind."""

import pytest
import torch
from torch.func import jvp

from reverie.conditioning import Cond
from reverie.config import from_data, registered, to_data
from reverie.nets import DiTConfig, MLPConfig, NetConfig, UNetConfig

SMALL = {
    "unet": UNetConfig(width=8, multipliers=(1, 2), blocks=1, attention=4, head_width=8),
    "dit": DiTConfig(width=16, depth=2, heads=2),
    "mlp": MLPConfig(width=32, depth=2),
}
KINDS = [SMALL.get(kind) or cls() for kind, cls in registered(NetConfig).items()]
SHAPE = (2, 7, 5)
CLASSES = 3
every_kind = pytest.mark.parametrize("config", KINDS, ids=lambda c: c.kind)


IN_OUT = [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)]
"""How many tensors like an example come in and go out."""
every_width = pytest.mark.parametrize(("inputs", "outputs"), IN_OUT)


def stirred(config, shape=SHAPE, classes=CLASSES, dtype=torch.float64, inputs=1, outputs=1):
    """A network in eval mode none of whose parameters is 0 any more."""
    torch.manual_seed(0)
    net = config.build(shape, classes, inputs, outputs).to(dtype).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


def batch(size=4, shape=SHAPE, dtype=torch.float64, inputs=1):
    torch.manual_seed(1)
    x = torch.randn(size, inputs * shape[0], *shape[1:], dtype=dtype)
    return x, torch.linspace(3, 900, size), torch.arange(size) % CLASSES


@every_kind
@every_width
def test_starts_at_exactly_zero(config, inputs, outputs):
    torch.manual_seed(0)
    x, label, y = batch(dtype=torch.float32, inputs=inputs)
    out = config.build(SHAPE, CLASSES, inputs, outputs)(x, label, Cond(label=y))
    assert torch.equal(out, torch.zeros(4, outputs * SHAPE[0], *SHAPE[1:]))


@every_kind
def test_one_batch_is_learnt_by_heart(config):
    """Targets, random, depend on the example, the time and the class; the loss falls at least 20 times."""
    torch.manual_seed(0)
    net = config.build(SHAPE, CLASSES)
    x, label, y = batch(6, dtype=torch.float32)
    x[3:], target = x[:3], torch.randn_like(x)  # pairs that only time and class tell apart
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(250):
        loss = (net(x, label, Cond(label=y)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20


@every_kind
def test_several_tensors_in_and_out_are_learnt_by_heart(config):
    """Each of the targets depends on one of the inputs alone, the first on the second and the other way round."""
    torch.manual_seed(0)
    net = config.build(SHAPE, CLASSES, 2, 2)
    x, label, y = batch(6, dtype=torch.float32, inputs=2)
    x[3:, :2] = x[:3, :2]  # pairs with the same first input, told apart by the second
    first, second = torch.randn(3, 2, 7, 5).repeat(2, 1, 1, 1), torch.randn(6, 2, 7, 5)
    target, label = torch.cat([second, first], 1), torch.full((6,), 10.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(250):
        loss = (net(x, label, Cond(label=y[:1].expand(6))) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20


@every_kind
def test_every_input_reaches_every_output(config):
    net, (x, label, y) = stirred(config, inputs=3, outputs=2), batch(inputs=3)
    out = net(x, label, Cond(label=y))
    for i in range(3):
        other = x.clone()
        other[:, 2 * i : 2 * i + 2] += 0.5
        change = (net(other, label, Cond(label=y)) - out).abs().flatten(2).amax(2)  # (B, outputs C)
        assert change.min() > 1e-4


@every_kind
def test_one_in_and_one_out_is_what_is_built_unless_told(config):
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (
        config.build(SHAPE, CLASSES), config.build(SHAPE, CLASSES, 1, 1), config.build(SHAPE, CLASSES, 2, 2),
    )]  # fmt: skip
    assert shapes[0] == shapes[1]
    # the first and the last layer alone are wider
    assert 1 <= sum(shapes[2][k] != shapes[0][k] for k in shapes[0]) <= 3
    assert shapes[2].keys() == shapes[0].keys()


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (2, 2)])
def test_an_example_does_not_see_its_batch(config, dtype, inputs, outputs):
    net = stirred(config, dtype=dtype, inputs=inputs, outputs=outputs)
    x, label, y = batch(5, dtype=dtype, inputs=inputs)
    together = net(x, label, Cond(label=y))
    alone = torch.cat([net(x[i : i + 1], label[i : i + 1], Cond(label=y[i : i + 1])) for i in range(5)])
    assert together.dtype == dtype
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-4)


@every_kind
def test_time_and_class_reach_the_output(config):
    net, (x, label, y) = stirred(config), batch()
    out = net(x, label, Cond(label=y))
    for other in (
        net(x, label + 1, Cond(label=y)),
        net(x, label, Cond(label=(y + 1) % CLASSES)),
        net(x, label, None),
    ):
        assert (out - other).flatten(1).abs().amax(1).min() > 1e-3  # in every example


@every_kind
def test_drop_is_no_label(config):
    net, (x, label, y) = stirred(config), batch()
    out, none = net(x, label, Cond(label=y)), net(x, label, None)
    drop = torch.tensor([True, False, True, False])
    expected = torch.where(drop[:, None, None, None], none, out)
    assert torch.equal(net(x, label, Cond(label=y, drop=drop)), expected)
    assert torch.equal(net(x, label, Cond(label=y).null(4)), none)
    assert torch.equal(net(x, label, Cond(drop=drop)), none)
    assert torch.equal(net(x, label), none)


@every_kind
def test_without_classes_labels_are_not_read(config):
    net, (x, label, y) = stirred(config, classes=0), batch()
    assert torch.equal(net(x, label, Cond(label=y + 100)), net(x, label, None))


@every_kind
@every_width
def test_gradients_reach_every_parameter(config, inputs, outputs):
    net, (x, label, y) = stirred(config, inputs=inputs, outputs=outputs), batch(inputs=inputs)
    drop = torch.tensor([False, False, False, True])
    net(x, label, Cond(label=y, drop=drop)).square().sum().backward()
    lost = [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-8]
    assert not lost


@every_kind
def test_forward_derivative_is_the_difference_quotient(config):
    """In x and in the time label; what consistency training differentiates through."""
    net, (x, label, y) = stirred(config), batch()
    label, cond, h = label.double() / 200, Cond(label=y), 1e-5
    dx, dlabel = torch.randn_like(x), torch.randn_like(label)
    kept = x.clone(), label.clone()
    out, tangent = jvp(lambda x, label: net(x, label, cond), (x, label), (dx, dlabel))
    ahead, behind = (net(x + s * dx, label + s * dlabel, cond) for s in (h, -h))
    torch.testing.assert_close(out, net(x, label, cond), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-6)
    assert torch.equal(x, kept[0])
    assert torch.equal(label, kept[1])


@every_kind
def test_bfloat16_autocast_stays_near(config):
    net, (x, label, y) = stirred(config, dtype=torch.float32), batch(dtype=torch.float32)
    exact = net(x, label, Cond(label=y))
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x, label, Cond(label=y))
    assert rough.dtype == x.dtype
    assert 0 < (rough - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()


@every_kind
def test_initialisation_is_the_callers_seed(config):
    nets = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        nets.append(config.build(SHAPE, CLASSES).state_dict())
    assert all(torch.equal(nets[0][k], nets[1][k]) for k in nets[0])
    assert any(not torch.equal(nets[0][k], nets[2][k]) for k in nets[0])


@every_kind
def test_settings_survive_a_file(config):
    assert from_data(NetConfig, to_data(config), "net") == config


@pytest.mark.parametrize("config", [SMALL["unet"], SMALL["dit"]], ids=lambda c: c.kind)
@pytest.mark.parametrize("shape", [(5,), (3, 8), (1, 2, 8, 8)])
def test_an_image_net_refuses_other_shapes_and_names_who_does_not(config, shape):
    with pytest.raises(ValueError, match=r"kinds that fit: mlp$"):
        config.build(shape)


@pytest.mark.parametrize("config", SMALL.values(), ids=lambda c: c.kind)
def test_an_example_without_an_axis_fits_none(config):
    with pytest.raises(ValueError, match=r"kinds that fit: none$"):
        config.build(())


@pytest.mark.parametrize("shape", [(5,), (3, 8), (1, 2, 4, 4), (2, 3, 3), (1,)])
def test_mlp_takes_any_shape(shape):
    net = stirred(SMALL["mlp"], shape)
    x, label, y = batch(shape=shape)
    assert net(x, label, Cond(label=y)).shape == x.shape


@pytest.mark.parametrize(
    ("cls", "settings", "said"),
    [
        (UNetConfig, {"width": 0}, "width"),
        (UNetConfig, {"multipliers": ()}, "multipliers"),
        (UNetConfig, {"multipliers": (1, 0)}, "multipliers"),
        (UNetConfig, {"dropout": 1.0}, "dropout"),
        (UNetConfig, {"attention": -1}, "attention"),
        (DiTConfig, {"patch": 0}, "patch"),
        (DiTConfig, {"width": 30, "heads": 5}, "multiple of 4"),
        (DiTConfig, {"width": 128, "heads": 5}, "heads=5"),
        (MLPConfig, {"depth": 0}, "depth"),
        (MLPConfig, {"width": 33}, "even"),
    ],
)
def test_settings_that_no_network_has_are_refused(cls, settings, said):
    with pytest.raises(ValueError, match=said):
        cls(**settings)


def test_dropout_acts_in_training_only():
    for config in (
        UNetConfig(width=8, multipliers=(1,), blocks=1, dropout=0.5),
        DiTConfig(width=16, depth=1, dropout=0.5),
    ):
        net, (x, label, _) = stirred(config), batch()
        assert torch.equal(net(x, label), net(x, label))
        net.train()
        assert not torch.equal(net(x, label), net(x, label))
