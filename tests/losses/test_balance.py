import math

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, defaults, named

from reverie.losses import (
    Denoising,
    EDMWeight,
    Hybrid,
    KnotTimes,
    LikelihoodWeight,
    LogitNormalTimes,
    LogNormalTimes,
    MinSNR,
    Resampled,
    SigmaSquared,
    SlicedScoreMatching,
    Times,
    UniformTimes,
    Unit,
    VariationalBound,
)
from reverie.losses.balance import _range, balanced, check_range, quantiles
from reverie.parameterizations import EDM, X0, Eps, LearnedVariance, Parameterization, Score, V, Velocity
from reverie.schedules import VE, Cosine, Flow, Geometric, LinearVP, SubVP, Table

PLAIN = {kind: p for kind, p in defaults(Parameterization).items() if p.outputs == 1}


def test_the_share_is_that_of_the_examples_that_take_part():
    for n in (1, 2, 5):
        for total, enough in ((2000 * n, True), (2000 * n + 1, False)):
            weight = torch.zeros(total, dtype=DOUBLE)
            weight[:n] = 7.0  # n equal ones among many that count nothing: a share of n / total
            assert balanced(weight) == enough
    assert balanced(torch.full((10,), 1e-300, dtype=DOUBLE) * 1e200)
    for bad in (math.nan, math.inf):
        assert not balanced(torch.tensor([1.0, 1.0, bad]))


@pytest.mark.parametrize("times", defaults(Times).values(), ids=defaults(Times))
def test_quantiles_stand_for_equal_shares(times):
    t = quantiles(times, LinearVP())
    assert len(t) == 4096
    u = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    drawn = times(u, LinearVP())
    rank = (t.flip(0)[:, None] <= drawn).double().mean(0)
    spread = 0.001 if times != KnotTimes() else 0.01
    assert ((rank - (1 - u)).abs() <= spread).all()


def test_times_without_noise_are_refused():
    with pytest.raises(ValueError, match=r"has no noise; use loss\.times\.kind=uniform"):
        Denoising("x0", LogNormalTimes(mean=-2000.0)).check(Flow(), V())


# ------------------------------------------------------------------------- the weight of the levels


@pytest.mark.parametrize(
    ("loss", "schedule", "parameterization"),
    **named(
        ddpm=(Denoising("eps", KnotTimes()), Table(), Eps()),
        cosine=(Denoising("eps", KnotTimes()), Table.cosine(), Eps()),
        edm=(Denoising("x0", LogNormalTimes(), EDMWeight()), VE(), EDM()),
        flow=(Denoising("flow", LogitNormalTimes()), Flow(), Velocity()),
        v=(Denoising("v"), Cosine(), V()),
        min_snr=(Denoising("x0", UniformTimes(), MinSNR()), Cosine(), X0()),
        score_sde=(Denoising("score", UniformTimes(), SigmaSquared()), SubVP(), Score(per_sigma=True)),
        likelihood=(Denoising("score", UniformTimes(), LikelihoodWeight()), LinearVP(), Score(per_sigma=True)),
        ncsn=(Denoising("score", KnotTimes(), SigmaSquared()), Geometric(0.01, 1.0, 10), Score()),
        ncsnv2=(Denoising("score", KnotTimes(), SigmaSquared()), Geometric(), Score(per_sigma=True)),
        ssm=(SlicedScoreMatching(KnotTimes()), Geometric(0.01, 1.0, 10), Score()),
        improved=(Hybrid(), Table.cosine(4000), LearnedVariance()),
        vlb=(Resampled(VariationalBound(), 4000), Table.cosine(4000), LearnedVariance()),
    ),
)
def test_what_has_been_published_is_taken(loss, schedule, parameterization):
    loss.check(schedule, parameterization)


def test_a_loss_that_a_few_levels_outweigh_is_refused_with_what_would_do():
    with pytest.raises(ValueError, match=r"; use loss\.notation=x0 or loss\.weight\.kind=min_snr or"):
        Denoising("score").check(Flow(), X0())
    with pytest.raises(ValueError, match=r"learned; use loss\.notation=flow or"):
        Denoising("score").check(Flow(), Velocity())
    with pytest.raises(ValueError, match=r"counts t = 0\.0001"):  # the lowest of the quantiles
        Denoising("score").check(Flow(), V())
    # a weight is the same in every notation: naming another would be no help
    with pytest.raises(ValueError, match=r"learned; use loss\.weight\.kind=min_snr or loss\.times\.kind=logit_normal$"):
        Denoising("eps", UniformTimes(1e-9), LikelihoodWeight()).check(Cosine(), X0())
    with pytest.raises(ValueError, match=r"; use loss\.weight\.kind=sigma_squared or"):
        SlicedScoreMatching(weight=Unit()).check(Flow(), V())


def test_a_variance_is_trained_by_what_trains_variances():
    for loss in (Denoising(), SlicedScoreMatching()):
        with pytest.raises(ValueError, match=r"puts out a variance.*use loss\.kind=hybrid or loss\.kind=bound"):
            loss.check(LinearVP(), LearnedVariance())
    with pytest.raises(ValueError, match=r"use parameterization\.kind=learned_variance"):
        Hybrid().check(LinearVP(), Eps())
    VariationalBound().check(LinearVP(), Eps())


# -------------------------------------------------------------------------- the sizes of the output


@pytest.mark.parametrize("schedule", [LinearVP(), VE(0.1, 5.0), Table()], ids=["linear_vp", "ve", "table"])
def test_the_largest_output_and_what_an_error_in_it_does_in_closed_form(schedule):
    # For data N(0, 1), n = alpha^2 + sigma^2: E[x0 | x] = alpha x / n, E[eps | x] = sigma x / n; an error d in x0 is
    # one of sqrt(n) / sigma d in v as it would be were n = 1.
    times = UniformTimes(0.02, 0.95)
    t = quantiles(times, schedule)
    a, b = schedule.alpha(t), schedule.sigma(t)
    da, db = schedule.rates(t)
    root = (a**2 + b**2).sqrt()
    closed = {
        "x0": (a / root, root / b),
        "eps": (b / root, root / a),
        "v": (0 * a, 1 / root),
        "score": (1 / root, root * b / a),
        "velocity": ((da * a + db * b).abs() / root, root / (a * db - b * da).abs()),
    }
    for kind, (size, effect) in closed.items():
        largest, worst = _range(times, schedule, PLAIN[kind])
        assert close(largest, float(size.quantile(0.99)), 1e-9)
        assert close(worst / float(effect.quantile(0.99)), 1.0, 1e-9)
    for a, b in zip(_range(times, schedule, Score(per_sigma=True)), _range(times, schedule, Eps()), strict=True):
        assert close(a, b)
    largest, worst = _range(times, schedule, EDM(0.5))
    assert largest <= 1.5  # (1 - sigma_data^2) / sigma_data where alpha = 1: data of another size than it was told
    assert worst <= 2


@pytest.mark.parametrize(
    "loss", **named(denoising=Denoising("flow"), bound=VariationalBound(), sliced=SlicedScoreMatching())
)
def test_an_output_of_too_many_sizes_is_refused_with_one_that_has_not(loss):
    with pytest.raises(ValueError, match=r"; use parameterization\.kind=edm or parameterization\.kind=v$"):
        loss.check(VE(), Velocity())
    with pytest.raises(ValueError, match=r"; use parameterization\.per_sigma=true or parameterization\.kind=edm or"):
        loss.check(VE(), Score())


def test_the_sizes_of_a_mean_beside_a_variance_count_as_well():
    for loss in (VariationalBound(), Hybrid("flow")):
        with pytest.raises(ValueError, match=r"; use parameterization\.mean\.kind=edm or"):
            loss.check(VE(), LearnedVariance(Velocity()))
        loss.check(VE(), LearnedVariance(EDM()))


@pytest.mark.parametrize(
    "times", [UniformTimes(), LogitNormalTimes(), LogNormalTimes(), KnotTimes()], ids=lambda t: t.kind
)
@pytest.mark.parametrize("kind", ["eps", "x0", "v", "edm"])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_outputs_of_one_size_pass_on_every_schedule(name, kind, times):
    schedule = SCHEDULES[name]
    if kind != "eps" or not schedule.ends_in_noise():
        check_range(times, schedule, PLAIN[kind])


def test_a_narrow_schedule_takes_any_output():
    for parameterization in PLAIN.values():
        check_range(UniformTimes(), VE(0.02, 20.0), parameterization)


@pytest.mark.parametrize(
    ("loss", "key"),
    [
        (VariationalBound(total=500), "loss.total"),
        (Hybrid(total=500), "loss.total"),
        (Resampled(VariationalBound(total=500)), "loss.loss.total"),
        (Denoising("eps", KnotTimes(500)), "loss.times.total"),
    ],
)
def test_another_number_of_steps_than_the_chains_is_named_by_its_own_key(loss, key):
    mean = LearnedVariance(Eps()) if isinstance(loss, Hybrid) else Eps()
    with pytest.raises(ValueError, match=rf"^{key} is 500, and the chain has 1000 steps"):
        loss.check(Table(), mean)
