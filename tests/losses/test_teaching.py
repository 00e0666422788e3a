"""What losses with a teacher share: how it is led, what the student is told, what is refused."""

import math

import pytest
import torch
from guided import Deaf
from helpers import DOUBLE, Stub, close, every_schedule, labelled, mixture, named, randn
from taught import gaussian

from reverie.conditioning import Cond, Conditions
from reverie.config import to_data
from reverie.denoiser import Denoiser, Wrapper
from reverie.grids import Angle, Karras, Uniform
from reverie.losses import (
    ConsistencyMatching,
    ContinuousConsistency,
    DistributionMatching,
    Imitation,
    MeanFlow,
    Progressive,
    Reflow,
    Resampled,
    SelfConditioned,
    Shortcut,
    Uncertain,
)
from reverie.losses.teaching import landing
from reverie.nets import DiTConfig
from reverie.parameterizations import V
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Consistency, Jump
from reverie.schedules import Cosine, Flow, LinearVP
from reverie.tensors import host

N = 12
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
X0, EPS = randn(N, 2, seed=1), randn(N, 2, seed=2)
COND = Cond(label=torch.arange(N) % 2)
RANGE = (0.5, 4.0)
SCALES = RANGE[0] + (RANGE[1] - RANGE[0]) * torch.special.ndtr(EPS[:, 0])

KINDS = {
    "progressive": (Progressive, {}, DDIM(), Uniform(4)),
    "consistency": (ConsistencyMatching, {}, Consistency(), Karras(3)),
    "continuous_consistency": (ContinuousConsistency, {}, Consistency(), Karras(3)),
    "mean_flow": (MeanFlow, {}, Jump(), Uniform(3)),
    "shortcut": (Shortcut, {"taught": True}, Jump(), Uniform(3)),
    "reflow": (Reflow, {}, DDIM(), Angle(5)),
    "imitation": (Imitation, {}, DDIM(), Uniform(5)),
    "distribution_matching": (DistributionMatching, {}, Consistency(), Uniform(1)),
}
every_kind = named(**{name: name for name in KINDS})
kinds_of_several_scales = named(**{name: name for name in KINDS if name != "distribution_matching"})


def made(kind, **settings):
    cls, own, _, _ = KINDS[kind]
    return cls(**own, **settings)


class Keeping(Stub):
    """A student that keeps what it was told."""

    def __init__(self, schedule):
        super().__init__(schedule, lambda x, t: torch.tanh(x) / (1 + t.reshape(-1, 1)))
        self.told = []

    def __call__(self, x, t, cond=None):
        self.told.append(cond)
        return super().__call__(x, t.expand(len(x)), cond)


class Led(Wrapper):
    """Led by one scale, in two evaluations by hand."""

    def __init__(self, denoiser, weaker, scale):
        super().__init__(denoiser)
        self.weaker, self.scale = weaker, scale

    def __call__(self, x, t, cond=None):
        a, b = self.denoiser(x, t, cond), self.weaker(x, t, cond)
        return Prediction.from_x0(b.x0 + self.scale * (a.x0 - b.x0), x, a.level)


def shrinking(schedule):
    return Stub(schedule, lambda x, t: 0.4 * x)


class Stages:
    """Of a run, by name."""

    shape = (2,)

    def __init__(self, **models):
        self.models = models

    def stage(self, name):
        return self.models[name]


def value(loss, f, rows=slice(None), cond=COND):
    return loss(f, X0[rows], U[rows], None if cond is None else cond[rows], lambda like: EPS[rows])


@pytest.mark.parametrize("schedule", **every_schedule)
def test_one_step_of_ddim_lands_where_it_was_to_land(schedule):
    x, z = randn(4, 2, 3, seed=3), randn(4, 2, 3, seed=4)
    t, s = host([1.0, 0.8, 0.5, 0.06]), host([0.4, 0.0, 0.45, 0.03])
    q = landing(x, schedule.at(t, like=x), z, schedule.at(s, like=x))
    f = Stub(schedule, lambda x, t: q.x0)
    assert close(DDIM().step(f, x, t, s, None, torch.zeros_like, None)[0], z, 1e-8)
    assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, x, 1e-8)


# -------------------------------------------------------------------------------- how it is led


@pytest.mark.parametrize("kind", **every_kind)
def test_a_guided_teacher_says_what_two_evaluations_make(kind):
    data, f = labelled(LinearVP()), Keeping(LinearVP())
    by_hand = made(kind).taught_by(Led(data, Deaf(data), 2.5))
    guided = made(kind, guidance=(2.5, 2.5)).taught_by(data)
    assert close(value(guided, f), value(by_hand, f), 1e-9)
    assert all(cond is None or cond.scale is None for cond in f.told)
    assert not close(value(guided, f), value(made(kind).taught_by(data), f), 1e-3)


@pytest.mark.parametrize("kind", **every_kind)
def test_an_auto_guided_teacher_is_led_away_from_the_weaker_one(kind):
    data, weaker, f = mixture(LinearVP()), shrinking(LinearVP()), Keeping(LinearVP())
    loss = made(kind, guidance=(2.5, 2.5), led="auto")
    assert loss.needs == ("teacher", "weaker")
    opened = loss.opened(Stages(teacher=data, weaker=weaker))
    by_hand = made(kind).opened(Stages(teacher=Led(data, weaker, 2.5)))
    assert close(value(opened, f, cond=None), value(by_hand, f, cond=None), 1e-9)
    assert not close(value(opened, f, cond=None), value(made(kind).taught_by(data), f, cond=None), 1e-3)


@pytest.mark.parametrize("led", ["classifier_free", "auto"])
@pytest.mark.parametrize("kind", **kinds_of_several_scales)
def test_of_several_scales_each_example_has_its_own_and_the_student_is_told_it(kind, led):
    data, f = labelled(LinearVP()), Keeping(LinearVP())
    weaker = shrinking(LinearVP())
    several = made(kind, guidance=RANGE, led=led).taught_by(data, weaker)
    assert several.scales
    together = value(several, f)
    assert f.told
    for cond in f.told:
        assert close(cond.scale, SCALES)
        assert torch.equal(cond.label, COND.label)
    for i in range(N):
        one = float(SCALES[i])
        alone = value(made(kind, guidance=(one, one), led=led).taught_by(data, weaker), f, slice(i, i + 1))
        assert close(together[i], alone[0], 1e-9)


def test_the_scales_are_uniform_between_the_lowest_and_the_highest():
    n = 1000
    z = torch.special.ndtri((torch.arange(n, dtype=DOUBLE) + 0.5) / n)[:, None].expand(n, 3)
    loss = Progressive(guidance=(2.0, 5.0)).taught_by(labelled(Flow()))
    _, told = loss.lesson(labelled(Flow()), z, None, lambda like: z)
    assert close(told.scale, 2 + 3 * (torch.arange(n, dtype=DOUBLE) + 0.5) / n, 1e-9)


def test_the_teacher_is_not_told_the_scale():
    class Asked(Wrapper):
        def __call__(self, x, t, cond=None):
            assert cond.scale is None
            asked.append(cond)
            return self.denoiser(x, t, cond)

    asked = []
    for kind in kinds_of_several_scales["argvalues"]:
        value(made(kind, guidance=RANGE).taught_by(Asked(labelled(LinearVP()))), Keeping(LinearVP()))
    assert asked


@pytest.mark.parametrize("kind", **every_kind)
def test_a_teacher_of_another_process_is_brought_to_that_of_the_student(kind):
    f, x0, eps = Keeping(Flow()), randn(N, 3, seed=1), randn(N, 3, seed=2)
    found, expected, without = (
        made(kind).taught_by(teacher)(f, x0, U, None, lambda like: eps)
        for teacher in (gaussian(Cosine()), gaussian(Flow()), Claiming(gaussian(Cosine()), Flow()))
    )
    assert close(found, expected, 1e-9)
    assert not close(without, expected, 1e-3)


class Claiming:
    """A denoiser that says it were one of another process."""

    def __init__(self, denoiser, schedule):
        self.denoiser, self.schedule = denoiser, schedule

    def __call__(self, x, t, cond=None):
        q = self.denoiser(x, t, cond)
        return Prediction.from_x0(q.x0, x, self.schedule.at(t, like=x))


# ------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("kind", **every_kind)
def test_a_loss_that_was_not_opened_says_so(kind):
    with pytest.raises(ValueError, match=f"loss.kind={kind} has a teacher, and is not opened: call `taught_by`"):
        value(made(kind), Keeping(LinearVP()))


@pytest.mark.parametrize("cls", [ConsistencyMatching, ContinuousConsistency, MeanFlow, Shortcut])
def test_without_a_teacher_none_is_needed(cls):
    loss = cls(taught=False)
    assert loss.needs == ()
    assert loss.opened(Stages()) is loss
    assert not loss.scales
    with pytest.raises(ValueError, match="are of a teacher"):
        cls(taught=False, guidance=(1.0, 3.0))
    assert value(loss, Keeping(LinearVP())).shape == (N,)


@pytest.mark.parametrize("kind", **every_kind)
def test_an_opened_loss_has_the_same_settings(kind):
    loss = made(kind)
    opened = loss.taught_by(labelled(LinearVP()))
    assert opened == loss
    assert to_data(opened) == to_data(loss)


def test_a_loss_around_one_with_a_teacher_opens_it():
    data, f = labelled(LinearVP()), Keeping(LinearVP())
    around = Uncertain(MeanFlow(guidance=RANGE))
    assert around.needs == ("teacher",)
    assert around.leaps
    assert around.scales
    expected = value(MeanFlow(guidance=RANGE).taught_by(data), f)
    assert close(value(around.opened(Stages(teacher=data)), f), expected)
    assert Uncertain(MeanFlow(taught=False)).opened(Stages()) == Uncertain(MeanFlow(taught=False))


@pytest.mark.parametrize("around", [Uncertain, SelfConditioned, Resampled])
@pytest.mark.parametrize("inside", [ContinuousConsistency, ConsistencyMatching])
def test_a_loss_around_one_that_counts_the_steps_done_tells_it_of_them(around, inside):
    loss = around(inside(taught=False))
    memory = loss.memory()
    for _ in range(3):
        loss.observe(memory, U, U)
    assert [int(v) for name, v in memory.named_buffers() if name.endswith("done")] == [3]


@pytest.mark.parametrize("guidance", [(-0.1, 1.0), (3.0, 2.0), (1.0, math.inf), (math.nan, 2.0), (1.0, math.nan)])
@pytest.mark.parametrize("kind", **every_kind)
def test_scales_of_guidance_below_0_or_out_of_order_are_refused(kind, guidance):
    with pytest.raises(ValueError, match="lowest and the highest scale"):
        made(kind, guidance=guidance)


@pytest.mark.parametrize("kind", **kinds_of_several_scales)
def test_a_scale_that_was_not_learned_is_refused(kind):
    _, _, sampler, grid = KINDS[kind]
    loss = made(kind, guidance=RANGE)
    for scale in (0.5, 1.0, 4.0):
        loss.check_sampling(sampler, grid, Cosine(), scale)
    for scale in (0.4, 4.1, 0.0):
        with pytest.raises(ValueError, match=rf"learned guidance of 0\.5 to 4; given guidance={scale:g}"):
            loss.check_sampling(sampler, grid, Cosine(), scale)


@pytest.mark.parametrize("kind", **every_kind)
def test_guidance_on_top_of_learned_guidance_is_refused(kind):
    _, _, sampler, grid = KINDS[kind]
    made(kind).check_sampling(sampler, grid, Cosine(), 3.0)
    loss = made(kind, guidance=(2.0, 2.0))
    loss.check_sampling(sampler, grid, Cosine(), 1.0)
    with pytest.raises(ValueError, match="guidance of 2 is part of what this model has learned, and guidance=3"):
        loss.check_sampling(sampler, grid, Cosine(), 3.0)


# ---------------------------------------------------------------------------------- half precision


def network(seed, conditions):
    torch.manual_seed(seed)
    net = DiTConfig(width=16, depth=1, heads=2).build((1, 4, 4), conditions)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return Denoiser(net, Cosine(), V())


@pytest.mark.parametrize("kind", **every_kind)
def test_in_bfloat16_loss_and_gradient_are_near_those_in_float32(kind):
    guidance = (2.0, 2.0) if kind == "distribution_matching" else (1.0, 3.0)
    loss = made(kind, guidance=guidance)
    teacher = network(1, Conditions(classes=2))
    f = network(2, Conditions(classes=2, until=loss.leaps, scale=loss.scales))
    bring = Stages(teacher=teacher)
    x0, eps = (randn(N, 1, 4, 4, seed=seed).float() for seed in (1, 2))
    u, found = 0.02 + 0.96 * U, []
    for half in (False, True):
        memory = loss.memory(bring)
        f.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            values = loss.opened(bring)(f, x0, u, COND, lambda like: eps, memory)
        values.mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in f.parameters() if p.grad is not None])
        assert values.shape == (N,)
        assert values.isfinite().all()
        assert gradient.isfinite().all()
        found.append((values.detach().double(), gradient.double()))
    (exact, slope), (rounded, rounded_slope) = found
    assert (rounded - exact).norm() < 0.1 * exact.norm()
    assert torch.nn.functional.cosine_similarity(slope, rounded_slope, dim=0) > 0.9
