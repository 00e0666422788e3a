"""What linear multistep solvers converge to, and how fast: on Gaussian data, from t = 1 to exactly 0."""

import math
from itertools import pairwise

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, every_schedule, gaussian, mixture, named, randn, seeded, slope

from reverie.exact import Gaussian
from reverie.grids import Karras, Knots, LogSNR, Uniform
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Adams
from reverie.samplers.deis import DEIS
from reverie.samplers.dpmpp import DPMSolverPP
from reverie.samplers.dpmpp_sde import DPMSolverPPSDE
from reverie.samplers.lms import LMS
from reverie.samplers.pndm import PLMS, PNDM
from reverie.samplers.sa_solver import SASolver
from reverie.samplers.unipc import UniPC
from reverie.sampling import generate, trajectory
from reverie.schedules import GivenBetas, Table
from reverie.tensors import host

SOLVERS = {
    "dpmpp_1": DPMSolverPP(1),
    "dpmpp_2": DPMSolverPP(2),
    "dpmpp_2_exact": DPMSolverPP(2, midpoint=False),
    "dpmpp_3": DPMSolverPP(3),
    "dpmpp_2m_sde_eta_0": DPMSolverPPSDE(2, 0.0),
    "unipc_1": UniPC(1),
    "unipc_2": UniPC(2),
    "unipc_2_bh1": UniPC(2, "bh1"),
    "unipc_3": UniPC(3),
    "deis_2": DEIS(2),
    "deis_3": DEIS(3),
    "deis_4": DEIS(4),
    "lms_1": LMS(1),
    "lms_2": LMS(2),
    "lms_3": LMS(3),
    "lms_4": LMS(4),
    "plms": PLMS(),
    "pndm": PNDM(),
    "sa_2_3": SASolver(0.0, 2, 3),
    "sa_3_0": SASolver(0.0, 3, 0),
    "sa_3_3": SASolver(0.0, 3, 3),
    "sa_4_5": SASolver(0.0, 4, 5),
}
HIGH = {k: v for k, v in SOLVERS.items() if v.order >= 3 and k != "sa_3_0"}

every_solver = named(**SOLVERS)
Z = randn(6, 3, seed=1)


class Line:
    """`gaussian`, as one kernel or two."""

    mean = torch.tensor([0.7, -0.4, 1.1], dtype=DOUBLE)
    var = torch.tensor([0.8, 0.5, 1.2], dtype=DOUBLE) ** 2

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x, t, cond=None):
        p = self.schedule.at(t, like=x)
        share = p.alpha * self.var / (p.alpha**2 * self.var + p.sigma**2)
        return Prediction.from_x0((self.mean + share * (x - p.alpha * self.mean)).to(x), x, p)


def smooth(schedule, steps):
    """theta = atan(sigma / alpha) from its largest value to 0, with steps that shrink as i^2 towards both ends.

    Polynomials in log-SNR need that: at t = 0, and at t = 1 where alpha(1) = 0, a step of an even grid of theta
    stays of order 1 in log-SNR however many steps there are (see the test below).
    """
    u = torch.linspace(1, 0, steps + 1, dtype=DOUBLE)
    return in_angle(schedule, u**3 * (10 - 15 * u + 6 * u**2))


def in_angle(schedule, part):
    """Times at the given parts of the angle at t = 1."""
    largest = math.atan(math.exp(-float(schedule.log_snr(host(1.0))) / 2))
    times = schedule.time(-2 * (largest * part).tan().log())
    times[0], times[-1] = 1.0, 0.0
    return times


def error(solver, schedule, times, start=Z):
    x = (schedule.at(times[0], Z).sigma * start).to(start.dtype)
    exact = gaussian(schedule).solution(x.double(), times[0], 0.0)
    return float((generate(Line(schedule), solver, times, x) - exact).abs().max())


@pytest.mark.parametrize("solver", **every_solver)
@pytest.mark.parametrize("name", ["cosine", "ve"])
def test_observed_order(name, solver):
    schedule = SCHEDULES[name]
    steps = (512, 1024) if solver.order > 3 else (128, 256)
    found = slope([error(solver, schedule, smooth(schedule, n)) for n in steps])
    if solver == SASolver(0.0, 3, 3):  # its error passes through 0 between the two: smaller than order 3 would have it
        assert error(solver, schedule, smooth(schedule, 512)) < 3e-7
        return
    assert solver.order - 0.2 < found < solver.order + 0.5


@pytest.mark.parametrize("solver", **named(**{k: v for k, v in SOLVERS.items() if not isinstance(v, PLMS)}))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_schedule_matters_by_its_signal_to_noise_ratio_alone(schedule, solver):
    # x / alpha, from the same ratio at the same ratios: hence the order on any schedule is that on `linear_vp`.
    ratios = torch.logspace(1, -2, 9, dtype=DOUBLE)
    ends = []
    for process in (SCHEDULES["linear_vp"], schedule):
        times = torch.cat([process.time(-2 * ratios.log()), torch.zeros(1, dtype=DOUBLE)])
        start = process.alpha(times[0]) * (Line.mean + ratios[0] * Z)
        ends.append(generate(Line(process), solver, times, start))
    assert close(ends[0], ends[1], 1e-9)


@pytest.mark.parametrize("solver", [PLMS(), PNDM()], ids=["plms", "pndm"])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_methods_in_time_on_every_schedule(schedule, solver):
    def end(n):
        times = host(torch.linspace(0.95, 0.2, n + 1) ** 2)
        x = schedule.sigma(times[0]) * Z
        exact = gaussian(schedule).solution(x, times[0], times[-1])
        return float((generate(Line(schedule), solver, times, x) - exact).abs().max())

    kinks = schedule.knots is not None  # sigma / alpha of a chain has kinks in time
    assert slope([end(128), end(256)]) > (0.8 if kinks else 1.8)


def test_plms_follows_unequal_steps():
    # Every 2.5th knot of a chain, rounded: with the coefficients of equal steps the error would rise to 2e-4.
    schedule = SCHEDULES["table"]
    errors = [error(PLMS(), schedule, Knots(steps=n)(schedule)) for n in (200, 400, 800)]
    assert errors[1] < errors[0] / 3
    assert errors[2] < 2e-5


GRIDS = {"karras": Karras, "uniform": Uniform}
BEST = {k: v for k, v in SOLVERS.items() if k not in ("dpmpp_1", "lms_1", "lms_2", "deis_2", "unipc_1", "sa_3_0")}


@pytest.mark.parametrize("solver", **named(**BEST))
@pytest.mark.parametrize("grid", GRIDS)
def test_more_steps_are_never_worse(grid, solver):
    # On a uniform grid the error of some changes its sign on the way; a dip there may be followed by a tenth more.
    schedule = SCHEDULES["linear_vp"]
    counts = (20, 40, 80, 160, 400)
    errors = [error(solver, schedule, GRIDS[grid](n)(schedule)) for n in counts]
    for (few, a), (many, b) in pairwise(zip(counts, errors, strict=True)):
        assert b < max(a * (1.1 if grid == "uniform" else 1), 1e-6), f"{a:.3g} with {few} steps, {b:.3g} with {many}"
    if grid != "uniform" and solver.order >= 3:
        assert errors[-1] < 5e-5


@pytest.mark.parametrize("solver", **named(**HIGH))
def test_the_last_step_leaves_no_floor(solver):
    # From sigma / alpha = 0.002 on, taking x0 as it is would err by 2e-6 and more, whatever came before.
    schedule, times = SCHEDULES["linear_vp"], LogSNR(1000)(SCHEDULES["linear_vp"])
    assert float(schedule.log_snr(times[-2])) == pytest.approx(-2 * math.log(0.002))
    x = Line.mean + Line.var.sqrt() * Z
    exact = gaussian(schedule).solution(x, times[-2], 0.0)
    assert float((Line(schedule)(x, times[-2]).x0 - exact).abs().max()) > 2e-6
    assert error(solver, schedule, times) < (4e-6 if solver == LMS(3) else 1e-6)


@pytest.mark.parametrize("solver", **named(**HIGH, plms=PLMS()))
def test_rounding_of_single_precision_is_not_amplified(solver):
    # The weights of the last step grow with (rho / h): with all nodes of order 4 they would make 1e-3 of it.
    schedule = SCHEDULES["linear_vp"]
    times = LogSNR(1000)(schedule)
    double, single = (error(solver, schedule, times, Z.to(dtype)) for dtype in (DOUBLE, torch.float32))
    assert abs(single - double) < 5e-5


@pytest.mark.parametrize("solver", **every_solver)
@pytest.mark.parametrize("name", ["linear_vp", "flow", "ve"])
def test_every_example_may_have_times_of_its_own(name, solver):
    schedule = SCHEDULES[name]
    f, x = mixture(schedule), randn(3, 2, seed=5)
    each = torch.stack([torch.linspace(a, b, 7, dtype=DOUBLE) for a, b in ((0.9, 0.3), (0.8, 0.1), (0.95, 0.5))])
    together, state = x, solver.init()
    for t, s in pairwise(each.T):
        together, state = solver.step(f, together, t, s, None, torch.randn_like, state)
    apart = [generate(f, solver, times, x[i : i + 1]) for i, times in enumerate(each)]
    assert close(together, torch.cat(apart), 1e-11)


@pytest.mark.parametrize("solver", [UniPC(3), LMS(4), DPMSolverPP(3), SASolver(0.0, 4, 5)], ids=str)
def test_some_examples_may_be_done_before_others(solver):
    f, x = mixture(SCHEDULES["linear_vp"]), randn(2, 2, seed=5)
    state, t = solver.init(), host(torch.tensor([0.8, 0.6]))
    for s in ([0.6, 0.4], [0.4, 0.2], [0.2, 0.0]):
        x, state = solver.step(f, x, t, host(torch.tensor(s)), None, torch.randn_like, state)
        t = host(torch.tensor(s))
    alone = generate(f, solver, host(torch.tensor([0.6, 0.4, 0.2, 0.0])), randn(2, 2, seed=5)[1:])
    assert close(x[1:], alone, 1e-6)


@pytest.mark.parametrize(
    ("solver", "start", "calls"),
    [
        (LMS(4), 0.9, 8),
        (UniPC(3), 0.9, 8),
        (UniPC(3), 1.0, 8),
        (PLMS(), 0.9, 9),
        (PNDM(), 0.9, 17),
        (PLMS(), 1.0, 8),
        (PNDM(), 1.0, 8),
    ],
)
def test_evaluations(solver, start, calls):
    seen = []

    class Counting(Line):
        def __call__(self, x, t, cond=None):
            seen.append(float(t))
            return super().__call__(x, t, cond)

    generate(Counting(SCHEDULES["flow"]), solver, torch.linspace(start, 0, 9, dtype=DOUBLE), Z)
    assert len(seen) == calls
    assert min(seen) > 0


@pytest.mark.parametrize("solver", **every_solver)
@pytest.mark.parametrize("name", ["flow", "cosine", "ve"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_few_steps_end_somewhere(steps, name, solver):
    schedule = SCHEDULES[name]
    out = generate(Line(schedule), solver, Uniform(steps)(schedule), schedule.sigma(host(1.0)) * Z)
    assert bool(out.isfinite().all())
    if steps == 1:
        assert close(out, generate(Line(schedule), DDIM(), Uniform(1)(schedule), schedule.sigma(host(1.0)) * Z))


PURE = {
    "flow": SCHEDULES["flow"],
    "cosine": SCHEDULES["cosine"],
    "cosine table": Table.cosine(),
    "table that ends in noise": Table(GivenBetas((0.1, 0.2, 0.5, 1.0))),
}


def shrinking(steps, power):
    return torch.linspace(1, 0, steps + 1, dtype=DOUBLE) ** power


@pytest.mark.parametrize("solver", **every_solver)
@pytest.mark.parametrize("name", PURE)
def test_the_order_from_pure_noise(name, solver):
    # t = 1 - 2 i / N there: 1 / rho ~ i / N, and steps of log((i + 1) / i) in log-SNR whatever N. Crossed in the angle.
    schedule = PURE[name]
    errors = [error(solver, schedule, shrinking(n, 3)) for n in (60, 120, 240)]
    if solver == SASolver(0.0, 3, 3):  # its error changes its sign: smaller than order 3 would have it
        assert errors[1] < 5e-6
        return
    # The first step of Adams limits order 5 to 4. An error that changes its sign falls less in one of two doublings.
    assert max(map(slope, pairwise(errors))) > min(solver.order, 4) - (0.3 if solver.order == 5 else 0.2)


@pytest.mark.parametrize("solver", **every_solver)
@pytest.mark.parametrize("name", PURE)
@pytest.mark.parametrize("steps", [3, 9])
def test_steps_from_pure_noise_need_no_plan(steps, name, solver):
    schedule = PURE[name]
    f, times = mixture(schedule), shrinking(steps, 2)
    x, state = randn(3, 2, seed=5), solver.init()
    for t, s in pairwise(times):
        x, state = solver.step(f, x, t, s, None, torch.randn_like, state)
    assert close(x, generate(f, solver, times, randn(3, 2, seed=5)), 1e-10)


@pytest.mark.parametrize("solver", [UniPC(3), LMS(4), DPMSolverPP(3), DEIS(), PLMS(), PNDM()], ids=str)
def test_every_example_may_begin_in_pure_noise_on_its_own(solver):
    # All are at rho = 1, t = 1/2, after the same step.
    schedule = SCHEDULES["flow"]
    f, x = mixture(schedule), randn(2, 2, seed=5)
    each = torch.tensor([[1, 0.9, 0.7, 0.5, 0.4, 0.3, 0.1], [1, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1]], dtype=DOUBLE)
    together, state = x, solver.init()
    for t, s in pairwise(each.T):
        together, state = solver.step(f, together, t, s, None, torch.randn_like, state)
    apart = [generate(f, solver, times, x[i : i + 1]) for i, times in enumerate(each)]
    assert close(together, torch.cat(apart), 1e-10)


@pytest.mark.parametrize("solver", [UniPC(3), LMS(4), DPMSolverPP(3), PLMS()], ids=str)
def test_what_is_handed_over_is_what_the_denoiser_said(solver):
    schedule = SCHEDULES["flow"]
    f, times, x = gaussian(schedule), shrinking(30, 2), Z
    said, state = [], solver.start(schedule, times)
    for t, s in pairwise(times):
        before = state.values
        q = f(x, t)
        said.insert(0, q.x0 if isinstance(solver, UniPC | DPMSolverPP) else q.eps)
        x, state = solver.step(f, x, t, s, None, torch.randn_like, state)
        if before and before[0].told is not None and state.values[0].told is None:
            break
    assert float(t) <= 0.5  # sigma / alpha = 1
    known = [v.scale * v.tensor for v in state.values]
    assert len(known) == solver.memory + 1
    for a, b in zip(known, said, strict=False):
        assert close(a, b, 1e-12)


def test_pure_noise_is_crossed_by_adams():
    schedule, times = SCHEDULES["cosine"], shrinking(20, 2)
    noisy = int((schedule.sigma(times) > schedule.alpha(times)).sum())
    plan, adams = LMS(3).plan(schedule, times), Adams(4).plan(schedule, times)
    assert [p.crossing for p in plan] == [i < noisy for i in range(20)]
    assert [(p.x, p.m) for p in plan[:noisy]] == [(p.x, p.m) for p in adams[:noisy]]
    assert LMS(3).plan(schedule, times, cross=False)[0] is None


@pytest.mark.parametrize("solver", **every_solver)
def test_steps_that_do_not_begin_in_pure_noise_are_those_of_the_method(solver):
    for name in ("linear_vp", "ve", "flow"):
        schedule = SCHEDULES[name]
        times = shrinking(12, 2) * float(schedule.time(host(-2 * math.log(900.0))))
        assert solver.plan(schedule, times) == solver.plan(schedule, times, cross=False)


@pytest.mark.parametrize("solver", [SASolver(), DPMSolverPPSDE()], ids=str)
def test_methods_with_noise_do_not_cross(solver):
    assert solver.plan(SCHEDULES["flow"], shrinking(12, 2))[0] is None


def test_polynomials_in_log_snr_lose_their_order_on_grids_even_at_the_data():
    # Where x0 ~ a + b rho^2 near t = 0 and theta is even, steps in log-SNR, log((i + 1) / i), do not shrink with N:
    # what the last few of them miss is of order N^-2 for any polynomial.
    schedule, even = SCHEDULES["cosine"], torch.linspace
    for solver in (DPMSolverPP(3), UniPC(3), DEIS(4)):
        errors = [error(solver, schedule, in_angle(schedule, even(1, 0, n + 1, dtype=DOUBLE))) for n in (256, 512)]
        assert 1.8 < slope(errors) < 2.2


@pytest.mark.parametrize("solver", [LMS(3), DEIS(3), DEIS(3, "rho"), DPMSolverPP(3), UniPC(2)], ids=str)
@pytest.mark.parametrize("name", ["flow", "ve"])
def test_order_3_begins_anywhere(name, solver):
    # On an even grid the first step, of one value, errs by N^-2 once; taken again with two, by N^-3.
    schedule = SCHEDULES[name]

    def end(n):
        times = torch.linspace(0.6, 0.3, n + 1, dtype=DOUBLE)
        x = schedule.sigma(times[0]) * Z
        exact = gaussian(schedule).solution(x, times[0], times[-1])
        return float((generate(Line(schedule), solver, times, x) - exact).abs().max())

    assert slope([end(128), end(256)]) > 2.8


def test_3m_as_published_is_of_order_2():
    schedule = SCHEDULES["linear_vp"]
    errors = [error(DPMSolverPPSDE(3, 0.0), schedule, smooth(schedule, n)) for n in (512, 1024)]
    assert 1.8 < slope(errors) < 2.2
    assert error(DPMSolverPP(3), schedule, smooth(schedule, 1024)) < errors[1] / 5


STOCHASTIC = {
    "dpmpp_2m_sde": DPMSolverPPSDE(2),
    "dpmpp_3m_sde": DPMSolverPPSDE(3),
    "dpmpp_2m_sde_half": DPMSolverPPSDE(2, 0.5),
    "sa": SASolver(),
    "sa_2_0": SASolver(1.0, 2, 0),
    "sa_4_5": SASolver(0.7, 4, 5),
}


class Impulses:
    """The k-th draw is 1 in row k + 2 and 0 elsewhere."""

    def __init__(self, scale):
        self.count, self.scale = 0, scale

    def __call__(self, like):
        z = torch.zeros_like(like)
        z[self.count + 2] = self.scale
        self.count += 1
        return z


def moments(sampler, schedule, times, scale=1.0):
    """How far mean and deviation of what a whole run makes of `gaussian` are off; exact, as a run is linear."""
    f, n = gaussian(schedule), len(times) - 1
    x = torch.zeros(n + 2, 3, dtype=DOUBLE)
    x[1] = 1
    noise = Impulses(scale)
    out = generate(Line(schedule), sampler, times, x, noise=noise)
    assert noise.count == n - 1  # none in the last step
    a, b = schedule.alpha(times[0]), schedule.sigma(times[0])
    start = (a * f.stds[0]) ** 2 + b**2
    mean = out[0] + (out[1] - out[0]) * a * f.means[0]
    var = (out[1] - out[0]) ** 2 * start + ((out[2:] - out[0]) ** 2).sum(0)
    return float(max((mean - f.means[0]).abs().max(), (var.sqrt() - f.stds[0]).abs().max()))


@pytest.mark.parametrize("sampler", **named(**STOCHASTIC))
@pytest.mark.parametrize("name", ["linear_vp", "ve", "flow"])
def test_moments_converge(name, sampler):
    schedule = SCHEDULES[name]
    errors = [moments(sampler, schedule, LogSNR(n, 1e-3)(schedule)) for n in (60, 120)]
    assert slope(errors) > sampler.order - 0.2
    assert errors[1] < 5e-3
    assert moments(sampler, schedule, LogSNR(120, 1e-3)(schedule), scale=0.8) > 0.05


def test_noise_of_the_corrector_is_that_of_the_predictor():
    # With a corrector of as many values as the predictor has and one more, the same draws, on a grid half as fine:
    # the corrected run is the implicit method's to the order of the step, so both see one path.
    schedule, n = SCHEDULES["ve"], 400
    f, times = Gaussian(schedule, Line.mean, Line.var.sqrt()), LogSNR(n, 1e-2)(schedule)
    draws = torch.randn(n, 6, 3, generator=seeded(2), dtype=DOUBLE)
    ends = []
    for sampler in (SASolver(1.0, 2, 0), SASolver(1.0, 2, 3)):
        queue = iter(draws)
        x = schedule.sigma(times[0]) * Z
        ends.append([step.x for step in trajectory(f, sampler, times, x, noise=lambda like, q=queue: next(q))][-1])
    assert (ends[0] - ends[1]).abs().max() < 0.02
    assert ends[0].std() > 0.3
