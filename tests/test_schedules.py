import math
from dataclasses import dataclass

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, defaults, every_schedule, named, randn

from reverie.config import from_data, to_data
from reverie.noise_levels import level_ratio
from reverie.parameterizations import Eps, Score, V
from reverie.schedules import (
    VE,
    Betas,
    Cosine,
    CosineBetas,
    Flow,
    Geometric,
    GivenBetas,
    LinearBetas,
    LinearVP,
    ScaledLinearBetas,
    Schedule,
    Shifted,
    SigmoidBetas,
    SubVP,
    Table,
    ZeroTerminalSNR,
)
from reverie.tensors import host

T = torch.tensor([1e-4, 3e-4, 5e-4, 0.0123, 0.1, 0.2503, 0.5, 0.7777, 0.9, 0.99, 0.9995], dtype=DOUBLE)
ZERO, ONE = torch.zeros((), dtype=DOUBLE), torch.ones((), dtype=DOUBLE)
VARIANCE_PRESERVING = [k for k, v in SCHEDULES.items() if type(v).normalized is Schedule.normalized]
SHIFTED = {
    f"{name}_by_{factor:g}": Shifted(schedule, factor) for name, schedule in SCHEDULES.items() for factor in (0.3, 4.0)
}
every_shifted = named(**SHIFTED)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_time_zero_is_the_data(schedule):
    assert schedule.alpha(ZERO) == 1
    assert schedule.sigma(ZERO) == 0
    assert schedule.log_snr(ZERO) == math.inf


@pytest.mark.parametrize("schedule", **every_schedule)
def test_log_snr_falls_strictly_and_noise_and_signal_are_monotone(schedule):
    t = torch.linspace(0, 1, 4001, dtype=DOUBLE)
    assert (schedule.log_snr(t).diff() < 0).all()
    assert (schedule.sigma(t)[1:] > 0).all()
    assert (schedule.sigma(t).diff() > -1e-15).all()
    assert (schedule.alpha(t).diff() <= 1e-15).all()
    assert (schedule.alpha(t) >= 0).all()


@pytest.mark.parametrize("schedule", **every_schedule)
def test_sigma_is_continuous(schedule):
    t = torch.linspace(0, 1, 100_001, dtype=DOUBLE)
    for value in (schedule.sigma(t), schedule.alpha(t)):
        assert value.diff().abs().max() < 1e-3 * max(1.0, float(value.max())) * 5


@pytest.mark.parametrize("schedule", **every_schedule)
def test_log_snr_is_that_of_alpha_and_sigma(schedule):
    assert close(schedule.log_snr(T), 2 * (schedule.alpha(T) / schedule.sigma(T)).log(), 1e-10)
    assert close(schedule.log_snr(T), Schedule.log_snr(schedule, T), 1e-10)
    level = schedule.at(T, like=torch.zeros(len(T), 2, dtype=DOUBLE))
    assert close(level.log_snr.flatten(), schedule.log_snr(T), 1e-10)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_time_inverts_log_snr(schedule):
    assert close(schedule.time(schedule.log_snr(T)), T, 1e-12)
    assert close(Schedule.time(schedule, schedule.log_snr(T)), T, 1e-12)
    for t in (T[0], T[5], T[-1]):
        assert close(schedule.time(schedule.log_snr(t)), t, 1e-12)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_log_snr_inverts_time_far_out(schedule):
    log_snr = torch.tensor([25.0, 18.0, 9.0, 0.0, -2.0], dtype=DOUBLE)
    reachable = log_snr > schedule.log_snr(ONE)
    assert close(schedule.log_snr(schedule.time(log_snr[reachable])), log_snr[reachable], 1e-10)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_time_is_clamped(schedule):
    ends = torch.tensor([math.inf, -math.inf], dtype=DOUBLE)
    assert schedule.time(ends).tolist() == [0, 1]
    below = schedule.log_snr(ONE) - 3
    assert schedule.time(below) == 1
    assert close(schedule.time(torch.tensor(60.0, dtype=DOUBLE)), 0.0, 1e-8)
    assert close(schedule.time(schedule.log_snr(ONE)), 1.0, 1e-12)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_rates_against_central_differences(schedule):
    t = torch.tensor([2.3e-4, 0.0123, 0.1003, 0.2503, 0.5003, 0.7777, 0.9003], dtype=DOUBLE)
    h = (t / 1000).clamp(max=1e-5)
    da, db = schedule.rates(t)
    for rate, f in ((da, schedule.alpha), (db, schedule.sigma)):
        numeric = (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)
        assert close(rate, numeric, 1e-7)
    for generic, own in zip(Schedule.rates(schedule, t), (da, db), strict=True):
        assert close(generic, own, 1e-12)
    scalar = schedule.rates(t[3])
    assert close(scalar[0], da[3])
    assert close(scalar[1], db[3])


@pytest.mark.parametrize("name", VARIANCE_PRESERVING)
def test_variance_preserving(name):
    assert len(VARIANCE_PRESERVING) >= 6
    schedule = SCHEDULES[name]
    assert close(schedule.alpha(T) ** 2 + schedule.sigma(T) ** 2, torch.ones_like(T), 1e-14)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_normalized_leaves_a_pair_of_the_process_and_restores_a_scaled_one(schedule):
    alpha, sigma = schedule.alpha(T), schedule.sigma(T)
    for scale in (1.0, 0.2, 30.0):
        a, b = schedule.normalized(scale * alpha, scale * sigma)
        assert close(a, alpha, 1e-13)
        assert close(b / sigma, torch.ones_like(T), 1e-13)
    first, last = (schedule.normalized(schedule.alpha(t), schedule.sigma(t)) for t in (ZERO, ONE))
    assert first == (1, 0)
    assert close(torch.stack(last), torch.stack([schedule.alpha(ONE), schedule.sigma(ONE)]), 1e-13)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_nothing_is_learnt_from_the_data_unless_said(schedule):
    assert schedule.learns is False
    assert schedule.fit(randn(5, 3)) == schedule


def test_the_number_of_knots():
    knots = {name: schedule.knots for name, schedule in SCHEDULES.items() if schedule.knots is not None}
    assert {k: knots[k] for k in ("geometric", "table", "table_short", "table_zero_snr")} == {
        "geometric": 232,
        "table": 1000,
        "table_short": 20,
        "table_zero_snr": 4,
    }
    assert not knots.keys() & {"cosine", "flow", "linear_vp", "sub_vp", "ve", "shifted"}
    assert Shifted(Table.linear(7)).knots == 7
    assert Geometric(levels=5).knots == 5


@pytest.mark.parametrize("schedule", **every_schedule)
def test_at_evaluates_in_float64_and_rounds_once(schedule):
    like = torch.zeros(3, 2, 2)
    shared = schedule.at(torch.tensor(0.3), like)
    assert shared.alpha.ndim == 0
    assert shared.alpha.dtype == DOUBLE
    t = torch.tensor([0.1, 0.2, 0.9])
    level = schedule.at(t, like)
    assert level.sigma.shape == (3, 1, 1)
    assert level.sigma.dtype == torch.float32
    assert torch.equal(level.sigma.flatten(), schedule.sigma(t.double()).float())
    assert torch.equal(level.alpha.flatten(), schedule.alpha(t.double()).float())
    assert torch.equal(level.t.flatten(), t)


@pytest.mark.parametrize(
    ("schedule", "ends"),
    [(Cosine(), True), (Flow(), True), (LinearVP(), False), (VE(), False), (Table(), False), (Table([0.5, 1]), True)],
)
def test_ends_in_noise(schedule, ends):
    assert schedule.ends_in_noise() is ends


# ------------------------------------------------------------------------------ closed forms


def test_cosine():
    assert close(Cosine().alpha(T), torch.cos(math.pi * T / 2), 1e-14)
    assert close(Cosine().sigma(T), torch.sin(math.pi * T / 2), 1e-14)
    assert Cosine().alpha(ONE) == 0


def test_flow():
    assert torch.equal(Flow().alpha(T), 1 - T)
    assert torch.equal(Flow().sigma(T), T)
    assert [r.tolist() for r in Flow().rates(T[:2])] == [[-1, -1], [1, 1]]


@pytest.mark.parametrize(("low", "high"), [(0.1, 20.0), (0.5, 3.0), (2.0, 2.0)])
def test_linear_vp_solves_its_sde(low, high):
    # d log alpha / dt = -beta / 2, beta(t) = low + t (high - low): integrated here by Simpson's rule, exact for it.
    schedule = LinearVP(low, high)
    beta = low + T * (high - low)
    middle = low + T / 2 * (high - low)
    integral = T / 6 * (low + 4 * middle + beta)
    assert close(schedule.alpha(T), (-integral / 2).exp(), 1e-14)
    assert close(schedule.rates(T)[0], -beta / 2 * schedule.alpha(T), 1e-12)
    assert close(schedule.time(schedule.log_snr(T)), T, 1e-12)


def test_linear_vp_defaults_are_those_of_score_sde():
    assert (LinearVP().beta_min, LinearVP().beta_max) == (0.1, 20.0)


@pytest.mark.parametrize(("low", "high"), [(0.1, 20.0), (0.5, 3.0), (2.0, 2.0)])
def test_sub_vp_has_the_signal_of_vp_and_its_variance_for_a_standard_deviation(low, high):
    schedule, vp = SubVP(low, high), LinearVP(low, high)
    assert torch.equal(schedule.alpha(T), vp.alpha(T))
    assert close(schedule.sigma(T) / vp.sigma(T) ** 2, torch.ones_like(T), 1e-14)
    assert close(schedule.sigma(T), 1 - schedule.alpha(T) ** 2, 1e-15)
    assert close(schedule.time(schedule.log_snr(T)), T, 1e-13)
    assert (SubVP().beta_min, SubVP().beta_max) == (0.1, 20.0)


def test_sub_vp_loses_no_digits_near_the_data():
    t = torch.logspace(-12, -2, 11, dtype=DOUBLE)
    schedule = SubVP(2.0, 2.0)  # 1 - alpha^2 = 1 - exp(-2 t)
    series = 2 * t - 2 * t**2 + 4 / 3 * t**3 - 2 / 3 * t**4 + 4 / 15 * t**5
    assert (schedule.sigma(t) / series - 1).abs().max() < 1e-10
    assert (schedule.time(schedule.log_snr(t)) / t - 1).abs().max() < 1e-13
    assert (schedule.log_snr(t) + 2 * schedule.sigma(t).log() - schedule.alpha(t).log() * 2).abs().max() < 1e-13


def test_ve_is_geometric_above_its_ramp():
    schedule = VE(0.01, 50.0, ramp=0.01)
    t = torch.linspace(0.01, 1, 34, dtype=DOUBLE)
    sigma = schedule.sigma(t)
    assert close(sigma[0], 0.01, 1e-15)
    assert close(sigma[-1], 50.0, 1e-14)
    assert close(sigma[1:] / sigma[:-1], torch.full((33,), 5000 ** (1 / 33), dtype=DOUBLE), 1e-12)
    assert (schedule.alpha(t) == 1).all()
    assert (VE().low, VE().high, VE().ramp) == (0.002, 80.0, 1e-3)


def test_ve_is_linear_below_its_ramp():
    t = torch.tensor([0.0, 0.002, 0.004, 0.01], dtype=DOUBLE)
    schedule = VE(0.01, 50.0, ramp=0.01)
    assert close(schedule.sigma(t), t, 1e-16)
    assert close(schedule.time(schedule.log_snr(t)), t, 1e-14)


# --------------------------------------------------------------------------------- geometric


@pytest.mark.parametrize("levels", [2, 3, 10, 232])
def test_the_levels_are_a_geometric_progression(levels):
    schedule = Geometric(0.01, 50.0, levels)
    t = torch.arange(1, levels + 1, dtype=DOUBLE) / levels
    expected = torch.logspace(math.log10(0.01), math.log10(50), levels, dtype=DOUBLE)
    assert (schedule.sigma(t) / expected - 1).abs().max() < 1e-12
    assert schedule.sigma(t[0]) == 0.01
    assert close(schedule.sigma(t[-1]), 50.0, 1e-14)
    assert close(schedule.sigma(t[0] / 4), 0.0025, 1e-15)
    assert (schedule.alpha(t) == 1).all()
    assert (Geometric().low, Geometric().high, Geometric().levels) == (0.01, 50.0, 232)


def test_geometric_is_ve_with_the_first_level_at_the_end_of_its_ramp():
    ours, ve = Geometric(0.02, 9.0, 40), VE(0.02, 9.0, ramp=1 / 40)
    for a, b in (
        (ours.sigma(T), ve.sigma(T)),
        (ours.log_snr(T), ve.log_snr(T)),
        (torch.stack(ours.rates(T)), torch.stack(ve.rates(T))),
        (ours.time(ve.log_snr(T)), T),
    ):
        assert close(a, b, 1e-13)


@pytest.mark.parametrize("shape", [(40, 3, 8, 8), (60, 100)])
def test_geometric_measures_the_data(shape):
    data, schedule = randn(*shape), Geometric(0.05, from_data=True)
    assert schedule.learns
    assert not Geometric().learns
    assert Geometric().fit(data) == Geometric()
    fitted = schedule.fit(data)
    assert fitted.high == pytest.approx(float(torch.cdist(data.flatten(1), data.flatten(1)).max()), rel=1e-12)
    ratio = (fitted.high / 0.05) ** (1 / (fitted.levels - 1))
    assert ratio <= level_ratio(data[0].numel()) < (fitted.high / 0.05) ** (1 / (fitted.levels - 2))
    assert (fitted.low, fitted.from_data, fitted.learns) == (0.05, True, True)
    assert fitted.fit(data) == fitted
    assert Shifted(schedule, 2.0).fit(data) == Shifted(fitted, 2.0)
    assert Shifted(schedule, 2.0).learns
    assert from_data(Schedule, to_data(fitted)) == fitted


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(5, 20), r"within 0 of each other.*schedule\.low"),
        (1e-4 * randn(5, 20), "within .* of each other, and the lowest noise level is 0.01"),
        (randn(50, 2), "with 2 numbers in an example levels overlap"),
        (randn(1, 20), "at least 2 examples"),
    ],
)
def test_data_that_choose_no_levels_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Geometric(from_data=True).fit(data)


# ----------------------------------------------------------------------------------- shifted


@pytest.mark.parametrize("schedule", **every_shifted)
def test_shifted_multiplies_sigma_by_alpha(schedule):
    base, factor = schedule.schedule, schedule.factor
    ratio = (schedule.sigma(T) / schedule.alpha(T)) / (base.sigma(T) / base.alpha(T))
    assert (ratio / factor - 1).abs().max() < 1e-12
    assert close(schedule.log_snr(T), base.log_snr(T) - 2 * math.log(factor), 1e-12)
    assert close(schedule.log_snr(T), Schedule.log_snr(schedule, T), 1e-10)
    assert close(schedule.time(schedule.log_snr(T)), T, 1e-12)
    assert schedule.ends_in_noise() == base.ends_in_noise()
    assert (schedule.alpha(ZERO), schedule.sigma(ZERO), schedule.log_snr(ZERO)) == (1, 0, math.inf)
    assert schedule.knots == base.knots


@pytest.mark.parametrize("schedule", **every_shifted)
def test_shifted_is_a_process_of_the_same_kind(schedule):
    alpha, sigma, kind = schedule.alpha(T), schedule.sigma(T), schedule.schedule.kind
    if kind in ("ve", "geometric"):
        assert (alpha == 1).all()
    elif kind in ("flow", "shifted"):
        assert close(alpha + sigma, torch.ones_like(T), 1e-14)
    elif kind == "sub_vp":
        assert close(sigma, 1 - alpha**2, 1e-14)
    else:
        assert close(alpha**2 + sigma**2, torch.ones_like(T), 1e-14)


@pytest.mark.parametrize("schedule", **every_shifted)
def test_rates_of_shifted_are_finite_wherever_its_schedules_are_and_right(schedule):
    t = torch.cat([ZERO[None], T, ONE[None]])
    for own, base in zip(schedule.rates(t), schedule.schedule.rates(t), strict=True):
        assert own.isfinite()[base.isfinite() & (t > 0)].all()
    if all(rate.isfinite().all() for rate in schedule.schedule.rates(t)):
        assert torch.stack(schedule.rates(t)).isfinite().all()
    t = torch.tensor([2.3e-4, 0.0123, 0.1003, 0.2503, 0.5003, 0.7777, 0.9003], dtype=DOUBLE)
    h = (t / 1000).clamp(max=1e-5)
    for rate, f in zip(schedule.rates(t), (schedule.alpha, schedule.sigma), strict=True):
        numeric = (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)
        assert close(rate, numeric, 1e-7)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_shifted_flow_is_the_change_of_time_of_esser(factor):
    moved = factor * T / (1 + (factor - 1) * T)
    schedule = Shifted(Flow(), factor)
    assert close(schedule.sigma(T), moved, 1e-15)
    assert close(schedule.alpha(T), 1 - moved, 1e-15)
    assert close(schedule.rates(T)[1], factor / (1 + (factor - 1) * T) ** 2, 1e-13)
    assert schedule.alpha(ONE) == 0
    assert close(schedule.rates(ONE)[0], -1 / factor, 1e-14)


def test_shifted_ve_has_its_bounds_multiplied():
    assert close(Shifted(VE(0.01, 5.0), 4.0).sigma(T), VE(0.04, 20.0).sigma(T), 1e-13)


def test_shifted_cosine_is_that_of_simple_diffusion():
    # Hoogeboom et al. (2023): log-SNR_256 = log-SNR_64 + 2 log(64 / 256).
    assert close(Shifted(Cosine(), 256 / 64).log_snr(T), Cosine().log_snr(T) + 2 * math.log(64 / 256), 1e-12)
    assert Shifted(Cosine(), 4.0).alpha(ONE) == 0
    assert Shifted(Cosine(), 4.0).sigma(ONE) == 1


@pytest.mark.parametrize("schedule", **every_schedule)
def test_shifts_add_up(schedule):
    twice, once = Shifted(Shifted(schedule, 2.0), 0.25), Shifted(schedule, 0.5)
    assert close(twice.alpha(T), once.alpha(T), 1e-13)
    assert close(twice.sigma(T), once.sigma(T), 1e-13)
    assert close(torch.stack(twice.rates(T)), torch.stack(once.rates(T)), 1e-10)
    none = Shifted(schedule, 1.0)
    assert close(none.sigma(T), schedule.sigma(T), 1e-14)


@dataclass(frozen=True)
class Mixed(Schedule):
    """Of no kind that `normalized` knows."""

    def alpha(self, t):
        return 1 - t**2

    def sigma(self, t):
        return t


def test_a_schedule_of_another_kind_is_not_shifted_unless_it_says_how():
    with pytest.raises(ValueError, match=r"Mixed cannot be shifted: .*Define normalized\(alpha, sigma\)"):
        Shifted(Mixed(), 2.0)

    class Told(Mixed):
        def normalized(self, alpha, sigma):  # alpha / k = 1 - (sigma / k)^2
            k = (alpha + (alpha**2 + 4 * sigma**2).sqrt()) / 2
            return alpha / k, sigma / k

    shifted = Shifted(Told(), 2.0)
    assert close(shifted.alpha(T), 1 - shifted.sigma(T) ** 2, 1e-14)
    assert close(shifted.sigma(T) / shifted.alpha(T), 2 * T / (1 - T**2), 1e-10)


def test_shifted_is_written_and_read():
    schedule = Shifted(Table.cosine(8), 2.0)
    assert from_data(Schedule, to_data(schedule)) == schedule
    assert from_data(Schedule, {"kind": "shifted", "schedule": "cosine", "factor": 2.0}) == Shifted(Cosine(), 2.0)
    assert Shifted() == Shifted(Flow(), 3.0)


# ------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize("betas", **named(**defaults(Betas)))
def test_table_has_the_chains_products_at_its_knots(betas):
    table, values = Table(betas), betas.values()
    product, expected = 1.0, []
    for beta in values.tolist():
        product *= 1 - beta
        expected.append(product)
    knots = torch.arange(1, len(values) + 1, dtype=DOUBLE) / len(values)
    assert table.knots == len(values)
    assert close(table.alpha(knots) ** 2, torch.tensor(expected, dtype=DOUBLE), 1e-13)
    assert close(table.sigma(knots) ** 2, 1 - torch.tensor(expected, dtype=DOUBLE), 1e-13)
    relative = table.alpha(knots) ** 2 / torch.tensor(expected, dtype=DOUBLE)
    assert (relative[relative.isfinite()] - 1).abs().max() < 1e-11


def test_table_is_linear_in_log_snr_between_knots():
    table = Table.linear(20, 0.005, 0.6)
    knots = table.log_snr(torch.tensor([3 / 20, 4 / 20], dtype=DOUBLE))
    t = torch.tensor([3.25 / 20, 3.8 / 20], dtype=DOUBLE)
    assert close(table.log_snr(t)[0], 0.75 * knots[0] + 0.25 * knots[1], 1e-12)
    assert close(table.log_snr(t)[1], 0.2 * knots[0] + 0.8 * knots[1], 1e-12)


def test_table_is_linear_in_sigma_up_to_the_first_knot():
    table = Table([0.04, 0.1])
    assert close(
        table.sigma(torch.tensor([0.125, 0.25, 0.5], dtype=DOUBLE)), torch.tensor([0.05, 0.1, 0.2]).double(), 1e-8
    )
    assert close(table.sigma(torch.tensor(0.375, dtype=DOUBLE)), 0.15, 1e-14)


def test_table_is_linear_in_alpha_down_to_zero():
    table = Table([0.36, 0.5, 1.0])
    t = torch.tensor([2 / 3, 2.25 / 3, 2.5 / 3, 1.0], dtype=DOUBLE)
    last = math.sqrt(0.64 * 0.5)
    assert close(table.alpha(t), last * torch.tensor([1, 0.75, 0.5, 0], dtype=DOUBLE), 1e-14)
    assert table.alpha(ONE) == 0
    assert table.sigma(ONE) == 1
    one_step = Table([1.0])
    assert close(one_step.time(one_step.log_snr(T)), T, 1e-12)


def test_table_of_a_list_is_a_table_of_given_betas():
    assert Table([0.1, 0.2]) == Table(GivenBetas((0.1, 0.2)))
    assert Table() == Table.linear() == Table(LinearBetas(1000, 1e-4, 0.02))
    assert Table.cosine() == Table(CosineBetas())
    assert Table.cosine(8, 0.01, 0.9) == Table(CosineBetas(8, 0.01, 0.9))
    assert Table.linear(8, 0.01, 0.9) == Table(LinearBetas(8, 0.01, 0.9))


def test_ddpm_defaults():
    betas = LinearBetas().values()
    assert (len(betas), betas[0], betas[-1]) == (1000, 1e-4, 0.02)
    assert close(betas.diff(), torch.full((999,), (0.02 - 1e-4) / 999, dtype=DOUBLE), 1e-15)
    # Ho et al. (2020), section 4: D_KL(q(x_T | x_0) || N(0, I)) is about 1e-5 bits a dimension. So small is alpha_T.
    assert float(Table().alpha(ONE) ** 2) == pytest.approx(4.036e-5, rel=1e-3)


def test_scaled_linear_betas():
    betas = ScaledLinearBetas()
    expected = [(math.sqrt(0.00085) + i / 999 * (math.sqrt(0.012) - math.sqrt(0.00085))) ** 2 for i in range(1000)]
    assert close(betas.values(), torch.tensor(expected, dtype=DOUBLE), 1e-16)


def test_sigmoid_betas():
    expected = [1e-4 + (0.02 - 1e-4) / (1 + math.exp(6 - 12 * i / 999)) for i in range(1000)]
    assert close(SigmoidBetas().values(), torch.tensor(expected, dtype=DOUBLE), 1e-16)


@pytest.mark.parametrize(("s", "largest"), [(0.008, 0.999), (0.02, 0.5)])
def test_cosine_betas(s, largest):
    def bar(i):
        return math.cos((i / 200 + s) / (1 + s) * math.pi / 2) ** 2

    expected = [min(1 - bar(i) / bar(i - 1), largest) for i in range(1, 201)]
    betas = CosineBetas(200, s, largest).values()
    assert close(betas, torch.tensor(expected, dtype=DOUBLE), 1e-14)
    assert betas[-1] == largest
    assert (CosineBetas().steps, CosineBetas().s, CosineBetas().largest) == (1000, 0.008, 0.999)


@pytest.mark.parametrize(
    "rule", [ScaledLinearBetas(), LinearBetas(), CosineBetas(), SigmoidBetas(50), GivenBetas((0.1, 0.2, 0.5))]
)
def test_zero_terminal_snr_is_algorithm_1_of_lin(rule):
    root = (1 - rule.values()).cumprod(0).sqrt()
    expected = (root - root[-1]) * root[0] / (root[0] - root[-1])
    schedule, knots = Table(ZeroTerminalSNR(rule)), torch.arange(1, len(root) + 1, dtype=DOUBLE) / len(root)
    assert close(schedule.alpha(knots), expected, 1e-11)
    assert ZeroTerminalSNR(rule).values()[0] == rule.values()[0]
    assert ZeroTerminalSNR(rule).values()[-1] == 1
    assert schedule.alpha(ONE) == 0
    assert schedule.sigma(ONE) == 1
    assert schedule.ends_in_noise()
    assert ZeroTerminalSNR() == ZeroTerminalSNR(ScaledLinearBetas())


def test_zero_terminal_snr_is_for_what_does_not_divide_by_alpha():
    for refused in (Eps(), Score()):
        with pytest.raises(ValueError, match="divides by alpha"):
            refused.check(Table(ZeroTerminalSNR()))
    V().check(Table(ZeroTerminalSNR()))


def test_zero_terminal_snr_of_a_chain_that_has_it_changes_nothing():
    given = GivenBetas((0.1, 0.2, 0.5, 1.0))
    assert close(ZeroTerminalSNR(given).values(), given.values(), 1e-15)


@pytest.mark.parametrize("rule", [LinearBetas, ScaledLinearBetas, SigmoidBetas])
def test_beta_rules_take_their_range_as_given(rule):
    betas = rule(7, 0.01, 0.3).values()
    tolerance = 1e-3 if rule is SigmoidBetas else 1e-15
    assert len(betas) == 7
    assert close(betas[0], 0.01, tolerance)
    assert close(betas[-1], 0.3, tolerance)
    assert (betas.diff() > 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearVP(0.0, 1.0),
        lambda: LinearVP(-1.0, 1.0),
        lambda: LinearVP(2.0, 1.0),
        lambda: VE(0.0, 1.0),
        lambda: VE(1.0, 1.0),
        lambda: VE(2.0, 1.0),
        lambda: VE(ramp=0.0),
        lambda: VE(ramp=1.0),
        lambda: SubVP(0.0, 1.0),
        lambda: SubVP(2.0, 1.0),
        lambda: Geometric(0.0, 1.0),
        lambda: Geometric(1.0, 1.0),
        lambda: Geometric(levels=1),
        lambda: Shifted(Flow(), 0.0),
        lambda: Shifted(Flow(), -1.0),
        lambda: Shifted(Flow(), math.inf),
        lambda: Shifted(Flow(), math.nan),
        lambda: ZeroTerminalSNR(GivenBetas((0.5,))),
        lambda: LinearBetas(0),
        lambda: ScaledLinearBetas(0),
        lambda: SigmoidBetas(0),
        lambda: CosineBetas(0),
        lambda: LinearBetas(start=0.0),
        lambda: LinearBetas(end=1.1),
        lambda: ScaledLinearBetas(start=0.5, end=0.1),
        lambda: SigmoidBetas(start=-0.1),
        lambda: CosineBetas(s=-0.001),
        lambda: CosineBetas(largest=0.0),
        lambda: CosineBetas(largest=1.1),
        lambda: GivenBetas(()),
        lambda: GivenBetas((0.1, 1.0, 0.1)),
        lambda: GivenBetas((0.0, 0.1)),
        lambda: GivenBetas((0.1, 1.1)),
        lambda: Table([0.1, math.nan]),
    ],
)
def test_settings_that_make_no_schedule_are_refused(make):
    with pytest.raises(ValueError, match=r"needs|must lie"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearVP(1.0, 1.0),
        lambda: Geometric(levels=2),
        lambda: LinearBetas(1, 0.5, 0.5),
        lambda: LinearBetas(3, 0.5, 1.0),
        lambda: CosineBetas(1, 0.0, 1.0),
        lambda: GivenBetas((1.0,)),
    ],
)
def test_settings_at_the_edge_are_taken(make):
    make()


def test_the_message_names_the_beta_at_fault():
    with pytest.raises(ValueError, match=r"beta number 2 is 1\.5"):
        GivenBetas((0.5, 1.5, 0.5))


def test_host_is_where_schedules_are_evaluated():
    assert host(0.1).dtype == DOUBLE
    assert host(torch.tensor([1], dtype=torch.int64)).dtype == DOUBLE
