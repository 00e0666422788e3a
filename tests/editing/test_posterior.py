"""Methods for inverse problems against the posterior of Gaussian data, which is known.

All but DPS are affine in what they draw, so the mean and covariance of what they make are read off a batch of
impulses, and nothing is left to chance; one test draws samples all the same.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import DOUBLE, close, every_sampler, named, noise_from, randn, seeded

from benchmarks.editing import Correlated, dense, errors, law, moments, posterior, tables
from benchmarks.publishing import filled
from reverie.config import from_data, registered
from reverie.denoiser import FixedRows, Rescheduled
from reverie.editing import (
    DDRM,
    DPS,
    Mask,
    Matrix,
    MeasuredPath,
    Measurement,
    Method,
    MomentMatched,
    PiGDM,
    Replaced,
    Resampled,
    repaint,
)
from reverie.editing.pigdm import conjugate_gradients
from reverie.exact import GaussianMixture
from reverie.grids import Uniform
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Ancestral, AnnealedLangevin, Heun, Sampler
from reverie.sampling import generate, prior
from reverie.schedules import VE, Cosine, Flow, LinearVP
from reverie.tensors import host, streams

D, VAR = 4, 0.5
MEAN = torch.tensor([0.5, -0.3, 0.2, -0.6], dtype=DOUBLE)
ALONE = VAR * torch.eye(D, dtype=DOUBLE)
SMOOTH = VAR * 0.7 ** (torch.arange(D)[:, None] - torch.arange(D)).abs().double()
SOME = Mask(torch.tensor([1.0, 0, 0, 1]))
SUMS = Matrix(torch.tensor([[0.5, 0.5, 0, 0], [0.3, -0.2, 0.4, 0.1]], dtype=DOUBLE))
Y = {SOME: torch.tensor([[0.9, 0.0, 0.0, -1.2]], dtype=DOUBLE), SUMS: torch.tensor([[0.8, -0.5]], dtype=DOUBLE)}


def problem(cov, operator, noise, schedule=None):
    """The denoiser, the measurement, and the posterior."""
    f = Correlated(LinearVP() if schedule is None else schedule, MEAN, cov)
    y = Y[operator]
    return f, Measurement(operator, y, noise), posterior(f, dense(operator, D), y[0], noise)


def off(f, sampler, truth, steps, cov=ALONE) -> float:
    """The larger of the errors of mean and covariance."""
    return max(errors(law(f, sampler, Uniform(steps)(f.schedule), D), truth, cov))


# ------------------------------------------------------------------- methods that reach it


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("operator", [SOME, SUMS], ids=["mask", "sums"])
@pytest.mark.parametrize("schedule", [LinearVP(), Flow(), VE(0.01, 20.0)], ids=["linear_vp", "flow", "ve"])
def test_pigdm_with_the_right_variance_reaches_the_posterior(schedule, operator, noise):
    f, measurement, truth = problem(ALONE, operator, noise, schedule)
    guided = PiGDM(f, measurement, VAR)
    level = schedule.at(host(0.6), MEAN)
    q = guided(randn(3, D), host(0.6))
    assert close(level.alpha * q.x0 + level.sigma * q.eps, q.x)
    limit = 0.03 if isinstance(schedule, VE) else 0.004  # a VE of 20 has x0 / 20 in the noise it begins with
    assert off(guided, Heun(), truth, 120) < limit


@pytest.mark.parametrize("operator", [SOME, SUMS], ids=["mask", "sums"])
def test_pigdm_says_the_mean_of_x0_given_x_and_y(operator):
    f, measurement, _ = problem(ALONE, operator, 0.3, Cosine())
    x, h = randn(1, D), dense(operator, D)
    for t in (1.0, 0.7, 0.1):
        level = f.schedule.at(host(t), x)
        seen = Correlated(
            f.schedule, f(x, host(t)).x0[0], ALONE * level.sigma**2 / (level.alpha**2 * VAR + level.sigma**2)
        )
        expected = posterior(seen, h, measurement.y[0], 0.3)[0]
        assert close(PiGDM(f, measurement, VAR)(x, host(t)).x0[0], expected, 1e-10)
    several = torch.tensor([1.0, 0.7], dtype=DOUBLE)
    both = PiGDM(f, measurement, VAR)(x.expand(2, D), several).x0
    assert close(both[0], PiGDM(f, measurement, VAR)(x, host(1.0)).x0[0])
    assert close(both[1], PiGDM(f, measurement, VAR)(x, host(0.7)).x0[0])


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("operator", [SOME, SUMS], ids=["mask", "sums"])
def test_matched_moments_reach_it_whatever_the_covariance(operator, noise):
    f, measurement, truth = problem(SMOOTH, operator, noise)
    matched = off(MomentMatched(f, measurement, D), Heun(), truth, 100, SMOOTH)
    assert matched < 0.01
    assert off(PiGDM(f, measurement, VAR), Heun(), truth, 100, SMOOTH) > 4 * matched  # one variance is not enough
    assert (
        MomentMatched(problem(SMOOTH, operator, noise, Flow())[0], measurement)(randn(2, D), host(1.0))
        .x0.isfinite()
        .all()
    )


def test_ddrm_reaches_it_without_noise_where_the_spectrum_is_independent():
    f, measurement, truth = problem(ALONE, SUMS, 0.0)
    coarse, fine = (off(f, DDRM(measurement, eta=0.0), truth, n) for n in (100, 200))
    assert fine < 0.03
    assert 1.7 < coarse / fine < 2.3
    f, measurement, truth = problem(ALONE, SUMS, 0.3)
    assert off(f, DDRM(measurement, eta=0.0), truth, 200) > 0.1  # and with noise it does not


@pytest.mark.parametrize("schedule", [Cosine(), VE(0.01, 20.0)], ids=["cosine", "ve"])
def test_a_step_in_the_spectrum_is_the_formula_of_each_number(schedule):
    """Singular values 2, 1, 0.2 and 0 with noise 0.3: at sigma / alpha from 0.5 to 0.2 the four cases of a path."""
    f, x, z = Correlated(schedule, MEAN, SMOOTH), randn(2, D), randn(2, D, seed=1)
    h, y = Matrix(torch.diag(torch.tensor([2.0, 1.0, 0.2, 0.0], dtype=DOUBLE))), randn(2, D, seed=2)
    t, s = (schedule.time(-2 * host(rho).log()) for rho in (0.5, 0.2))
    q, alpha = f(x, t), schedule.alpha(s)
    ybar, noise = y[:, :3] / host([2.0, 1.0, 0.2]), (0.15, 0.3, 1.5)
    eta, eta_b = 0.6, 0.7
    x0, eps, kept = q.x0, q.eps, (1 - eta**2) ** 0.5
    expected = [
        (1 - eta_b) * x0[:, 0] + eta_b * ybar[:, 0] + (0.04 - (eta_b * noise[0]) ** 2) ** 0.5 * z[:, 0],
        x0[:, 1] + 0.2 * (kept * (ybar[:, 1] - x0[:, 1]) / noise[1] + eta * z[:, 1]),
        x0[:, 2] + 0.2 * (kept * (ybar[:, 2] - x0[:, 2]) / noise[2] + eta * z[:, 2]),
        x0[:, 3] + 0.2 * (kept * eps[:, 3] + eta * z[:, 3]),
    ]
    measurement, draw = Measurement(h, y, 0.3), lambda like: z
    found = DDRM(measurement, eta, eta_b).step(f, x, t, s, None, draw, None)[0]
    assert close(found, alpha * torch.stack(expected, 1), 1e-9)

    def onwards(e, i, began):
        tau = eta**2 * (1 - (0.2 / began) ** 2)
        return x0[:, i] + 0.2 * ((1 - tau) ** 0.5 * e + tau**0.5 * z[:, i])

    expected = [
        ybar[:, 0] + (0.04 - noise[0] ** 2) ** 0.5 * z[:, 0],
        onwards((ybar[:, 1] - x0[:, 1]) / noise[1], 1, noise[1]),
        onwards(eps[:, 2], 2, 0.5),
        onwards(eps[:, 3], 3, 0.5),
    ]
    found = MeasuredPath(measurement, eta).step(f, x, t, s, None, draw, None)[0]
    assert close(found, alpha * torch.stack(expected, 1), 1e-9)
    both = MeasuredPath(measurement, eta).step(f, x, torch.stack([t, t]), torch.stack([s, s]), None, draw, None)[0]
    assert close(both, found, 1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("operator", [SOME, SUMS], ids=["mask", "sums"])
def test_a_measured_path_reaches_it_with_noise_too(operator, noise):
    f, measurement, truth = problem(ALONE, operator, noise)
    coarse, fine = (off(f, MeasuredPath(measurement), truth, n) for n in (80, 160))
    assert fine < 0.1
    assert 1.5 < coarse / fine < 2.5


def test_samples_have_the_moments_of_the_posterior():
    """4000 each; the largest of 2 (4 + 10) standardised moments stays below 5.5 but for one time in 10^5."""
    n = 4000
    f, measurement, (mean, cov) = problem(ALONE, SUMS, 0.3)
    clean, exact, (mean0, cov0) = problem(ALONE, SUMS, 0.0)
    cases = [
        (PiGDM(f, measurement, VAR), Heun(), 40, mean, torch.linalg.cholesky(cov)),
        (clean, DDRM(exact, eta=0.0), 1000, mean0, None),
    ]
    for i, (g, sampler, steps, m, root) in enumerate(cases):
        noise = noise_from(seeded(5, i))
        times = Uniform(steps)(g.schedule)
        x = generate(g, sampler, times, prior(g.schedule, 1.0, torch.empty(n, D, dtype=DOUBLE), noise), noise=noise)
        if root is None:  # two directions are known exactly, and the two others are left as they were
            free = torch.linalg.qr(SUMS.entries.T, mode="complete")[0][:, 2:]
            assert close(SUMS.forward(x), measurement.y.expand(n, 2))
            z = (x - m) @ free / VAR**0.5
            assert close(free.T @ cov0 @ free, VAR * torch.eye(2, dtype=DOUBLE))
        else:
            z = torch.linalg.solve_triangular(root, (x - m).T, upper=False).T
        mean_off, cov_off = moments(z)
        one = torch.eye(z.shape[1], dtype=DOUBLE)
        assert float(mean_off.abs().max()) < 5.5 / n**0.5
        assert float(((cov_off - one) / (1 + one).sqrt()).abs().max()) < 5.5 / n**0.5


# ------------------------------------------------------------------------ DPS and its bias


def test_a_step_of_dps_goes_against_the_gradient_of_the_distance():
    f, measurement, _ = problem(SMOOTH, SUMS, 0.0, Cosine())
    x, t, s = randn(3, D), host(0.5), host(0.4)
    plain = DDIM().step(f, x, t, s, None, torch.randn_like, None)[0]
    leaf = x.clone().requires_grad_()
    distance = (Y[SUMS] - SUMS.forward(f(leaf, t).x0)).norm(dim=1).sum()
    slope = torch.autograd.grad(distance, leaf)[0]
    f.calls = 0
    found = DPS(measurement, DDIM(), 0.7).step(f, x, t, s, None, torch.randn_like, None)[0]
    assert close(found, plain - 0.7 * slope)
    assert f.calls == 1


def test_dps_is_the_same_under_another_schedule_and_not_the_posterior():
    f, measurement, truth = problem(ALONE, SUMS, 0.3)
    ve, times = VE(0.002, 80.0), Uniform(60, 0.9)(f.schedule)
    other = ve.time(f.schedule.log_snr(times[:-1]))
    z = randn(2000, D, seed=1)
    level, b = f.schedule.at(times[0], z), ve.at(other[0], z)
    a = generate(f, DPS(measurement, DDIM()), times[:-1], level.sigma * z)
    there = generate(Rescheduled(f, ve), DPS(measurement, DDIM()), other, b.sigma * z)
    b = ve.at(other[-1], z)
    level = f.schedule.at(times[-2], z)
    assert close((a - there * level.sigma / b.sigma).norm(dim=1).max(), 0.0, 1e-6)
    mean, cov = errors(moments(a), truth, ALONE)
    assert mean > 0.05
    assert cov > 0.1
    assert generate(f, DPS(measurement, zeta=0.0), times, z[:2], noise=torch.zeros_like).isfinite().all()


# ------------------------------------------------------------------------ RePaint


def test_more_resampling_comes_nearer_to_the_posterior():
    f, measurement, truth = problem(SMOOTH, SOME, 0.0)
    found = [off(f, repaint(measurement.y, SOME.known, Heun(), 5, n), truth, 60, SMOOTH) for n in (1, 2, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 4 * found[-1]


def test_resampling_takes_as_many_steps_as_it_says_and_once_is_none():
    f, measurement, _ = problem(SMOOTH, SOME, 0.0)
    solver = Replaced(measurement.y, SOME.known, Ancestral())
    for steps, length, times in ((20, 5, 3), (7, 3, 2), (4, 5, 3), (10, 1, 2)):
        f.calls = 0
        sampler = Resampled(solver, length, times)
        generate(f, sampler, Uniform(steps)(f.schedule), randn(1, D), noise=noise_from(seeded(1)))
        assert f.calls == sampler.evaluations(steps)
    assert (
        Resampled(solver, 5, 3).evaluations(20) == 20 + 3 * 2 * 5
    )  # after steps 19, 14 and 9, and once more: 4 is too early
    a, b = (
        generate(f, g, Uniform(12)(f.schedule), randn(2, D), noise=noise_from(seeded(2)))
        for g in (solver, Resampled(solver, 3, 1))
    )
    assert torch.equal(a, b)


def test_known_pixels_come_back_bit_for_bit():
    f = Correlated(Cosine(), MEAN, SMOOTH)
    x0 = randn(3, D, seed=4).float()
    for sampler in (Replaced(x0, SOME.known), repaint(x0, SOME.known, Heun(), 2, 2)):
        out = generate(f, sampler, Uniform(8)(f.schedule), randn(3, D).float(), noise=noise_from(seeded(1)))
        known = SOME.known.bool()
        assert torch.equal(out[:, known], x0[:, known])
        assert not torch.equal(out[:, ~known], x0[:, ~known])


# ------------------------------------------------------------------------ shared promises

SAMPLERS: dict[str, Callable[[Measurement], Sampler]] = {
    "dps": lambda m: DPS(m, Ancestral()),
    "ddrm": lambda m: DDRM(m),
    "path": lambda m: MeasuredPath(m),
    "repaint": lambda m: repaint(m.y, SOME.known, DDIM(1.0), 2, 2),
}


@pytest.mark.parametrize("make", **named(**SAMPLERS))
def test_a_sample_is_the_same_in_any_batch_and_for_each_its_own_measurement(make):
    f, times = Correlated(LinearVP(), MEAN, SMOOTH), Uniform(6)(LinearVP())
    y = SOME.forward(randn(6, D, seed=2))

    def run(rows):
        noise = streams([(3, i) for i in rows])
        x = prior(f.schedule, 1.0, torch.empty(len(rows), D, dtype=DOUBLE), noise)
        return generate(f, make(Measurement(SOME, y[list(rows)])), times, x, noise=noise)

    assert close(torch.cat([run(range(2)), run(range(2, 6))]), run(range(6)))


@pytest.mark.parametrize("solver", **every_sampler)
def test_measurements_are_heeded_with_every_sampler(solver):
    solver = replace(solver, steps=2) if isinstance(solver, AnnealedLangevin) else solver
    f, times = Correlated(LinearVP(), MEAN, ALONE), Uniform(6, 0.99)(LinearVP())
    measurement = Measurement(SOME, SOME.forward(randn(3, D, seed=2)))
    x = randn(3, D)

    def far(g, sampler):
        out = generate(g, sampler, times, x, noise=noise_from(seeded(1)))
        return float(measurement.residual(out).norm(dim=1).max())

    assert far(f, repaint(measurement.y, SOME.known, solver, 2, 2)) == 0
    guided, dps, plain = far(PiGDM(f, measurement, VAR), solver), far(f, DPS(measurement, solver, 0.5)), far(f, solver)
    assert guided < 0.5 * plain
    assert dps < plain


@pytest.mark.parametrize(
    "wrap", [lambda f, m: PiGDM(f, m, VAR), lambda f, m: MomentMatched(f, m, 2)], ids=["pigdm", "moments"]
)
def test_guided_batches_agree_and_work_on_fixed_rows(wrap):
    means, y = randn(3, D), SOME.forward(randn(6, D, seed=2))
    f, x, t = GaussianMixture(Cosine(), means, 0.4), randn(6, D, seed=5), host(0.4)
    whole = wrap(f, Measurement(SOME, y))(x, t)
    for i in range(6):
        assert close(wrap(f, Measurement(SOME, y[i : i + 1]))(x[i : i + 1], t).x0[0], whole.x0[i])
    assert close(wrap(FixedRows(f, 4), Measurement(SOME, y))(x, t).x0, whole.x0)
    twice = wrap(f, Measurement(SOME, y))(torch.cat([x, x]), t)
    assert close(twice.x0[6:], whole.x0)
    with torch.inference_mode():
        assert close(wrap(f, Measurement(SOME, y))(x, t).eps, whole.eps)


def test_what_a_denoiser_is_told_of_itself_holds_no_gradient():
    class Told:
        schedule, self_conditioned, seen = Cosine(), True, []

        def __call__(self, x, t, cond=None):
            self.seen.append(cond.estimate)
            q = Correlated(self.schedule, MEAN, SMOOTH)(x, t)
            return q if cond.estimate is None else Prediction.from_x0((q.x0 + cond.estimate) / 2, x, q.level)

    _, measurement, _ = problem(SMOOTH, SOME, 0.0)
    for f, sampler in ((Told(), DPS(measurement)), (PiGDM(Told(), measurement), DDIM())):
        generate(f, sampler, Uniform(4)(Cosine()), randn(2, D))
    assert all(e is None or e.grad_fn is None for e in Told.seen)
    assert sum(e is None for e in Told.seen) == 2


def test_conjugate_gradients_solve_each_row_and_stop_where_nothing_is_left():
    a = randn(3, 4, 4)
    a = a @ a.mT
    a[2] = 0
    a[2, 0, 0] = 2.0
    v = randn(3, 4, seed=1)
    b = torch.einsum("bij,bj->bi", a, v)
    found = conjugate_gradients(lambda u: torch.einsum("bij,bj->bi", a, u), b, 12)
    assert close(found[:2], v[:2], 1e-6)
    assert close(found[2], torch.tensor([float(v[2, 0]), 0, 0, 0]), 1e-6)


def test_every_method_is_found_by_name_and_generates():
    f, times = Correlated(LinearVP(), MEAN, SMOOTH), Uniform(5)(LinearVP())
    measurement = Measurement(SOME, Y[SOME])
    assert set(registered(Method)) == {"ddrm", "dps", "moments", "path", "pigdm", "repaint"}
    for kind in registered(Method):
        g, sampler = from_data(Method, kind, "method").on(f, DDIM(1.0), measurement)
        assert generate(g, sampler, times, randn(2, D), noise=noise_from(seeded(1))).isfinite().all()
    with pytest.raises(ValueError, match="repaint is for known pixels without noise, given matrix"):
        from_data(Method, "repaint", "method").on(f, DDIM(), Measurement(SUMS, Y[SUMS]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: Measurement(SOME, m.y, -1.0), "standard deviation"),
        (lambda m: Measurement(SOME, m.y.expand(2, D)).residual(randn(3, D)), "2 measurements for a batch of 3"),
        (lambda m: PiGDM(None, m, 0.0), "variance of the data"),
        (lambda m: MomentMatched(None, m, 0), "at least 1 iteration"),
        (lambda m: DPS(m, zeta=-1.0), "zeta of at least 0"),
        (lambda m: DDRM(m, eta=1.1), "eta and eta_b"),
        (lambda m: MeasuredPath(m, -0.1), "eta in"),
        (lambda m: Replaced(m.y, torch.ones(3)), "a mask broadcasts"),
        (lambda m: Resampled(DDIM(), 0), "length and times"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(Measurement(SOME, Y[SOME]))


def test_the_figures_of_the_page_are_those_measured():
    root = Path(__file__).parent.parent.parent
    page = (root / "docs" / "editing.md").read_text()
    assert filled(page, tables(json.loads((root / "benchmarks" / "results" / "editing.json").read_text()))) == page
