import math

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, cases, close, defaults, every_schedule, named

from reverie.losses import (
    P2,
    EDMWeight,
    LikelihoodWeight,
    MinSNR,
    SigmaSquared,
    SigmoidWeight,
    SoftMinSNR,
    Unit,
    Weight,
)
from reverie.parameterizations import rates_at
from reverie.schedules import VE, Cosine, Flow, LinearVP, SubVP, Table
from reverie.sde import SDE
from reverie.tensors import host

NOTATIONS = ("x0", "eps", "v", "score", "flow")
LEVELS = torch.tensor([0.02, 0.2, 0.5, 0.8, 0.97], dtype=DOUBLE)
ONES = torch.ones(5, dtype=DOUBLE)

PUBLISHED = {
    **{kind: w for kind, w in defaults(Weight).items() if kind != "unit"},
    "min_snr_1": MinSNR(1.0),
    "soft_min_snr_1": SoftMinSNR(1.0),
    "p2_half": P2(0.5, 0.5),
    "p2_none": P2(gamma=0.0),
    "sigmoid_minus_3": SigmoidWeight(-3.0),
    "edm_2": EDMWeight(2.0),
}
every_published = named(**PUBLISHED)


def weights(weight, schedule, notation, t=LEVELS):
    like = torch.zeros(len(t), 1, dtype=DOUBLE)
    level = schedule.at(t, like)
    return weight(level, notation, rates_at(schedule, level, like)).flatten()


def equal(a, b, tolerance=1e-9):
    """As ratios, however small or large."""
    return close((a / b).log(), torch.zeros(len(a)), tolerance)


@pytest.mark.parametrize("weight", **every_published)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_published_weight_gives_one_loss_in_every_notation(schedule, weight):
    # An error d in x0, x held: -alpha / sigma d in eps, and the rest by their definitions.
    t = LEVELS
    a, b, (da, db) = schedule.alpha(t), schedule.sigma(t), schedule.rates(t)
    d = torch.ones(5, dtype=DOUBLE)
    eps = -a / b * d
    errors = {"x0": d, "eps": eps, "v": a * eps - b * d, "score": -eps / b, "flow": da * d + db * eps}
    losses = [weights(weight, schedule, notation) * errors[notation] ** 2 for notation in NOTATIONS]
    assert (losses[0] > 0).all()
    for other in losses[1:]:
        assert equal(other, losses[0], 1e-8)


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize("name", ["cosine", "linear_vp", "table"])
def test_min_snr_is_as_published(name, gamma):
    # Hang et al. (2023), section 3.4: x0: min(SNR, g); eps: min(SNR, g) / SNR; v: min(SNR, g) / (SNR + 1).
    schedule = SCHEDULES[name]
    snr = schedule.log_snr(LEVELS).exp()
    low = torch.minimum(snr, torch.tensor(gamma))
    for notation, expected in (("x0", low), ("eps", low / snr), ("v", low / (snr + 1))):
        assert equal(weights(MinSNR(gamma), schedule, notation), expected)
    assert MinSNR().gamma == 5


@pytest.mark.parametrize("schedule", **every_schedule)
def test_weights_on_x0_and_eps_are_as_published_on_every_schedule(schedule):
    log_snr = schedule.log_snr(LEVELS)
    snr = log_snr.exp()
    assert equal(weights(SoftMinSNR(4.0), schedule, "x0"), 4 * snr / (snr + 4))  # Crowson et al. (2024), section 3.2
    assert equal(weights(P2(0.7, 0.5), schedule, "eps"), (0.7 + snr) ** -0.5)  # Choi et al. (2022), eq. 8
    for bias in (2.0, -3.0):  # Hoogeboom et al. (2025)
        assert equal(weights(SigmoidWeight(bias), schedule, "eps"), torch.sigmoid(bias - log_snr))
    assert equal(weights(SigmaSquared(), schedule, "score"), schedule.sigma(LEVELS) ** 2)  # Song & Ermon (2019)
    assert close(weights(SigmaSquared(), schedule, "eps"), ONES)
    assert (P2(), SoftMinSNR(), SigmoidWeight()) == (P2(1.0, 1.0), SoftMinSNR(4.0), SigmoidWeight(2.0))


@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
def test_edm_weight_is_as_published_and_makes_the_networks_own_error_count_equally(sigma_data):
    ve = SCHEDULES["ve"]
    sigma = ve.sigma(LEVELS)
    published = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    assert equal(weights(EDMWeight(sigma_data), ve, "x0"), published, 1e-10)
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    assert close(weights(EDMWeight(sigma_data), ve, "x0") * c_out**2, ONES, 1e-10)
    for schedule in SCHEDULES.values():
        r = (-schedule.log_snr(LEVELS) / 2).exp()
        published = (r**2 + sigma_data**2) / (r * sigma_data) ** 2
        assert equal(weights(EDMWeight(sigma_data), schedule, "x0"), published)
    assert EDMWeight().sigma_data == 0.5


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_likelihood_weight_is_the_fall_of_the_snr_and_the_diffusion_of_the_process(schedule):
    # On x0 minus d SNR / dt (Kingma et al., 2021, eq. 16), by differences; on score g^2 (Song et al., 2021b).
    t = torch.tensor([0.0213, 0.2071, 0.5077, 0.8093, 0.9671], dtype=DOUBLE)  # away from the knots
    h = 1e-6
    snr = [schedule.log_snr(t + k * h).exp() for k in (-2, -1, 1, 2)]
    fall = -(snr[0] - 8 * snr[1] + 8 * snr[2] - snr[3]) / (12 * h)
    assert equal(weights(LikelihoodWeight(), schedule, "x0", t), fall, 1e-6)
    assert equal(weights(LikelihoodWeight(), schedule, "score", t), SDE(schedule).coefficients(t)[1], 1e-9)


def test_the_diffusion_is_that_of_the_published_processes():
    beta = 0.1 + LEVELS * 19.9
    assert equal(weights(LikelihoodWeight(), LinearVP(), "score"), beta)
    alpha = LinearVP().alpha(LEVELS)
    assert equal(weights(LikelihoodWeight(), SubVP(), "score"), beta * (1 - alpha**4))
    ve = VE()
    rate = 2 * math.log(ve.high / ve.low) / (1 - ve.ramp)
    assert equal(weights(LikelihoodWeight(), ve, "score"), rate * ve.sigma(LEVELS) ** 2)
    assert equal(weights(LikelihoodWeight(), Flow(), "score"), 2 * LEVELS / (1 - LEVELS))


@pytest.mark.parametrize("schedule", **named(linear_vp=LinearVP(), sub_vp=SubVP(), ve=VE(), table=Table()))
def test_the_continuous_bound_does_not_depend_on_the_schedule_but_by_its_ends(schedule):
    # With the likelihood weight the loss is 1/2 of an integral over the SNR (Kingma et al., 2021, section 5.1): here
    # of P / (1 + P SNR), the error of the exact denoiser of data of variance P.
    power, low, high = 0.7, 0.3, 0.9
    n = 20_000
    t = high - (high - low) * (torch.arange(n, dtype=DOUBLE) + 0.5) / n
    error = power / (1 + power * schedule.log_snr(t).exp())
    integral = float((weights(LikelihoodWeight(), schedule, "x0", t) * error).mean()) * (high - low)
    ends = [1 + power * math.exp(float(schedule.log_snr(host(v)))) for v in (low, high)]
    assert integral == pytest.approx(math.log(ends[0] / ends[1]), rel=1e-4)


@pytest.mark.parametrize("notation", NOTATIONS)
def test_unit_is_one_in_every_notation(notation):
    assert close(weights(Unit(), Flow(), notation), ONES)


@pytest.mark.parametrize("notation", ["x0", "eps", "v", "score", "flow"])
@pytest.mark.parametrize("weight", **cases(Weight))
def test_a_weight_is_finite_without_any_signal(weight, notation):
    for schedule in (Cosine(), Flow(), Table([0.5, 1.0])):
        if notation == "flow" and isinstance(schedule, Table):
            continue  # its rates are nan there: see test_prediction
        value = weights(weight, schedule, notation, host([1.0]))
        assert value.isfinite().all()
        # Where x is noise alone, an error in x0 cannot be seen in eps: a weight on eps is 0 in every other notation.
        on_x0, on_eps = {"edm", "truncated_snr"}, {"min_snr", "soft_min_snr", "sigma_squared", "p2", "sigmoid"}
        if weight.kind == "unit" or (notation in ("eps", "score") and weight.kind in on_eps):
            assert close(value, host([1.0]))
        elif weight.kind in on_x0 and notation in ("x0", "v", "flow"):  # it counts the error in x0 there as well
            assert value > 0
        else:
            assert value == 0


def test_weights_of_one_level_for_all_and_of_levels_by_example_agree():
    like = torch.zeros(5, 3, dtype=DOUBLE)
    for schedule in (LinearVP(), VE(), Flow()):
        for weight in PUBLISHED.values():
            for notation in NOTATIONS:
                together = weights(weight, schedule, notation)
                for i, t in enumerate(LEVELS):
                    level = schedule.at(t, like)
                    one = weight(level, notation, rates_at(schedule, level, like))
                    assert one.ndim == 0
                    assert close(one / together[i], 1.0, 1e-12)


@pytest.mark.parametrize("weight", **every_published)
def test_a_weight_in_float32_is_that_in_float64(weight):
    like, schedule = torch.zeros(5, 1), LinearVP()
    for notation in NOTATIONS:
        level = schedule.at(LEVELS, like)
        narrow = weight(level, notation, rates_at(schedule, level, like)).flatten()
        assert narrow.dtype == torch.float32
        assert equal(narrow, weights(weight, schedule, notation), 1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MinSNR(0.0),
        lambda: MinSNR(-1.0),
        lambda: SoftMinSNR(0.0),
        lambda: P2(0.0),
        lambda: P2(1.0, -0.5),
        lambda: EDMWeight(0.0),
        lambda: EDMWeight(math.nan),
    ],
)
def test_settings_that_make_no_weight_are_refused(make):
    with pytest.raises(ValueError, match=r"needs .*> 0"):
        make()
