"""Muon: what its direction is, which weights take it, and that a run with it is resumed like any other."""

import pytest
import torch
from helpers import DOUBLE, seeded
from torch import nn
from toys import DIT, UNET, Ahead, interrupted, outcome, trained

from reverie.recipe import Train
from reverie.training.muon import orthogonal
from reverie.training.optim import optimizer, settle
from reverie.training.state import optimizer_tensors, restore_optimizer

MUON = ("train.optimizer=muon", "train.lr=1e-2")


def matrix(m, n, seed=0, dtype=DOUBLE):
    return torch.randn(m, n, generator=seeded(seed), dtype=dtype)


def rotation(n, seed):
    return torch.linalg.qr(matrix(n, n, seed))[0]


# -------------------------------------------------------------------------------- the direction


@pytest.mark.parametrize("shape", [(16, 16), (16, 60), (60, 16)], ids=str)
def test_singular_values_come_near_one_and_directions_stay(shape):
    """Five steps lift all above a thousandth of the norm to between 0.6 and 1.3 (Jordan et al., 2024)."""
    u, v = rotation(shape[0], 1)[:, :16], rotation(shape[1], 2)[:, :16]
    values = torch.logspace(-2.4, 0, 16, dtype=DOUBLE)
    found = u.T @ orthogonal((u * values @ v.T)[None])[0] @ v
    assert found.diag().min() > 0.6
    assert found.diag().max() < 1.3
    torch.testing.assert_close(found, found.diag().diag(), rtol=0, atol=1e-12)


def test_it_turns_with_its_matrix_and_forgets_the_length():
    """U G V becomes U f(G) V for orthogonal U and V, and c G what G becomes."""
    g, u, v = matrix(20, 30), rotation(20, 1), rotation(30, 2)
    found = orthogonal(torch.stack([g, u @ g @ v, 1e3 * g]))
    torch.testing.assert_close(found[1], u @ found[0] @ v, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=1e-7)
    assert torch.equal(orthogonal(torch.zeros(1, 20, 30)), torch.zeros(1, 20, 30))


# -------------------------------------------------------------------------------------- the step


def test_steps_of_a_matrix_are_those_of_torch():
    """`torch.optim.Muon` multiplies in bf16, so each step is a little off in its length and direction."""
    train = Train(optimizer="muon", lr=0.02, weight_decay=0.1)
    ours, theirs = (nn.Linear(40, 24, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    pair = (
        optimizer(ours, train),
        torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for n in range(5):
        for layer, made in zip((ours, theirs), pair, strict=True):
            before = layer.weight.detach().clone()
            layer.weight.grad = matrix(24, 40, n, torch.float32)
            made.step()
            moved = layer.weight.detach() - 0.998 * before
        rms = moved.square().mean().sqrt()
        assert 0.15 * 0.02 < rms < 0.25 * 0.02
    difference = ours.weight - theirs.weight
    assert difference.square().mean().sqrt() < 0.03 * 5 * rms


def test_a_convolution_is_the_matrix_of_its_outputs():
    train = Train(optimizer="muon", lr=0.1)
    conv = nn.Conv2d(16, 20, 3, bias=False).to(memory_format=torch.channels_last)
    line = nn.Linear(144, 20, bias=False)
    line.weight.data = conv.weight.detach().reshape(20, 144).clone()
    for n in range(3):
        for layer in (conv, line):
            layer.weight.grad = matrix(20, 144, n, torch.float32).reshape(layer.weight.shape)
            optimizer(layer, train).step()
    torch.testing.assert_close(conv.weight.reshape(20, 144), line.weight, rtol=0, atol=1e-6)


def test_what_is_no_hidden_matrix_is_adamws():
    train = Train(optimizer="muon", lr=0.1, weight_decay=0.3)
    net = nn.ModuleDict(
        {
            "reads": nn.Linear(3, 32),
            "table": nn.Embedding(40, 32),
            "hidden": nn.Linear(32, 32),
            "norm": nn.LayerNorm(32),
        }
    )
    taken = [group["params"] for group in optimizer(net, train).param_groups if group["orthogonal"]]
    assert [[id(p) for p in group] for group in taken] == [[id(net["hidden"].weight)]]
    start, ends = {k: v.clone() for k, v in net.state_dict().items()}, []
    for chosen in ("muon", "adamw"):
        net.load_state_dict(start)
        made = optimizer(net, Train(optimizer=chosen, lr=0.1, weight_decay=0.3))
        for n in range(3):
            for i, p in enumerate(net.parameters()):
                p.grad = torch.randn(p.shape, generator=seeded(100 * n + i))
            made.step()
        ends.append({k: v.clone() for k, v in net.state_dict().items()})
    same = {k for k in start if torch.equal(ends[0][k], ends[1][k])}
    assert same == start.keys() - {"hidden.weight"}


def test_parameters_without_a_gradient_stay():
    pair = nn.ModuleList([nn.Linear(16, 16, bias=False) for _ in range(2)])
    before = [p.detach().clone() for p in pair.parameters()]
    pair[0].weight.grad = torch.ones(16, 16)
    optimizer(pair, Train(optimizer="muon", weight_decay=0.5)).step()
    assert not torch.equal(pair[0].weight, before[0])
    assert torch.equal(pair[1].weight, before[1])


# --------------------------------------------------------------------------------------- the run


def test_its_state_goes_through_a_file():
    train = Train(optimizer="muon", lr=0.1)
    nets = [nn.Conv2d(16, 16, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    made = [optimizer(net, train) for net in nets]
    for n in range(4):
        if n == 2:
            saved = {k: v.contiguous().clone() for k, v in optimizer_tensors(nets[1], made[1]).items()}
            assert {"weight/momentum", "bias/exp_avg", "bias/exp_avg_sq", "bias/step"} == saved.keys()
            made[1] = optimizer(nets[1], train)
            restore_optimizer(nets[1], made[1], saved)
            settle(made[1])
        for net, opt in zip(nets, made, strict=True):
            for i, p in enumerate(net.parameters()):
                p.grad = torch.randn(p.shape, generator=seeded(10 * n + i)).contiguous(
                    memory_format=torch.channels_last if p.ndim == 4 else torch.contiguous_format
                )
            opt.step()
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))


@pytest.mark.parametrize("net", [DIT, (*UNET, "net.width=16")], ids=["dit", "unet"])
def test_a_run_that_is_stopped_ends_as_if_it_had_not_been(net, tmp_path):
    """And one whose host reads a step late, as on a GPU."""
    expected = outcome(trained(*net, *MUON))
    assert outcome(interrupted(tmp_path / "stopped", 5, *net, *MUON)) == expected
    assert outcome(interrupted(tmp_path / "late", 5, *net, *MUON, trainer=Ahead)) == expected
    assert outcome(trained(*net, "train.lr=1e-2")) != expected


def test_a_step_to_be_skipped_changes_nothing():
    """`found_inf` is what a scaler of fp16 sets, and a loss that is not finite on a GPU."""
    net = nn.Linear(16, 16)
    made = optimizer(net, Train(optimizer="muon", lr=0.1, weight_decay=0.3))
    ends = []
    for n, bad in enumerate((False, True, False)):
        for p in net.parameters():
            p.grad = torch.full_like(p, torch.nan) if bad else torch.randn(p.shape, generator=seeded(n))
        made.found_inf = torch.tensor(float(bad))
        made.step()
        ends.append([t.clone() for t in (*net.parameters(), made.state[net.weight]["momentum"])])
    assert all(torch.equal(a, b) for a, b in zip(ends[0], ends[1], strict=True))
    assert all(not torch.equal(a, b) and b.isfinite().all() for a, b in zip(ends[1], ends[2], strict=True))


def test_the_fall_of_a_quadratic_does_not_depend_on_its_curvatures():
    """|W - T|^2 weighed by 1 to 1e-4 along rotated axes: every direction falls alike, AdamW's slowest do not."""
    u, target = rotation(32, 1), matrix(32, 32, 2)
    weigh = u * torch.logspace(-4, 0, 32, dtype=DOUBLE) @ u.T
    left = {}
    for chosen in ("muon", "adamw"):
        net = nn.Linear(32, 32, bias=False, dtype=DOUBLE)
        nn.init.zeros_(net.weight)
        made = optimizer(net, Train(optimizer=chosen, lr=1.0))
        for step in range(300):
            made.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
            made.zero_grad()
            (weigh @ (net.weight - target)).square().sum().backward()
            made.step()
        left[chosen] = float((weigh @ (net.weight - target)).square().sum().detach())
    assert left["muon"] < 0.1 * left["adamw"], left
