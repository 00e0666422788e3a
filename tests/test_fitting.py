import math

import pytest
import torch
from helpers import DOUBLE, close, mixture, randn

from reverie.exact import Gaussian
from reverie.fitting import WEIGHTS, _Fit, _from_widths, _loss, _Runs, angles_of, error, fit, reference, times_of
from reverie.grids import Angle, LogSNR
from reverie.samplers import DDIM, Adams, Ancestral, DPMSolverPP, Heun
from reverie.sampling import generate
from reverie.schedules import VE, Cosine, Flow, LinearVP

START = torch.ones((), dtype=DOUBLE)


def noise(schedule, n=32, seed=0):
    return schedule.sigma(START) * randn(n, 2, seed=seed)


@pytest.mark.parametrize("schedule", [Cosine(), LinearVP(), VE()], ids=["cosine", "linear_vp", "ve"])
def test_angles_and_times_are_each_other_s_inverse(schedule):
    times = torch.tensor([0.9, 0.3, 0.01, 0.0], dtype=DOUBLE)
    assert close(times_of(schedule, angles_of(schedule, times)), times, 1e-9)


def test_the_reference_is_the_exact_solution():
    for schedule in (Cosine(), VE()):
        f = Gaussian(schedule, torch.tensor([0.7, -0.4], dtype=DOUBLE), torch.tensor([0.8, 0.3], dtype=DOUBLE))
        x = noise(schedule)
        assert close(reference(f, x, steps=300), f.solution(x, 1.0, 0.0), 1e-6)


def test_the_slope_of_the_loss_is_its_derivative():
    """But for that of the floor, which is held."""
    e = (randn(9) ** 2).requires_grad_()
    floor = e.detach().median() / 10
    value = (e + floor).log().mean() / 2 + e.sqrt().mean().log() / 4 + e.mean().log() * 3 / 8
    value.backward()
    found, slope = _loss(e.detach())
    assert found == pytest.approx(float(value.detach()))
    assert close(slope, e.grad, 1e-9)


def test_the_derivative_by_knots_is_that_of_whole_runs():
    """Runs resumed from the step before a knot, and the chain rule to log widths."""
    schedule = Cosine()
    f, x = mixture(schedule), noise(schedule, 5)
    runs = _Runs(f, Adams(), x, None, 1.0)
    angles = angles_of(schedule, Angle(6)(schedule))
    search = _Fit(runs, torch.zeros(5, 2, dtype=DOUBLE), angles, lambda: False)
    j = search.derivative()
    assert j is not None
    logs = (angles[:-1] - angles[1:]).log()
    for k in range(6):
        h = 1e-5 * torch.eye(6, dtype=DOUBLE)[k]
        up, down = (runs.end(_from_widths(math.pi / 2, (logs + s * h).exp())) for s in (1, -1))
        assert close(j[k], ((up - down) / 2e-5).flatten(), 2e-3)


@pytest.mark.parametrize("sampler", [Adams(), DDIM(), Heun()], ids=["adams", "ddim", "heun"])
def test_a_fitted_grid_is_better_on_noise_it_has_not_seen(sampler):
    schedule = LinearVP()
    f = mixture(schedule)
    (made,) = fit(f, sampler, [6], noise(schedule, 48), reference_steps=100, searches=2).grids
    x = noise(schedule, 64, seed=1)
    exact = reference(f, x, steps=400)
    found = error(generate(f, sampler, times_of(schedule, torch.tensor(made.angles, dtype=DOUBLE)), x), exact)
    for grid in (Angle(6), LogSNR(6)):
        other = error(generate(f, sampler, grid(schedule), x), exact)
        assert found.rms * found.median < other.rms * other.median


def test_what_is_found_is_reported_in_order_with_progress_and_repeats():
    schedule, told = Cosine(), []
    f, x = mixture(schedule), noise(schedule, 16)

    def fitted(on_progress=None):
        standards = {"angle": Angle()}
        return fit(
            f, Adams(), [4, 1, 3], x, reference_steps=60, searches=2, standards=standards, on_progress=on_progress
        )

    made = fitted(lambda done, what: told.append((done, what)))
    assert [g.steps for g in made.grids] == [4, 1, 3]
    for g in made.grids:
        assert len(g.angles) == g.steps + 1
        assert g.angles[0] == pytest.approx(math.pi / 2)
        assert g.angles[-1] == 0
        assert set(g.errors) == {"fitted", "angle"}
        fitted_error, other = g.errors["fitted"], g.errors["angle"]
        assert fitted_error.rms * fitted_error.median <= other.rms * other.median
        assert [w.angles for w in g.weighed] == [pytest.approx(g.angles)] * len(WEIGHTS)
    for one, again in zip(made.grids, fitted().grids, strict=True):
        assert one.angles == again.angles
        rows = [[w for row in each.weighed[0].weights for w in row] for each in (one, again)]
        assert rows[0] == pytest.approx(rows[1], abs=1e-5)  # nearly dependent values: rounding grows
    assert told[0][0] == 0
    assert told[-1] == (1.0, "done")
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    assert made.reference_error.rms < 1e-4


def test_only_a_method_that_takes_every_step_itself_has_weights():
    """One in log-SNR leaves pure noise to another; where alpha is not 0 it does not."""
    for schedule, sampler, many in ((Flow(), DPMSolverPP(), 0), (VE(), DPMSolverPP(), len(WEIGHTS)), (VE(), Heun(), 0)):
        f, x = mixture(schedule), noise(schedule, 8)
        (made,) = fit(f, sampler, [4], x, reference_steps=20, budget_s=0.0).grids
        assert len(made.weighed) == many


def test_without_time_the_best_beginning_is_returned():
    schedule = Cosine()
    made = fit(mixture(schedule), Adams(), [5], noise(schedule, 8), reference_steps=20, budget_s=0.0)
    assert len(made.grids[0].angles) == 6


def test_what_cannot_be_fitted_is_refused():
    f, x = mixture(Cosine()), noise(Cosine(), 2)
    for sampler, counts, start, match in (
        (Ancestral(), [5], 1.0, "deterministic"),
        (Adams(), [], 1.0, "numbers of steps"),
        (Adams(), [0], 1.0, "numbers of steps"),
        (Adams(), [5], 0.0, "start"),
    ):
        with pytest.raises(ValueError, match=match):
            fit(f, sampler, counts, x, start=start)
