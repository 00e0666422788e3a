import pytest
import torch
from guided import COND, TIMES, Deaf, WithVariance, X
from helpers import close, every_schedule, gaussian, labelled, randn

from reverie.denoiser import FixedRows, Rescheduled, Wrapper, self_conditioned
from reverie.exact import Gaussian
from reverie.guidance import AutoGuided, ClassifierFree
from reverie.schedules import VE, Flow, LinearVP
from reverie.tensors import host


@pytest.mark.parametrize("schedule", **every_schedule)
def test_between_and_beyond_two_models(schedule):
    f, weak = labelled(schedule), Gaussian(schedule, X[0], 1.0)
    for t in (TIMES, *TIMES):
        strong, weaker = f(X, t, COND), weak(X, t)
        assert torch.equal(AutoGuided(f, weak, 1.0)(X, t, COND).x0, strong.x0)
        assert close(AutoGuided(f, weak, 0.0)(X, t, COND).x0, weaker.x0)
        q = AutoGuided(f, weak, 2.5)(X, t, COND)
        assert close(q.x0, weaker.x0 + 2.5 * (strong.x0 - weaker.x0), 1e-11)
        assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, X, 1e-11)
        # The weaker model may be the same without a condition: that is classifier-free guidance.
        free = ClassifierFree(f, 2.5)(X, t, COND)
        assert close(AutoGuided(f, Deaf(f), 2.5)(X, t, COND).x0, free.x0, 1e-11)


def test_against_a_wider_gaussian_the_density_sharpens():
    # N(m, s^2)^w / N(m, v^2)^(w - 1) is a Gaussian of variance 1 / (w / s^2 - (w - 1) / v^2).
    f = gaussian(LinearVP())
    wide = Gaussian(f.schedule, f.means[0], 2 * f.stds[0])
    x, t, w = randn(4, 3), host(0.4), 1.5
    level = f.schedule.at(t, like=x)
    s, v = ((level.alpha * g.stds[0]) ** 2 + level.sigma**2 for g in (f, wide))
    assert close(AutoGuided(f, wide, w)(x, t).score, -(w / s - (w - 1) / v) * (x - level.alpha * f.means[0]), 1e-11)


@pytest.mark.parametrize("other", [VE(), Flow()])
def test_a_weaker_model_of_another_schedule_is_told_the_same(other):
    f, weak = labelled(LinearVP()), labelled(LinearVP())
    weak.stds = 1.5 * weak.stds
    q, p = (AutoGuided(f, g, 2.0)(X, TIMES, COND) for g in (Rescheduled(weak, other), weak))
    assert close(q.x0, p.x0, 1e-8)
    assert close(p.x0, 2 * f(X, TIMES, COND).x0 - weak(X, TIMES, COND).x0)


def test_the_weaker_model_sees_as_many_rows():
    f, seen = labelled(LinearVP()), []

    class Counting(Wrapper):
        def __call__(self, x, t, cond=None):
            seen.append(len(x))
            return self.denoiser(x, t, cond)

    AutoGuided(FixedRows(f, 3), Counting(f), 2.0)(X, TIMES, COND)
    assert seen == [3, 3]


def test_what_one_of_the_two_wants_both_want():
    f, wants = labelled(LinearVP()), labelled(LinearVP())
    wants.self_conditioned = True
    for a, b, expected in ((f, f, False), (f, wants, True), (wants, f, True)):
        assert self_conditioned(AutoGuided(a, Rescheduled(b, Flow()), 2.0)) == expected
    assert AutoGuided(WithVariance(f), f, 2.0)(X, TIMES, COND).var.eq(1).all()
