"""SDE solvers along one Brownian path: more steps come nearer to that path's own solution, at order 1.

The noise enters additively (g is a function of t alone), so Euler-Maruyama is of strong order 1 (Kloeden &
Platen, 1992, section 10.3), and so is a multistep method that takes the increment for the noise of its step.
"""

from functools import cache
from itertools import pairwise

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, defaults, gaussian, mixture, slope

from reverie.brownian import paths
from reverie.grids import Uniform
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.samplers import EulerMaruyama, ReverseDiffusion, Sampler
from reverie.sampling import generate, prior
from reverie.synthesis import synthesize
from reverie.tensors import streams

ROWS = 40
SOLVERS = {
    "euler_maruyama": EulerMaruyama(),
    "reverse_diffusion": ReverseDiffusion(),
    **{k: s for k, s in defaults(Sampler).items() if k in ("dpmpp_2m_sde", "sa_solver")},
}
every_solver = pytest.mark.parametrize("sampler", SOLVERS.values(), ids=SOLVERS)


def ends(f, sampler, steps, noise, rows=ROWS, start=0.96, end=0.08):
    """x at `end` of the same start and, where `noise` makes paths, the same paths."""
    like = torch.zeros(rows, *f.means[0].shape, dtype=DOUBLE)
    times = torch.linspace(start, end, steps + 1, dtype=DOUBLE)
    x = prior(f.schedule, times[0], like, streams(range(rows)))
    return generate(f, sampler, times, x, noise=noise([(7, i) for i in range(rows)]))


@cache
def solution(problem, name, sampler):
    return ends(problem(SCHEDULES[name]), sampler, 960, paths)


def strong_errors(problem, name, sampler, noise, counts=(30, 60, 120)):
    """The distance from 960 steps along the same paths, in the root mean square."""
    f, fine = problem(SCHEDULES[name]), solution(problem, name, sampler)
    return [float((ends(f, sampler, n, noise) - fine).square().mean().sqrt()) for n in counts]


@every_solver
@pytest.mark.parametrize(("problem", "name"), [(mixture, "linear_vp"), (gaussian, "flow")])
def test_strong_order_one_along_a_path(problem, name, sampler):
    """An error c / N measured from 960 steps falls by log_4(31 / 7) = 1.07 from 30 to 120."""
    errors = strong_errors(problem, name, sampler, paths)
    assert 0.85 < slope([errors[0], errors[-1]], 4.0) < 1.5, errors
    assert errors[0] > 1.4 * errors[1] > 1.4**2 * errors[2]


@every_solver
def test_solvers_agree_on_the_solution_of_a_path(sampler):
    """Every one of them solves the same SDE, so along the same path they meet."""
    f = mixture(SCHEDULES["linear_vp"])
    fine = solution(mixture, "linear_vp", EulerMaruyama())
    near, far = (float((ends(f, sampler, n, paths) - fine).square().mean().sqrt()) for n in (960, 40))
    assert near < 0.01
    assert near < 0.3 * far


@every_solver
def test_times_by_example_follow_the_same_paths(sampler):
    """Steps planned ahead for the batch, and steps of (B,) times from the state that knows of none."""
    f, rows = mixture(SCHEDULES["linear_vp"]), 5
    like, times = torch.zeros(rows, 2, dtype=DOUBLE), torch.linspace(0.9, 0.0, 9, dtype=DOUBLE)
    x, noise = prior(f.schedule, 0.9, like, streams(range(rows))), paths(range(rows))
    planned, state = generate(f, sampler, times, x, noise=paths(range(rows))), sampler.init()
    for t, s in pairwise(times):
        x, state = sampler.step(f, x, t.expand(rows), s.expand(rows), None, noise, state)
    assert close(x, planned, 1e-9)


def test_fresh_noise_at_every_step_converges_to_no_sample():
    errors = strong_errors(mixture, "linear_vp", EulerMaruyama(), streams)
    assert min(errors) > 0.5
    assert abs(slope([errors[0], errors[-1]], 4.0)) < 0.3


def test_a_sample_of_a_seed_is_refined_by_more_steps():
    """100, 200, 400 steps of the same request; each sample its own limit, whatever its batch."""
    f = mixture(SCHEDULES["linear_vp"])
    request = Request((None,) * 16, seed=3)

    def made(steps, **changes):
        asked = Request(request.labels, **{"seed": 3, **changes})
        return synthesize(f, (2,), Sampling(EulerMaruyama(), Uniform(steps)), asked)

    coarse, finer, finest = made(100), made(400), made(1000)
    first, second = (coarse - finest).abs().amax(1), (finer - finest).abs().amax(1)
    assert float(first.median()) < 0.1
    assert float(second.median()) < 0.6 * float(first.median())  # the last step leaves out noise of order N^-1/2
    assert float((coarse - made(100, seed=4)).abs().median()) > 0.3
    assert torch.equal(made(100, batch=7), coarse)
