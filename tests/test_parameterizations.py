import math

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, defaults, every_schedule, named, randn

from reverie.denoiser import Denoiser
from reverie.parameterizations import EDM, X0, Eps, LearnedVariance, Parameterization, Score, V, Velocity, rates_at
from reverie.prediction import posterior
from reverie.schedules import VE, Cosine, Flow, Level, LinearVP, ScaledLinearBetas, Table, ZeroTerminalSNR
from reverie.tensors import host

X = randn(4, 3, 2, seed=1)
OUT = randn(4, 3, 2, seed=2)
SHARE = randn(4, 3, 2, seed=3)
PLAIN = {**{k: p for k, p in defaults(Parameterization).items() if p.outputs == 1}, "per_sigma": Score(per_sigma=True)}
EVERY = {**PLAIN, **{f"learned_{kind}": LearnedVariance(p) for kind, p in PLAIN.items()}}
every_parameterization = named(**EVERY)


def output(parameterization):
    """What a network puts out: as much as is asked for, stacked along the axis after the batch."""
    return OUT if parameterization.outputs == 1 else torch.cat([OUT, SHARE], 1)


TIMES = torch.tensor([0.003, 0.2, 0.6, 0.95], dtype=DOUBLE)


@pytest.mark.parametrize("parameterization", **every_parameterization)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_every_output_decodes_to_a_pair_that_makes_x(schedule, parameterization):
    for t in (TIMES, *TIMES):
        level = schedule.at(t, like=X)
        q = parameterization.decode(output(parameterization), X, level, schedule)
        conditioning = 1 + float((q.x0.abs() * level.alpha).max() + (q.eps.abs() * level.sigma).max())
        assert close(level.alpha * q.x0 + level.sigma * q.eps, X, 1e-14 * conditioning)
        assert q.x is X
        assert q.level is level
        if parameterization.outputs == 1:
            assert q.var is None
        else:
            assert close(q.var, (SHARE + 1) / 2)
            mean = parameterization.mean.decode(OUT, X, level, schedule)
            assert torch.equal(q.x0, mean.x0)
            assert torch.equal(q.eps, mean.eps)


def test_decode_reads_back_the_quantity_it_is_named_for():
    for schedule in SCHEDULES.values():
        level = schedule.at(TIMES, like=X)
        decoded = {p: p.decode(OUT, X, level, schedule) for p in PLAIN.values()}
        assert torch.equal(decoded[Eps()].eps, OUT)
        assert torch.equal(decoded[X0()].x0, OUT)
        assert close(decoded[V()].v, OUT, 1e-10)
        assert close(decoded[Score()].score, OUT, 1e-12)
        assert close(level.sigma * decoded[Score(per_sigma=True)].score, OUT, 1e-12)
        assert close(decoded[Velocity()].flow(rates_at(schedule, level, X)), OUT, 1e-9)


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
@pytest.mark.parametrize("t", [0.0005, 0.3, 0.8, 1.0])
def test_edm_on_ve_is_table_1_of_karras(sigma_data, t):
    level = VE().at(host(t), like=X)
    sigma = float(level.sigma)
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / math.sqrt(sigma_data**2 + sigma**2)
    c_in = 1 / math.sqrt(sigma**2 + sigma_data**2)
    edm = EDM(sigma_data)
    assert close(edm.scale(level), c_in, 1e-14)
    assert close(edm.decode(OUT, X, level, VE()).x0, c_skip * X + c_out * OUT, 1e-14)
    assert EDM().sigma_data == 0.5


@pytest.mark.parametrize("schedule", **every_schedule)
def test_edm_is_ve_seen_through_a_rescaled_x(schedule):
    # x / alpha is a VE sample at sigma / alpha, and x0 is the same thing on both.
    level = schedule.at(TIMES, like=X)
    ratio = level.sigma / level.alpha
    ve = Level(level.t, torch.ones_like(ratio), ratio)
    here, there = EDM().decode(OUT, X, level, schedule), EDM().decode(OUT, X / level.alpha, ve, VE())
    assert close(here.x0, there.x0, 1e-11)
    assert close(EDM().scale(level) * X, EDM().scale(ve) * (X / level.alpha), 1e-12)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_edm_makes_a_network_see_and_give_unit_variance(schedule):
    # Data N(0, sigma_data^2): then the input has variance 1, and the right output is standard normal noise.
    level = schedule.at(TIMES, like=X)
    power = (level.alpha * 0.7) ** 2 + level.sigma**2
    assert close(EDM(0.7).scale(level) ** 2 * power, torch.ones_like(power), 1e-13)
    q = EDM(0.7).decode(torch.zeros_like(X), X, level, schedule)
    assert close(q.x0, level.alpha * 0.49 / power * X, 1e-13)


@pytest.mark.parametrize("parameterization", **every_parameterization)
def test_only_edm_scales_its_input(parameterization):
    scale = parameterization.scale(VE().at(host(0.5), like=X))
    assert (scale == 1.0) == ("EDM" not in repr(parameterization))
    assert parameterization.outputs == (2 if "LearnedVariance" in repr(parameterization) else 1)


def test_a_learned_variance_lies_between_the_bounds_by_the_share_that_is_put_out():
    # Nichol & Dhariwal (2021), eq. 15: v = -1 is the lower bound, beta tilde, v = 1 the upper, beta.
    level, s = Table().at(host(0.5), X), Table().at(host(0.499), X)
    for v, fraction in ((-1.0, 0.0), (1.0, 1.0), (0.0, 0.5), (3.0, 2.0)):
        out = torch.cat([OUT, torch.full_like(OUT, v)], 1)
        q = LearnedVariance().decode(out, X, level, Table())
        plain = Eps().decode(OUT, X, level, Table())
        mean, log_var = posterior(q, s)
        expected_mean, expected = posterior(plain, s, fraction)
        assert torch.equal(mean, expected_mean)
        assert close(log_var, expected.expand_as(log_var), 1e-12)
    assert LearnedVariance() == LearnedVariance(Eps())


@pytest.mark.parametrize("shape", [(4, 1), (4, 6), (4, 2, 3, 3)])
def test_the_variance_is_the_second_half_of_the_axis_after_the_batch(shape):
    x, out = randn(*shape, seed=1), randn(shape[0], 2 * shape[1], *shape[2:], seed=2)
    q = LearnedVariance(V()).decode(out, x, Flow().at(TIMES, x), Flow())
    assert close(q.v, out[:, : shape[1]], 1e-12)
    assert close(q.var, (out[:, shape[1] :] + 1) / 2)


def test_a_variance_within_a_variance_is_refused():
    with pytest.raises(ValueError, match="mean without a variance"):
        LearnedVariance(LearnedVariance())


ENDING_IN_NOISE = named(
    cosine=Cosine(), flow=Flow(), given=Table([0.5, 1.0]), zero_snr=Table(ZeroTerminalSNR(ScaledLinearBetas(20)))
)


@pytest.mark.parametrize("schedule", **ENDING_IN_NOISE)
@pytest.mark.parametrize("parameterization", **every_parameterization)
def test_alpha_zero_is_refused_by_those_who_divide_by_it_and_exact_for_the_others(parameterization, schedule):
    if getattr(parameterization, "mean", parameterization).divides_by_alpha:
        with pytest.raises(ValueError, match=r"divides by alpha.*Use parameterization.kind=v, velocity"):
            Denoiser(torch.nn.Identity(), schedule, parameterization)
        with pytest.raises(ValueError, match=type(schedule).__name__):
            parameterization.check(schedule)
    else:
        parameterization.check(schedule)
        level = schedule.at(host(1.0), like=X)
        q = parameterization.decode(output(parameterization), X, level, schedule)
        assert q.x0.isfinite().all()
        assert close(q.eps, X, 1e-12)


def test_which_parameterizations_divide_by_alpha():
    dividing = {kind for kind, p in defaults(Parameterization).items() if p.divides_by_alpha}
    assert dividing >= {"eps", "score"}
    assert not dividing & {"x0", "v", "velocity", "edm"}
    for p in defaults(Parameterization).values():
        p.check(LinearVP())


@pytest.mark.parametrize("sigma_data", [0.0, -1.0, math.nan])
def test_edm_needs_a_scale_of_the_data(sigma_data):
    with pytest.raises(ValueError, match="sigma_data > 0"):
        EDM(sigma_data)
