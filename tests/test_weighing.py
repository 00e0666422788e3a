"""Weights fitted to a denoiser: what they are fitted to, that they serve other starts, and when they are kept."""

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import DOUBLE, close, mixture, randn

from reverie import config
from reverie.exact import Gaussian
from reverie.fitting import Error, Fitted, FittedSteps, angles_of, error, fine_times, fit, reference, times_of
from reverie.grids import Angle, Karras
from reverie.samplers import DDIM, Adams, Ancestral, DPMSolverPP, Heun, Sampler, Weighed
from reverie.sampling import generate
from reverie.schedules import VE, Cosine, Flow, LinearVP
from reverie.tensors import host
from reverie.tuning.judging import TUNED, WEIGHED, judge, serving
from reverie.weighing import passed, weigh

SCHEDULES = {"vp": LinearVP(), "cosine": Cosine(), "ve": VE(), "flow": Flow()}


def starts(schedule, n, seed, t=1.0):
    return schedule.sigma(host(t)) * randn(n, 2, seed=seed)


def fitted_weights(f, method, grid, x, **settings):
    times = grid(f.schedule)
    wanted = angles_of(f.schedule, times)[1:].tolist()
    targets = passed(f, Adams(), fine_times(f.schedule, float(times[0]), 200), x, wanted)
    return times, weigh(f, method, times, x, targets, **settings)


# ----------------------------------------------------------------------- where the solution passes


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_where_the_solution_passes_is_the_exact_one_of_gaussian_data(schedule):
    f = Gaussian(schedule, torch.tensor([0.7, -0.4], dtype=DOUBLE), torch.tensor([0.8, 0.3], dtype=DOUBLE))
    x = starts(schedule, 16, 0)
    wanted = [1.5, 1.2, 0.75, 0.3, 0.011, 2e-7, 0.0]
    found = passed(f, Adams(), fine_times(schedule, 1.0, 1600), x, wanted)
    assert len(found) == len(wanted)
    for angle, y in zip(wanted, found, strict=True):
        s = times_of(schedule, torch.tensor([angle], dtype=DOUBLE))[0]
        assert close(y, f.solution(x, 1.0, s), 1e-8)


def test_places_outside_the_times_are_refused():
    f, x = mixture(LinearVP()), starts(LinearVP(), 2, 0)
    times = fine_times(LinearVP(), 0.5, 20)
    for wanted in ([1.5, 0.1], [0.1, -0.1]):
        with pytest.raises(ValueError, match="must lie between"):
            passed(f, Adams(), times, x, wanted)


# ------------------------------------------------------------------------------------- the weights


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_starts_that_were_not_fitted_end_nearer_to_the_exact_solution(schedule):
    f, grid = mixture(schedule), Angle(7)
    times, weighed = fitted_weights(f, Adams(), grid, starts(schedule, 128, 1))
    x = starts(schedule, 256, 2)
    exact = reference(f, x, steps=400)
    before, after = (error(generate(f, sampler, times, x), exact) for sampler in (Adams(), weighed))
    assert after.rms < 0.8 * before.rms
    assert after.median < 0.8 * before.median


def test_other_methods_have_weights_where_they_take_every_step():
    f = mixture(VE())
    times, weighed = fitted_weights(f, DPMSolverPP(), Karras(7), starts(VE(), 128, 1))
    x = starts(VE(), 256, 2)
    exact = reference(f, x, steps=400)
    before, after = (error(generate(f, sampler, times, x), exact) for sampler in (DPMSolverPP(), weighed))
    assert after.rms < 0.8 * before.rms
    with pytest.raises(ValueError, match="dpmpp remembers nothing from pure noise"):
        weigh(mixture(Flow()), DPMSolverPP(), Angle(7)(Flow()), x, [x] * 7)


def test_a_truth_in_the_span_is_found():
    """Targets that are weighed sums themselves: their weights are found, and any start then ends at its target."""
    schedule = LinearVP()
    f, times = mixture(schedule), Angle(4)(schedule)
    rows = ((0.9, -0.3), (1.05, -0.5, 0.2), (0.95, -0.4, 0.1, 0.07), (0.8, -0.2, 0.3, -0.1, 0.02))
    truth = Weighed(Adams(), tuple(angles_of(schedule, times).tolist()), rows)

    def targets(x):
        state, found = truth.start(schedule, times), []
        for t, s in zip(times[:-1].unbind(), times[1:].unbind(), strict=True):
            x, state = truth.step(f, x, t, s, None, torch.zeros_like, state)
            found.append(x)
        return found

    x = starts(schedule, 40, 1)
    found = weigh(f, Adams(), times, x, targets(x), ridge=0.0)
    for row, expected in zip(found.weights, rows, strict=True):
        assert list(row) == pytest.approx(list(expected), abs=1e-8)
    other = starts(schedule, 5, 2)
    assert close(generate(f, found, times, other), targets(other)[-1], 1e-8)


def test_a_strong_hold_leaves_the_method_as_it_is():
    schedule = LinearVP()
    f, times, x = mixture(schedule), Angle(5)(schedule), starts(schedule, 32, 1)
    held = weigh(f, Adams(), times, x, [torch.zeros_like(x)] * 5, ridge=1e12, memory=4)
    plan = Adams().plan(schedule, times)
    for row, own in zip(held.weights, plan, strict=True):
        assert list(row) == pytest.approx([own.x, *own.m][: len(row)], abs=1e-9)
    assert [len(row) for row in held.weights] == [2, 3, 4, 5, 5]


def test_far_examples_count_less_when_examples_are_weighed_again():
    """One target that cannot be met, far away: the mean of squares follows it, the reweighed one does not."""
    schedule = LinearVP()
    f, times, x = mixture(schedule), Angle(1)(schedule), starts(schedule, 40, 1)
    targets = 0.5 * x + 0.2 * f(x, times[0]).x0
    targets[0] += 1000
    near = (slice(1, None), slice(None))
    off = []
    for rounds in (0, 4):
        row = weigh(f, Adams(), times, x, [targets], ridge=1e-8, rounds=rounds)
        off.append(float((generate(f, row, times, x) - targets)[near].square().mean().sqrt()))
    assert off[1] < 0.1 * off[0]


def test_targets_are_one_a_step():
    f, x = mixture(LinearVP()), starts(LinearVP(), 2, 0)
    with pytest.raises(ValueError, match="3 steps need as many targets; given 2"):
        weigh(f, Adams(), Angle(3)(LinearVP()), x, [x, x])


# ------------------------------------------------------------------------------------ the sampler

ROWS = ((0.9, -0.3), (1.05, -0.5, 0.2), (0.95, -0.4, 0.1, 0.07))


def of_three(schedule, grid=None):
    times = (grid or Angle(3))(schedule)
    return times, Weighed(Adams(), tuple(angles_of(schedule, times).tolist()), ROWS)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_step_is_the_weighed_sum(schedule):
    """By hand, with g = cos(theta) eps - sin(theta) x0 remembered."""
    f, x = mixture(schedule), starts(schedule, 6, 3)
    times, sampler = of_three(schedule)
    expected, values = x, []
    for t, angle, (w, *ms) in zip(times[:-1], sampler.angles, ROWS, strict=False):
        q = f(expected, t)
        values = [math.cos(angle) * q.eps - math.sin(angle) * q.x0, *values]
        expected = w * expected + sum(m * v for m, v in zip(ms, values, strict=True))
    assert close(generate(f, sampler, times, x), expected, 1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_times_of_each_example_take_the_same_steps(schedule):
    """t of shape (B,): no plan, the rows found by their angles; also where examples are at different steps."""
    f, x = mixture(schedule), starts(schedule, 4, 3)
    times, sampler = of_three(schedule)
    whole, state, many = x, sampler.init(), torch.ones(4, dtype=DOUBLE)
    for t, s in zip(times[:-1].unbind(), times[1:].unbind(), strict=True):
        whole, state = sampler.step(f, whole, t * many, s * many, None, torch.zeros_like, state)
    assert close(whole, generate(f, sampler, times, x), 1e-10)
    t, s = times[[0, 1, 0, 1]], times[[1, 2, 1, 2]]
    one, _ = sampler.step(f, x, t, s, None, torch.zeros_like, sampler.init())
    for i in range(4):
        alone, _ = sampler.step(f, x[i : i + 1], t[i], s[i], None, torch.zeros_like, sampler.init())
        assert close(one[i : i + 1], alone, 1e-10)
    with pytest.raises(ValueError, match="no weights for a step from t = "):
        sampler.step(f, x, 0.777 * many, 0.5 * many, None, torch.zeros_like, sampler.init())


def test_without_weights_it_is_the_method():
    schedule = Cosine()
    f, x, times = mixture(schedule), starts(schedule, 4, 3), Angle(6)(schedule)
    for method in (Adams(), DPMSolverPP()):
        same = Weighed(method)
        assert torch.equal(generate(f, same, times, x), generate(f, method, times, x))
        assert (same.order, same.memory, same.deterministic) == (method.order, method.memory, True)


def test_other_times_than_those_of_the_weights_are_refused():
    f, x = mixture(Cosine()), starts(Cosine(), 2, 3)
    _, sampler = of_three(Cosine())
    for grid in (Angle(4), Angle(3, std=0.5), Karras(3)):
        with pytest.raises(ValueError, match=r"3 steps along times of their own.*or sampler.kind=adams"):
            sampler.check(Cosine(), grid(Cosine()))
        with pytest.raises(ValueError, match="3 steps along times of their own"):
            generate(f, sampler, grid(Cosine()), x)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": Heun()}, "needs a multistep method without noise"),
        ({"method": Ancestral()}, "needs a multistep method without noise"),
        ({"method": Weighed()}, "needs a multistep method without noise"),
        ({"angles": (1.0, 0.0)}, "given 2 angles and 0 rows"),
        ({"weights": ((1.0, 0.5),)}, "given 0 angles and 1 rows"),
        ({"angles": (0.5, 1.0), "weights": ((1.0, 0.5),)}, r"fall from at most pi / 2 to 0; given \[0.5, 1.0\]"),
        ({"angles": (2.0, 0.0), "weights": ((1.0, 0.5),)}, "fall from at most pi / 2"),
        ({"angles": (1.0, 0.0), "weights": ((1.0,),)}, r"at least two finite numbers.*row 0 is \[1.0\]"),
        ({"angles": (1.0, 0.0), "weights": ((1.0, math.nan),)}, r"row 0 is \[1.0, nan\]"),
    ],
)
def test_what_is_no_weighed_method_is_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Weighed(**settings)


def test_as_plain_data_it_comes_back():
    _, sampler = of_three(LinearVP())
    for made in (sampler, Weighed(DPMSolverPP(order=2)), replace(sampler, method=Adams(3, 0.5))):
        data = json.loads(json.dumps(config.to_data(made)))
        assert data["kind"] == "weighed"
        assert config.from_data(Sampler, data, "sampler") == made


# ------------------------------------------------------------------------------------ when they are kept


def test_weights_serve_only_if_both_errors_are_lower():
    plain = Error(1.0, 0.5)
    assert serving(plain, []) is None
    assert serving(plain, [Error(0.5, 0.5), Error(1.0, 0.1), Error(1.1, 0.1), Error(0.2, 0.6)]) is None
    assert serving(plain, [Error(0.9, 0.4), Error(0.01, 0.6), Error(0.7, 0.4), Error(0.8, 0.4)]) == 2
    assert serving(plain, [Error(math.nan, 0.1), Error(math.inf, math.inf)]) is None


class TestJudge:
    """What is kept, on starts that were not fitted to."""

    schedule = LinearVP()

    def judged(self, fitted, standards=None):
        held = randn(64, 2, seed=9)
        return judge(
            mixture(self.schedule), Adams(), fitted, lambda t: self.schedule.sigma(t) * held,
            standards=standards or {}, reference_steps=100,
        )  # fmt: skip

    def fitted(self):
        x = starts(self.schedule, 64, 1)
        return fit(mixture(self.schedule), Adams(), [6], x, reference_steps=100, searches=1)

    def by_hand(self, sampler, times):
        f, x = mixture(self.schedule), self.schedule.sigma(host(1.0)) * randn(64, 2, seed=9)
        return error(generate(f, sampler, times, x), reference(f, x, steps=100))

    def test_good_weights_are_kept_and_their_error_is_that_of_the_sampler(self):
        fitted = self.fitted()
        (one,) = self.judged(fitted, {"angle": Angle()})
        assert one.kept == WEIGHED
        assert one.weights in [w.weights for w in fitted.grids[0].weighed]
        times = host(one.times)
        sampler = Weighed(Adams(), tuple(angles_of(self.schedule, times).tolist()), one.weights)
        found, plain = one.errors[TUNED], self.by_hand(Adams(), times)
        assert found == self.by_hand(sampler, times)
        assert found.rms < plain.rms
        assert found.median < plain.median
        assert set(one.errors) == {TUNED, "angle"}

    def test_bad_weights_are_not(self):
        good = self.fitted().grids[0]
        spoilt = tuple(replace(w, weights=tuple((row[0] * 1.01, *row[1:]) for row in w.weights)) for w in good.weighed)
        (one,) = self.judged(Fitted((replace(good, weighed=spoilt),), Error(0, 0), 0.0))
        assert (one.kept, one.weights) == (TUNED, ())
        assert one.errors[TUNED] == self.by_hand(Adams(), host(one.times))

    def test_a_standard_grid_that_is_better_is_kept_if_it_starts_alike(self):
        bad = FittedSteps(6, tuple(angles_of(self.schedule, torch.linspace(1, 0, 7, dtype=DOUBLE) ** 6).tolist()), {})
        fitted = Fitted((bad,), Error(0, 0), 0.0)
        (one,) = self.judged(fitted, {"angle": Angle(), "karras": Karras()})
        assert (one.kept, one.weights) == ("angle", ())
        assert list(one.times) == Angle(6)(self.schedule).tolist()
        assert one.errors[TUNED] == one.errors["angle"]
        late = Angle(start=0.9)
        assert self.judged(fitted, {"angle": late})[0].kept == TUNED


def test_a_sampler_without_weights_is_judged_by_its_times():
    schedule = LinearVP()
    f = mixture(schedule)
    held = randn(16, 2, seed=4)
    fitted = fit(f, DDIM(), [4], starts(schedule, 16, 1), reference_steps=60, budget_s=0.0)
    (one,) = judge(f, DDIM(), fitted, lambda t: schedule.sigma(t) * held, standards={}, reference_steps=60)
    assert (one.kept, one.weights) == (TUNED, ())
