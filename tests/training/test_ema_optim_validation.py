"""Averaged weights, learning rates and the held-out loss against their formulas."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from toys import DIT, begun, metrics, toy, trained

from reverie.data import Examples
from reverie.exact import FiniteData
from reverie.losses import Denoising, KnotTimes, LogitNormalTimes, LogNormalTimes, UniformTimes
from reverie.recipe import Train
from reverie.runs import load
from reverie.schedules import VE, Cosine, Flow
from reverie.spaces import Pixels, Standardized
from reverie.training import Trainer, log
from reverie.training.ema import ema_decay, ema_update
from reverie.training.optim import learning_rate, optimizer
from reverie.training.validation import LEVELS, MOST, validate

# ------------------------------------------------------------------------------------------ EMA


def test_the_decay_warms_up():
    assert [ema_decay(n, 0.9) for n in (0, 1, 2, 80, 81, 1000)] == [1 / 10, 2 / 11, 3 / 12, 81 / 90, 0.9, 0.9]
    assert ema_decay(5, 0.0) == 0.0


def test_the_average_is_the_weighted_sum_of_all_weights_so_far(tmp_path):
    """average_N = sum_n (1 - d_n) w_(n+1) prod_(k > n) d_k + w_0 prod_k d_k."""
    run, examples = begun(tmp_path / "run", *DIT, "train.lr=0.05", "train.ema=0.6")
    trainer = Trainer(run, examples)
    history = []
    for _ in trainer:
        history.append([p.detach().double().clone() for p in trainer.learner.denoiser.parameters()])
    decays = [min(0.6, (1 + n) / (10 + n)) for n in range(12)]
    weights = [math.prod(decays), *((1 - d) * math.prod(decays[n + 1 :]) for n, d in enumerate(decays))]
    assert sum(weights) == pytest.approx(1)
    names = [name for name, _ in trainer.learner.denoiser.net.named_parameters()]
    saved = load(run.path).denoiser.net.state_dict()
    for i, name in enumerate(names):
        closed = sum(w * h[i] for w, h in zip(weights, history, strict=True))
        assert float((saved[name] - closed).abs().max()) < 1e-6
    assert any(float((saved[name] - history[-1][i]).abs().max()) > 1e-3 for i, name in enumerate(names))


def test_buffers_are_copied():
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    b.running_mean.fill_(7)
    ema_update(a, b, 0.9)
    assert a.running_mean.tolist() == [7, 7, 7]


# ------------------------------------------------------------------------------- learning rate


@pytest.mark.parametrize(
    ("decay", "fall"),
    [
        ("none", lambda done: 1.0),
        ("linear", lambda done: 1 - done),
        ("cosine", lambda done: math.cos(math.pi * done / 2) ** 2),
    ],
)
def test_the_learning_rate(decay, fall):
    train = Train(lr=0.3, warmup=10, steps=100, decay=decay)
    for step in range(100):
        assert learning_rate(step, train) == pytest.approx(0.3 * min(1, (step + 1) / 10) * fall(step / 100), rel=1e-12)
    assert learning_rate(0, Train(lr=0.3, warmup=0)) == 0.3


def test_the_rate_logged_is_the_rate_used(tmp_path):
    lines = [line for line in metrics(trained("train.log_every=1", "train.decay=linear")) if "lr" in line]
    train = toy("train.decay=linear").train
    assert [line["lr"] for line in lines] == [learning_rate(s, train) for s in range(12)]
    assert [line["ema_decay"] for line in lines] == [ema_decay(s, train.ema) for s in range(12)]


def test_the_optimizer_is_adamw_as_published():
    """Loshchilov & Hutter (2019), algorithm 2, over three steps of a known gradient."""
    train = Train(lr=0.1, betas=(0.8, 0.95), weight_decay=0.2)
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    made = optimizer(layer, train)
    w, m, v = 1.0, 0.0, 0.0
    for t in range(1, 4):
        g = float(t)
        layer.weight.grad = torch.tensor([[g]])
        made.step()
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        w -= 0.1 * 0.2 * w + 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-8)
        assert float(layer.weight.detach()) == pytest.approx(w, rel=1e-5)


def test_the_gradient_is_clipped_to_its_norm(tmp_path):
    free, held = metrics(trained("train.log_every=1")), metrics(trained("train.log_every=1", "train.clip=1e-9"))
    assert held[1]["grad_norm"] == free[1]["grad_norm"] > 0.1  # what is logged is the norm before


# ---------------------------------------------------------------------------------- validation

ITEMS = np.random.default_rng(0).integers(0, 256, (10, 1, 2, 2), np.uint8)
EXAMPLES = Examples(ITEMS, image=True)
LOSSES = {
    "flow": (Flow(), Denoising("flow", LogitNormalTimes())),
    "ve": (VE(), Denoising("x0", LogNormalTimes())),
    "cosine": (Cosine(), Denoising("v", UniformTimes())),
    "chain": (Cosine(), Denoising("eps", KnotTimes(50))),
}


class Knowing:
    """Knows the only example there is, so its prediction is exact."""

    def __init__(self, schedule, x0, off=0.0):
        self.schedule, self.exact, self.off = schedule, FiniteData(schedule, x0.double()), off

    def __call__(self, x, t, cond=None):
        q = self.exact(x.double(), t, cond)
        return q.with_x0(q.x0 + self.off)


@pytest.mark.parametrize(("schedule", "loss"), LOSSES.values(), ids=LOSSES)
def test_an_exact_denoiser_has_no_loss_and_a_wrong_one_its_own(schedule, loss):
    one = Examples(ITEMS[:1], image=True)
    x0 = Pixels().encode(torch.from_numpy(ITEMS[:1]))
    rows = np.array([0])
    found = validate(Knowing(schedule, x0), loss, one, rows, Pixels(), 0, labels=False)
    assert found.loss < 1e-6
    if loss.notation == "x0":
        wrong = validate(Knowing(schedule, x0, off=0.5), loss, one, rows, Pixels(), 0, labels=False)
        assert wrong.loss == pytest.approx(0.25, rel=1e-5)
        assert wrong.by_level == pytest.approx([0.25] * LEVELS, rel=1e-5)


class Watched(Trainer):
    """Notes how many rows its averaged network sees at once."""

    def _set_up(self):
        super()._set_up()
        self.rows = set()
        self.learner.average.net.register_forward_pre_hook(lambda net, given: self.rows.add(len(given[0])))


def test_it_takes_no_more_rows_at_once_than_a_step_has_memory_for(tmp_path):
    """Or than sampling, where that is more: on a CPU 32 of 8x8 pixels."""
    for batch, most in ((8, 32), (50, 50)):
        trainer = Watched(*begun(tmp_path / str(batch), "train.steps=1", f"train.batch={batch}"))
        for _ in trainer:
            pass
        assert max(trainer.rows) == most < MOST


@pytest.mark.parametrize(("schedule", "loss"), LOSSES.values(), ids=LOSSES)
def test_it_is_the_same_number_twice_and_the_mean_of_its_levels(schedule, loss):
    f = FiniteData(schedule, Pixels().encode(torch.from_numpy(ITEMS[:3])).double())
    found = [validate(f, loss, EXAMPLES, np.arange(4, 10), Pixels(), 0, labels=False, batch=b) for b in (128, 128, 37)]
    assert found[0] == found[1]
    assert found[2].loss == pytest.approx(found[0].loss, rel=1e-6)
    assert found[0].loss == pytest.approx(sum(found[0].by_level) / LEVELS, rel=1e-12)
    assert found[0].bounds == tuple(sorted(found[0].bounds))
    assert len(found[0].bounds) == LEVELS + 1
    assert found[0] != validate(f, loss, EXAMPLES, np.arange(4, 10), Pixels(), 1, labels=False)


def test_levels_run_from_clean_to_noisy():
    """Predicting the mean of the data costs their variance at any level; predicting x, least where x is the data."""
    schedule, loss = Flow(), Denoising("x0", UniformTimes())

    class Echo:
        schedule = Flow()

        def __call__(self, x, t, cond=None):
            from reverie.prediction import Prediction

            return Prediction.from_x0(x, x, self.schedule.at(t, like=x))

    data = np.random.default_rng(0).standard_normal((50, 200)).astype(np.float32)
    examples = Examples(data)
    found = validate(Echo(), loss, examples, np.arange(50), Standardized((0.0,) * 200, (1.0,) * 200), 0, labels=False)
    edges = torch.linspace(0, 1, LEVELS + 1, dtype=torch.float64)
    # |x - x0|^2 = t^2 |eps - x0|^2, and E over a level of t^2 is the mean of a square
    exact = [2 * float(b**3 - a**3) / 3 / float(b - a) for a, b in itertools.pairwise(edges)]
    assert found.by_level == pytest.approx(exact, rel=0.05)
    assert found.bounds == pytest.approx(edges.tolist(), abs=1e-4)
    assert schedule == Flow()


def test_the_whole_set_is_used_and_labels_are_passed_on():
    seen, labels = [], np.arange(10) % 2

    class Watching(Knowing):
        def __call__(self, x, t, cond=None):
            seen.append(cond)
            return super().__call__(x, t)

    examples = Examples(ITEMS, labels, ("a", "b"), image=True)
    f = Watching(Flow(), Pixels().encode(torch.from_numpy(ITEMS)))
    validate(f, LOSSES["flow"][1], examples, np.arange(10), Pixels(), 0, labels=True)
    assert all(c.drop is None for c in seen)
    counts = torch.bincount(torch.cat([c.label for c in seen]))
    assert counts.sum() >= 1000
    assert abs(int(counts[0]) - int(counts[1])) <= 2


# ----------------------------------------------------------------------------------------- log


def test_numbers_that_are_not_finite_become_null(tmp_path):
    path = tmp_path / "m.jsonl"
    log.append(path, {"step": 1, "loss": math.nan, "by_level": [1.5, math.inf], "t": {"a": -math.inf}})
    assert "NaN" not in path.read_text()
    assert log.lines(path) == [{"step": 1, "loss": None, "by_level": [1.5, None], "t": {"a": None}}]


def test_rewinding_drops_what_a_resumed_run_writes_again(tmp_path):
    path = tmp_path / "m.jsonl"
    for step in range(5):
        log.append(path, {"step": step, "x": 0.1 + step})
    with path.open("a") as file:
        file.write('{"step": 5, "x"')
    log.rewind(path, 2)
    assert log.lines(path) == [{"step": s, "x": 0.1 + s} for s in (0, 1, 2)]
