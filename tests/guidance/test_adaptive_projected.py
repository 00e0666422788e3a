import pytest
import torch
from guided import COND, DROP, LABEL, TIMES, X
from helpers import close, every_schedule, labelled

from reverie.conditioning import Cond
from reverie.denoiser import Clipped, FixedRows, Remembering, Rescheduled
from reverie.guidance import AdaptiveProjected, AutoGuided, ClassifierFree
from reverie.schedules import Flow, LinearVP
from reverie.tensors import host

T = host(0.4)


def spelled_out(given, free, scale, eta, norm, before, beta):
    """Sadat et al. (2024), algorithm 1, an example at a time; also the momentum."""
    out, kept = [], []
    for i in range(len(given)):
        d = given[i] - free[i] + (0 if before is None else beta * before[i])
        kept.append(d)
        if norm > 0:
            d = d * min(1.0, norm / float(d.norm()))
        unit = given[i] / given[i].norm()
        along = (d @ unit) * unit
        out.append(given[i] + (scale - 1) * (d - along + eta * along))
    return torch.stack(out), torch.stack(kept)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_with_the_parallel_part_it_is_classifier_free_guidance(schedule):
    f = labelled(schedule)
    for t in (TIMES, *TIMES):
        q, p = AdaptiveProjected(f, 3.0, eta=1.0)(X, t, COND), ClassifierFree(f, 3.0)(X, t, COND)
        assert close(q.x0, p.x0, 1e-11)
        assert close(q.eps, p.eps, 1e-10)
        assert torch.equal(AdaptiveProjected(f, 1.0)(X, t, COND).x0, f(X, t, COND).x0)
    for cond in (None, Cond(), Cond(drop=DROP)):
        assert torch.equal(AdaptiveProjected(f, 3.0)(X, T, cond).x0, f(X, T).x0)


@pytest.mark.parametrize(
    ("eta", "norm", "beta"), [(0, 0, 0), (0.3, 0.05, 0), (0, 0.4, -0.75), (1, 0, 0.5), (2, 1, 0.5)]
)
def test_three_calls_of_the_papers_algorithm(eta, norm, beta):
    f, before = labelled(LinearVP()), None
    g = AdaptiveProjected(f, 4.0, eta=eta, norm=norm, momentum=beta)
    for t in (TIMES[3], TIMES[2], TIMES.flip(0)):
        given = f(X, t, COND)
        wanted, before = spelled_out(given.x0, f(X, t).x0, 4.0, eta, norm, before, beta)
        q = g(X, t, COND)
        assert close(q.x0, wanted, 1e-11)
        assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, X, 1e-11)
    if eta == 0:  # nothing along x0 but x0 itself
        assert close(((q.x0 - given.x0) * given.x0).sum(1), torch.zeros(4), 1e-11)


def test_a_difference_of_none_and_an_x0_of_none():
    class Zero:
        schedule = LinearVP()

        def __call__(self, x, t, cond=None):
            return labelled(self.schedule)(x, t).with_x0(torch.zeros_like(x))

    q = AdaptiveProjected(Zero(), 3.0, norm=1.0, momentum=-0.5)(X, T, COND)
    assert bool(q.x0.eq(0).all())


def test_where_to_guide_and_what_away_from():
    f = labelled(LinearVP())
    g = AdaptiveProjected(f, 3.0, interval=(0.0, float(f.schedule.sigma(T) / f.schedule.alpha(T))))
    q, on = g(X, TIMES, COND), AdaptiveProjected(f, 3.0)(X, TIMES, COND)
    assert torch.equal(q.x0, torch.where((TIMES <= T)[:, None], on.x0, f(X, TIMES, COND).x0))
    q = AdaptiveProjected(f, 3.0, negative=Cond(label=torch.tensor([1])))(X, T, COND)
    wanted, _ = spelled_out(f(X, T, COND).x0, f(X, T, Cond(label=torch.ones(4).long())).x0, 3.0, 0, 0, None, 0)
    assert close(q.x0[DROP], wanted[DROP], 1e-11)
    q = AdaptiveProjected(f, 3.0)(X, T, Cond(label=LABEL, drop=DROP))
    assert torch.equal(q.x0[DROP], f(X, T).x0[DROP])
    assert torch.equal(q.eps[DROP], f(X, T).eps[DROP])


def test_a_memory_goes_with_its_batch():
    f = labelled(LinearVP())

    def twice(make):
        g = make(AdaptiveProjected)
        g(X, TIMES[3], COND)
        return g(X, TIMES[2], COND).x0

    plain = twice(lambda c: c(f, 3.0, momentum=-0.5))
    assert close(twice(lambda c: c(FixedRows(f, 3), 3.0, momentum=-0.5)), plain)
    assert close(twice(lambda c: FixedRows(c(f, 3.0, momentum=-0.5), 6)), plain)
    with pytest.raises(ValueError, match="put FixedRows inside"):
        twice(lambda c: FixedRows(c(f, 3.0, momentum=-0.5), 3))
    for around in (lambda g: Rescheduled(g, Flow()), Clipped, lambda g: AutoGuided(f, g, 2.0), Remembering):
        with pytest.raises(ValueError, match="put FixedRows inside"):
            FixedRows(around(AdaptiveProjected(f, 3.0, momentum=-0.5)), 3)(X, T, COND)
    assert close(twice(lambda c: FixedRows(c(f, 3.0), 3)), twice(lambda c: c(f, 3.0)))
    g = AdaptiveProjected(f, 3.0, momentum=-0.5)
    g(X, TIMES[3], COND)  # another number of rows begins anew
    assert close(g(X[:3], TIMES[2], COND[:3]).x0, AdaptiveProjected(f, 3.0)(X[:3], TIMES[2], COND[:3]).x0)


@pytest.mark.parametrize("wrong", [{"eta": -0.1}, {"norm": -1.0}, {"momentum": 1.0}, {"momentum": -1.0}])
def test_settings_that_mean_nothing(wrong):
    with pytest.raises(ValueError, match="adaptive projection needs"):
        AdaptiveProjected(labelled(LinearVP()), 3.0, **wrong)
    with pytest.raises(ValueError, match="low < high"):
        AdaptiveProjected(labelled(LinearVP()), 3.0, interval=(1.0, 1.0))
