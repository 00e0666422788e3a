from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from helpers import (
    DETERMINISTIC,
    DOUBLE,
    SAMPLERS,
    SCHEDULES,
    STOCHASTIC,
    close,
    defaults,
    every_sampler,
    every_schedule,
    gaussian,
    labelled,
    mixture,
    named,
    noise_from,
    randn,
    seeded,
)

from reverie.conditioning import Cond
from reverie.grids import Uniform
from reverie.samplers import (
    DDIM,
    RK4,
    Adams,
    Adaptive,
    Ancestral,
    AnnealedLangevin,
    DPMSolverPP2S,
    Heun,
    Midpoint,
    Picard,
    Weighed,
)
from reverie.sampling import Step, generate, invert, prior, trajectory
from reverie.schedules import VE, Cosine, Flow, LinearVP, Schedule
from reverie.tensors import host, streams

TIMES = torch.tensor([1.0, 0.7, 0.3, 0.1, 0.0], dtype=DOUBLE)
every_registered_schedule = named(**defaults(Schedule))


def top(schedule, sampler):
    """The largest time that the sampler takes: 1, but for those that divide by an alpha of 0."""
    try:
        sampler.check(schedule, host([1.0, 0.0]))
    except ValueError:
        return 0.999
    return 1.0


@pytest.mark.parametrize("sampler", **every_sampler)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_step_by_example_is_the_scalar_step_of_each(schedule, sampler):
    f, x, z = mixture(schedule), randn(5, 2, seed=1), randn(5, 2, seed=2)
    t = torch.tensor([top(schedule, sampler), 0.9, 0.5, 0.2, 0.05], dtype=DOUBLE)
    s = torch.tensor([0.8, 0.0, 0.4, 0.0, 0.04], dtype=DOUBLE)
    for ends in (s, s + 0.01, torch.zeros(5, dtype=DOUBLE)):
        whole = sampler.step(f, x, t, ends, None, lambda l: z, sampler.init())[0]
        for i in range(5):
            one = sampler.step(f, x[i : i + 1], t[i], ends[i], None, lambda l, i=i: z[i : i + 1], sampler.init())[0]
            assert close(whole[i], one[0], 1e-11)


@pytest.mark.parametrize("sampler", **every_sampler)
def test_a_time_for_each_example_is_not_a_time_for_each_column(sampler):
    f, x, z = gaussian(LinearVP()), randn(3, 3, seed=1), randn(3, 3, seed=2)
    t = torch.tensor([0.9, 0.5, 0.2], dtype=DOUBLE)
    whole = sampler.step(f, x, t, t / 2, None, lambda l: z, sampler.init())[0]
    for i in range(3):
        one = sampler.step(f, x[i : i + 1], t[i], t[i] / 2, None, lambda l, i=i: z[i : i + 1], sampler.init())[0]
        assert close(whole[i], one[0], 1e-11)


@pytest.mark.parametrize("sampler", **every_sampler)
def test_a_step_taken_twice_gives_the_same_answer_and_changes_nothing(sampler):
    f, x = mixture(Cosine()), randn(5, 2)
    kept, state, before = x.clone(), sampler.init(), repr(sampler)
    first, second = (sampler.step(f, x, host(0.5), host(0.2), None, noise_from(seeded(1)), state)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(x, kept)
    assert repr(sampler) == before
    if fields(sampler):
        with pytest.raises(FrozenInstanceError):
            setattr(sampler, fields(sampler)[0].name, 0.3)


OPEN = (Adams, Adaptive, DPMSolverPP2S, Midpoint, Picard, RK4, Weighed)
"""Samplers that say more of the data than their last evaluation does."""


@pytest.mark.parametrize("sampler", **named(**{k: s for k, s in SAMPLERS.items() if not isinstance(s, OPEN)}))
@pytest.mark.parametrize("schedule", **every_registered_schedule)
def test_the_last_step_gives_the_data(schedule, sampler):
    # From a new state x at t = 0 is x0 of the last evaluation, without noise.
    f, x, said = mixture(schedule), randn(5, 2), []

    class Watched:
        schedule = f.schedule

        def __call__(self, x, t, cond=None):
            said.append(f(x, t, cond))
            return said[-1]

    for z in (0.0, 1.0):
        s = sampler.step(Watched(), x, host(0.3), host(0.0), None, lambda l, z=z: z + 0 * l, sampler.init())[0]
        assert close(s, said[-1].x0, 1e-12)
    if len(said) == 2 and getattr(sampler, "churn", 0) == 0:
        assert close(said[0].x0, said[1].x0)
        assert close(s, f(x, host(0.3)).x0, 1e-12)


@pytest.mark.parametrize("sampler", **every_sampler)
@pytest.mark.parametrize("schedule", **every_registered_schedule)
def test_samples_in_float32_are_those_in_float64(schedule, sampler):
    f = mixture(schedule)
    times = Uniform(20, top(schedule, sampler))(schedule)
    wide, narrow = (
        generate(f, sampler, times, prior(schedule, times[0], like, streams(range(8))), noise=streams(range(20, 28)))
        for like in (torch.zeros(8, 2, dtype=DOUBLE), torch.zeros(8, 2))
    )
    assert narrow.dtype == torch.float32
    assert close(wide, narrow, 2e-4)


# ----------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("sampler", **every_sampler)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_sample_is_the_same_in_any_batch(sampler, batch):
    sampler = replace(sampler, steps=2) if isinstance(sampler, AnnealedLangevin) else sampler
    f, n = mixture(LinearVP()), 64
    grid = Uniform(6)(f.schedule)

    def run(seeds):
        like = torch.zeros(len(seeds), 2)
        noise = streams(seeds)
        return generate(f, sampler, grid, prior(f.schedule, grid[0], like, noise), noise=noise)

    whole = run(range(n))
    parts = [run(range(i, min(i + batch, n))) for i in range(0, n, batch)]
    assert close(torch.cat(parts), whole, 1e-5)
    backwards = run(range(9, -1, -1))
    assert close(backwards.flip(0), whole[:10], 1e-5)


# -------------------------------------------------------------------------------- trajectory


def test_trajectory_yields_each_step_and_generate_the_last():
    f, x = mixture(Cosine()), randn(3, 2)
    steps = list(trajectory(f, DDIM(), TIMES, x))
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert [float(step.t) for step in steps] == TIMES[:-1].tolist()
    assert [float(step.s) for step in steps] == TIMES[1:].tolist()
    assert isinstance(steps[0], Step)
    assert torch.equal(steps[-1].x, generate(f, DDIM(), TIMES, x))
    for before, step in zip([x] + [step.x for step in steps], steps, strict=False):
        assert torch.equal(step.x, DDIM().step(f, before, step.t, step.s, None, torch.randn_like, None)[0])


def test_trajectory_can_be_stopped_and_taken_up_again():
    f, x = mixture(Cosine()), randn(3, 2)
    half = next(step.x for step in trajectory(f, Heun(), TIMES, x) if step.index == 1)
    assert torch.equal(generate(f, Heun(), TIMES[2:], half), generate(f, Heun(), TIMES, x))


def test_no_gradients_are_recorded_and_the_callers_mode_is_kept():
    scale = torch.nn.Parameter(torch.tensor(1.0, dtype=DOUBLE))

    class Learned:
        schedule = Cosine()

        def __call__(self, x, t, cond=None):
            assert not torch.is_grad_enabled()
            return mixture(self.schedule)(scale * x, t)

    for step in trajectory(Learned(), DDIM(), TIMES, randn(3, 2)):
        assert not step.x.requires_grad
        assert torch.is_grad_enabled()
    assert not invert(Learned(), DDIM(), TIMES, randn(3, 2)).requires_grad


@pytest.mark.parametrize("times", [[0.5], [0.2, 0.5], [0.5, 0.5, 0.0], [1.1, 0.0], [0.5, -0.1], [[1.0, 0.0]]])
@pytest.mark.parametrize("use", [trajectory, generate, invert])
def test_times_that_cannot_be_followed_are_refused_at_once(use, times):
    with pytest.raises(ValueError, match="times must"):
        use(mixture(Cosine()), DDIM(), torch.tensor(times), randn(3, 2))


@pytest.mark.parametrize("sampler", **every_sampler)
def test_conditions_and_noise_reach_the_denoiser(sampler):
    f, x = labelled(LinearVP()), randn(4, 2)
    cond = Cond(label=torch.tensor([0, 1, 0, 1]))
    mixed = generate(f, sampler, TIMES, x, cond, noise_from(seeded(1)))
    for label in (0, 1):
        one = generate(f, sampler, TIMES, x, Cond(label=torch.full((4,), label)), noise_from(seeded(1)))
        assert close(mixed[label::2], one[label::2], 1e-11)
    assert not close(mixed, generate(f, sampler, TIMES, x, None, noise_from(seeded(1))), 1e-3)
    other = generate(f, sampler, TIMES, x, cond, noise_from(seeded(2)))
    assert close(mixed, other, 1e-12) == sampler.deterministic


@pytest.mark.parametrize("sampler", **every_sampler)
def test_no_sampler_asks_about_the_data_level(sampler):
    class Watched:
        schedule = Flow()

        def __call__(self, x, t, cond=None):
            assert bool((t > 0).all())
            return mixture(self.schedule)(x, t)

    generate(Watched(), sampler, TIMES * top(Flow(), sampler), randn(3, 2))
    t, s = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.0, 0.0])
    assert sampler.step(Watched(), randn(3, 2), t, s, None, torch.randn_like, sampler.init())[0].isfinite().all()


@pytest.mark.parametrize("schedule", **every_schedule)
def test_prior_is_noise_of_the_schedules_size(schedule):
    like, z = torch.zeros(3, 2, dtype=DOUBLE), randn(3, 2)
    for t in (1.0, 0.3, host(0.3)):
        assert close(prior(schedule, t, like, lambda l: z), schedule.sigma(host(t)) * z, 1e-14)
    assert prior(schedule, 1.0, like.float()).dtype == torch.float32


# ------------------------------------------------------------------------------------ invert


@pytest.mark.parametrize("sampler", **named(**STOCHASTIC))
def test_samplers_that_draw_noise_cannot_be_inverted(sampler):
    with pytest.raises(ValueError, match="draws noise and cannot be inverted"):
        invert(mixture(Cosine()), sampler, TIMES, randn(3, 2))


@pytest.mark.parametrize("sampler", **named(**{k: s for k, s in DETERMINISTIC.items() if not s.invertible}))
def test_samplers_that_look_back_cannot_be_inverted(sampler):
    with pytest.raises(ValueError, match="looks back over several steps and cannot be inverted"):
        invert(mixture(Cosine()), sampler, TIMES, randn(3, 2))


@pytest.mark.parametrize("sampler", **named(**{k: s for k, s in DETERMINISTIC.items() if s.invertible}))
def test_inversion_of_a_class_stays_in_the_class(sampler):
    f = labelled(LinearVP())
    cond = Cond(label=torch.tensor([0, 1, 0, 1]))
    times = torch.linspace(1, 0, 401, dtype=DOUBLE)[100:] ** 2
    x = f.means[[0, 1, 2, 3]] + 0.1
    assert close(generate(f, sampler, times, invert(f, sampler, times, x, cond), cond), x, 0.02)


def test_inversion_from_above_the_data_follows_the_ode():
    f, x = gaussian(SCHEDULES["cosine"]), randn(4, 3)
    times = torch.linspace(0.8, 0.2, 401, dtype=DOUBLE)
    assert close(invert(f, Heun(), times, x), f.solution(x, 0.2, 0.8), 1e-5)


def test_the_first_step_of_an_inversion_reads_its_noise_at_the_lowest_level():
    f, x = gaussian(VE()), randn(4, 3)
    first = host(0.4)
    eps = f(x, first).eps
    assert close(invert(f, DDIM(), torch.tensor([0.4, 0.0], dtype=DOUBLE), x), x + VE().sigma(first) * eps, 1e-8)
    vp = gaussian(LinearVP())
    level = LinearVP().at(host(0.25), x)
    expected = level.alpha * x + level.sigma * vp(level.alpha * x, host(0.25)).eps
    assert close(invert(vp, DDIM(), torch.tensor([0.25, 0.0]), x), expected, 1e-12)
    assert Ancestral().deterministic is False


# ------------------------------------------------------------------- denoisers told their own estimate


class Told:
    """A denoiser that keeps what it is told, and believes half of it."""

    self_conditioned = True

    def __init__(self, schedule):
        self.inner, self.seen = mixture(schedule), []

    @property
    def schedule(self):
        return self.inner.schedule

    def __call__(self, x, t, cond=None):
        estimate = None if cond is None else cond.estimate
        q = self.inner(x, t)
        self.seen.append((estimate, q.x0 if estimate is None else (q.x0 + estimate) / 2))
        return q.with_x0(self.seen[-1][1])


@pytest.mark.parametrize("sampler", **named(**{k: s for k, s in SAMPLERS.items() if not isinstance(s, Picard)}))
def test_every_sampler_passes_the_last_estimate_on_and_begins_without_one(sampler):
    f, cond = Told(LinearVP()), Cond(label=torch.tensor([0, 1, 0]))
    runs = []
    for _ in range(2):
        f.seen.clear()
        runs.append(generate(f, sampler, TIMES, randn(3, 2), cond, noise_from(seeded(1))))
        assert f.seen[0][0] is None
        for before, now in zip(f.seen[:-1], f.seen[1:], strict=True):
            assert now[0] is before[1]
    assert torch.equal(*runs)
    assert cond.estimate is None


def test_two_trajectories_at_once_do_not_hear_each_other():
    f, x, y = Told(Cosine()), randn(3, 2, seed=1), randn(3, 2, seed=2)
    alone = [generate(f, DDIM(), TIMES, z) for z in (x, y)]
    together = list(zip(trajectory(f, DDIM(), TIMES, x), trajectory(f, DDIM(), TIMES, y), strict=True))
    assert torch.equal(together[-1][0].x, alone[0])
    assert torch.equal(together[-1][1].x, alone[1])


def test_a_denoiser_that_does_not_ask_is_not_told():
    seen = []

    class Plain:
        schedule = Cosine()

        def __call__(self, x, t, cond=None):
            seen.append(cond)
            return mixture(self.schedule)(x, t)

    generate(Plain(), DDIM(), TIMES, randn(3, 2))
    assert seen == [None] * 4
