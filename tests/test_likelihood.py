import math

import pytest
import torch
from helpers import (
    DOUBLE,
    Stub,
    close,
    every_schedule,
    gaussian,
    labelled,
    mixture,
    named,
    randn,
    seeded,
    slope,
)

from reverie import likelihood
from reverie.conditioning import Cond, Conditions
from reverie.denoiser import Denoiser, Rescheduled
from reverie.exact import GaussianMixture
from reverie.likelihood import bits_per_dim, dequantised, log_likelihood, solver_table
from reverie.nets.dit import DiTConfig
from reverie.nets.mlp import MLPConfig
from reverie.nets.unet import UNetConfig
from reverie.parameterizations import EDM, Eps, V
from reverie.prediction import Prediction
from reverie.schedules import VE, Cosine, Flow, LinearVP
from reverie.spaces import Pixels, Standardized
from reverie.tensors import host, streams

TARGET = 3e-3
"""Nats per dimension, with at most 160 evaluations."""


def spread(d: int, components: int, low: float, high: float) -> GaussianMixture:
    """Means of standard deviation 1, components of `low` to `high`."""
    stds = low + (high - low) * torch.rand(components, generator=seeded(d, components), dtype=DOUBLE)
    return GaussianMixture(LinearVP(), randn(components, d, seed=d + components), stds)


def rms(f, x: torch.Tensor, **settings) -> float:
    """The root mean square over examples of the error, in nats per dimension."""
    found = log_likelihood(f, x, **settings)
    error = (found.value - f.log_density(x)) / x.shape[1]
    print(f"{found.evaluations} evaluations: rms {error.square().mean().sqrt():.3g}, largest {error.abs().max():.3g}")
    return float(error.square().mean().sqrt())


class Twisted:
    """A linear denoiser that is the gradient of nothing, but whose ODE has a closed-form solution.

    With u = x / alpha, r = sigma / alpha and C = S S: eps = r (C + r^2)^-1 (u - m), so that du/dr = eps
    takes u - m from z at r = 0 to (C + r^2)^(1/2) S^-1 z, and x0 = m + S z has the law of z ~ N(0, 1).
    """

    def __init__(self, schedule):
        self.schedule = schedule
        self.s = torch.tensor([[0.9, 0.5], [-0.4, 0.3]], dtype=DOUBLE)
        self.mean = torch.tensor([0.3, -0.6], dtype=DOUBLE)

    def __call__(self, x, t, cond=None):
        level, c = self.schedule.at(t, like=x), self.s @ self.s
        a, b = level.alpha, level.sigma
        v = (x - a * self.mean) @ torch.linalg.inv(a**2 * c + b**2 * torch.eye(2, dtype=DOUBLE)).mT
        return Prediction(x, level, self.mean + a * v @ c.mT, b * v)

    def log_density(self, x):
        z = (x - self.mean) @ torch.linalg.inv(self.s).mT
        return -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) - torch.linalg.slogdet(self.s)[1]


def bent(schedule) -> Stub:
    """A denoiser of the plane that is neither linear nor a gradient, near the data a smooth law's."""
    w = torch.tensor([[1.5, -0.8], [0.6, 1.1]], dtype=DOUBLE)

    def x0(x, t):
        level = schedule.at(t, like=x)
        size = (level.alpha**2 + level.sigma**2) ** 0.5
        inner = level.alpha / size**2 * x
        return inner + (level.sigma / size) ** 2 * torch.tanh(inner @ w.mT)

    return Stub(schedule, x0)


# -------------------------------------------------------------------------------------- exactness


@pytest.mark.parametrize("schedule", **every_schedule)
@pytest.mark.parametrize(("make", "tolerance"), [(gaussian, 5e-5), (mixture, 5e-4)])
def test_the_density_of_normal_data_and_of_a_mixture_on_every_schedule(schedule, make, tolerance):
    f = make(schedule)
    x = torch.cat([f.sample(6, seeded(1)), 3 * randn(2, f.means.shape[1], seed=2)])
    found = log_likelihood(f, x, steps=40)
    assert close(found.value, f.log_density(x), tolerance)
    assert found.value.dtype == found.error.dtype == DOUBLE
    assert found.evaluations == 44
    assert (found.error == 0).all()


@pytest.mark.parametrize(
    ("components", "low", "high"), [(5, 0.1, 0.5), (25, 0.1, 0.5), (25, 0.5, 0.5), (5, 0.1, 0.1), (25, 0.05, 0.05)]
)
def test_the_target_in_the_plane(components, low, high):
    f = spread(2, components, low, high)
    assert rms(f, f.sample(100, seeded(3))) < TARGET / 50


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.5), (0.05, 0.05)])
def test_the_target_in_64_dimensions(low, high):
    f = spread(64, 10, low, high)
    assert rms(f, f.sample(3, seeded(4))) < TARGET / 50


@pytest.mark.parametrize(("low", "high", "away"), [(0.1, 0.1, 5.0), (0.05, 0.05, 4.0)])
def test_the_target_holds_far_from_every_mode(low, high, away):
    """Between narrow modes the path is stiff: to which of them x belongs is settled at once."""
    f = spread(2, 5, low, high)
    way = torch.nn.functional.normalize(randn(100, 2, seed=5))
    which = torch.arange(100) % 5
    x = f.means[which] + away * f.stds[which] * way
    assert rms(f, x) < TARGET
    assert log_likelihood(f, x[:1]).evaluations <= 160


def test_a_class_has_its_own_density():
    f, x = labelled(Cosine()), randn(4, 2)
    cond = Cond(label=torch.tensor([0, 0, 0, 1]), drop=torch.tensor([False, False, True, True]))
    found = log_likelihood(f, x, cond, steps=48).value
    alone = GaussianMixture(Cosine(), f.means[[0, 2]], f.stds[[0, 2]], f.weights[[0, 2]])
    assert close(found[:2], alone.log_density(x[:2]), 1e-4)
    assert close(found[2:], f.log_density(x[2:]), 1e-4)


def test_any_shape_of_example_and_any_scale_of_data():
    flat, x = mixture(Flow()), randn(3, 2)
    f = GaussianMixture(Flow(), flat.means.reshape(2, 1, 2, 1), flat.stds.reshape(2, 1, 2, 1), flat.weights)
    assert close(log_likelihood(f, x.reshape(3, 1, 2, 1), steps=48).value, flat.log_density(x), 1e-4)
    large = GaussianMixture(VE(high=8000.0), 100 * flat.means, 100 * flat.stds, flat.weights)
    found = log_likelihood(large, 100 * x, sd=100.0, low=0.2, steps=48).value
    assert close(found, flat.log_density(x) - 2 * math.log(100), 1e-4)


@pytest.mark.parametrize("make", [bent, Twisted])
def test_every_denoisers_density_integrates_to_one(make):
    """The flow carries mass, whatever the field: this holds the divergence to what moves x."""
    side = torch.linspace(-6, 6, 61, dtype=DOUBLE)
    grid = torch.cartesian_prod(side, side)
    density = log_likelihood(make(Flow()), grid, steps=80).value.exp()
    assert float(density.sum()) * 0.2**2 == pytest.approx(1, abs=5e-4)


# -------------------------------------------------------------------------------------- convergence


@pytest.mark.parametrize(
    ("make", "steps", "order"), **named(twisted=(Twisted, (50, 100), 2.8), mixture=(mixture, (20, 40), 5.0))
)
def test_observed_order(make, steps, order):
    """3, that of the steps, for any denoiser; their error counts squared where eps is a gradient."""
    f, x = make(LinearVP()), 0.7 * randn(10, 2, seed=6)
    errors = [float((log_likelihood(f, x, steps=n).value - f.log_density(x)).abs().max()) for n in steps]
    print(errors)
    assert slope(errors) > order


def test_what_the_steps_get_wrong_is_mended(monkeypatch):
    f = spread(2, 5, 0.1, 0.1)
    x = f.sample(50, seeded(7))
    monkeypatch.setattr(likelihood, "ORDER", 1)
    mended = rms(f, x)
    monkeypatch.setattr(likelihood, "_mended", lambda path, nodes: 0.0)
    assert mended < TARGET / 10 < TARGET < rms(f, x) / 5


def test_the_rules_are_exact_for_polynomials():
    assert close(torch.tensor(likelihood._adams(3), dtype=DOUBLE), torch.tensor([5, -16, 23], dtype=DOUBLE) / 12)
    path = likelihood._Path.of(Cosine(), 30, 1.0, 0.01)
    tau = torch.linspace(-1, 1, 31, dtype=DOUBLE)
    weights = torch.tensor(path.weights, dtype=DOUBLE) * (2 / (30 * path.h))
    assert close(
        torch.stack([(weights * tau**p).sum() for p in range(9)]),
        torch.tensor([(1 + (-1) ** p) / (p + 1) for p in range(9)], dtype=DOUBLE),
        1e-9,
    )


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_path_moves_in_theta_at_the_rate_it_says(schedule):
    path = likelihood._Path.of(schedule, 200, 0.7, 0.01)
    level = schedule.at(path.times, torch.zeros(201, dtype=DOUBLE))
    theta = torch.atan2(level.sigma, 0.7 * level.alpha)
    assert float(level.sigma[0] / level.alpha[0]) == pytest.approx(0.01, rel=1e-6)
    assert close((theta[2:] - theta[:-2]) / (2 * path.h), torch.tensor(path.rates)[1:-1], 1e-3)
    assert float(torch.tensor(path.weights) @ torch.tensor(path.rates)) == pytest.approx(
        float(theta[-1] - theta[0]), rel=1e-6
    )


# ------------------------------------------------------------------------------------- invariance


@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_change_of_schedule_changes_nothing(schedule):
    x = randn(4, 2)
    own = log_likelihood(mixture(schedule), x, steps=8).value
    assert close(log_likelihood(Rescheduled(mixture(VE()), schedule), x, steps=8).value, own, 1e-9)
    if float(schedule.log_snr(host(1.0))) < -2 * math.log(80):
        assert close(log_likelihood(mixture(VE()), x, steps=8).value, own, 1e-9)


def test_an_example_is_the_same_in_any_batch():
    f, x = mixture(Flow()), randn(5, 2)
    settings = {"steps": 16, "probes": 2}
    together = log_likelihood(f, x, noise=streams(range(5)), **settings)
    for i in range(5):
        alone = log_likelihood(f, x[i : i + 1], noise=streams([i]), **settings)
        assert close(alone.value, together.value[i : i + 1])
        assert close(alone.error, together.error[i : i + 1], 1e-10)


def test_tangents_go_through_in_parts(monkeypatch):
    f, x = spread(7, 3, 0.3, 0.5), randn(3, 7)
    whole = [log_likelihood(f, x, steps=12, probes=k, noise=streams(range(3))) for k in (0, 5)]
    monkeypatch.setattr(likelihood, "ROWS", 7)
    for k, one in zip((0, 5), whole, strict=True):
        assert close(log_likelihood(f, x, steps=12, probes=k, noise=streams(range(3))).value, one.value)


# --------------------------------------------------------------------------------------- networks

IMAGE = (1, 4, 4)
NETS = named(
    mlp=MLPConfig(width=16, depth=1),
    dit=DiTConfig(width=16, depth=1, heads=2),
    unet=UNetConfig(width=8, blocks=1, multipliers=(1, 2), head_width=8),
)


def network(config, parameterization, schedule) -> Denoiser:
    """In float32, with weights as if trained a little."""
    net = config.build(IMAGE, Conditions(classes=3)).eval()
    g = seeded(11)
    for p in net.parameters():
        p.data.add_(0.1 * torch.randn(p.shape, generator=g))
    return Denoiser(net, schedule, parameterization)


@pytest.mark.parametrize("config", **NETS)
def test_the_trace_of_a_network_is_that_of_its_jacobian(config):
    f, y = network(config, V(), LinearVP()), randn(2, *IMAGE)
    cond = Cond(label=torch.tensor([2, 0]))
    field = likelihood._Field(f, cond, host(0.4), 0.6, torch.float32)
    with torch.no_grad():
        v, _, diagonal = field.derivatives(y, None)
        axes = torch.eye(16).reshape(16, 1, *IMAGE).expand(16, 2, *IMAGE)
        columns = field.derivatives(y, axes)[2].flatten(2).permute(1, 2, 0)
    assert close(v, field(y), 1e-5)
    jacobian = torch.autograd.functional.jacobian(field, y).reshape(2, 16, 2, 16)
    for i in range(2):
        assert close(columns[i], jacobian[i, :, i], 1e-5)
    assert close(diagonal[0].flatten(1), columns.diagonal(dim1=1, dim2=2), 1e-6)


@pytest.mark.parametrize("config", **NETS)
def test_a_network_in_float32_agrees_with_itself_in_float64(config):
    f, x = network(config, EDM(), VE()), 0.5 * randn(2, *IMAGE).float()
    cond = Cond(label=torch.tensor([1, 2]))
    found = log_likelihood(f, x, cond, steps=8)
    f.net.double()
    assert close(log_likelihood(f, x.double(), cond, steps=8).value / 16, found.value / 16, 1e-4)
    assert not found.value.requires_grad


def test_an_untrained_network_says_something_finite():
    for parameterization, schedule in ((V(), Flow()), (Eps(), LinearVP()), (EDM(), VE())):
        f = Denoiser(MLPConfig(width=16, depth=1).build((5,)), schedule, parameterization)
        found = log_likelihood(f, 0.5 * randn(2, 5).float(), steps=8)
        assert found.value.isfinite().all()


# ----------------------------------------------------------------------------------------- probes


def simulated(a: torch.Tensor, k: int, repetitions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of the trace of `a`, and what is said of it."""
    x0 = torch.zeros(repetitions, len(a), dtype=DOUBLE)
    g = seeded(k, len(a))
    z = likelihood._probes(x0, k, lambda like: torch.randn(like.shape, generator=g, dtype=DOUBLE))
    trace, error = likelihood._trace(z @ a.mT, z)
    return trace - a.trace(), error


def matrices() -> dict[str, torch.Tensor]:
    """Any; one that all lies in one direction; unequal diagonals; more antisymmetric than not; small ones."""
    v = randn(40, 1, seed=1)
    return {
        "any": randn(30, 30),
        "one direction": v @ v.mT,
        "diagonal": torch.diag(randn(30, seed=2)) + 0.05 * randn(30, 30, seed=3),
        "part antisymmetric": randn(20, 20, seed=4) + 2 * (randn(20, 20, seed=5) - randn(20, 20, seed=5).mT),
        "plane": torch.tensor([[0.3, 0.8], [0.8, -0.1]], dtype=DOUBLE),
        "three": randn(3, 3, seed=6),
        "sixteen": randn(16, 1, seed=7) @ randn(1, 16, seed=7) + torch.eye(16, dtype=DOUBLE),
    }


@pytest.mark.parametrize("k", [1, 2, 3, 8, 24])
@pytest.mark.parametrize("a", **named(**matrices()))
def test_the_truth_lies_within_two_standard_errors(a, k):
    """In 95 % of cases or so; at 90 % a thousand repetitions leave a chance below 1e-6."""
    off, error = simulated(a, k, 1000)
    assert float((off.abs() <= 2 * error).double().mean()) > 0.92


@pytest.mark.parametrize("a", **named(**matrices()))
def test_probes_have_no_bias_and_know_their_variance(a):
    """Of the symmetric part of A, which is all that q sees; A z sees the rest too, and errs on the safe side."""
    k, n = 16, 5000
    off, error = simulated(a, k, n)
    true = off.square().mean()
    assert abs(float(off.mean())) < 5 * float(true.sqrt() / n**0.5)
    student = 2.2314 / 2  # the 97.725 % point with 16 degrees of freedom
    said = (error / student).square().mean()
    assert said > 0.9 * true
    off, error = simulated((a + a.mT) / 2, k, n)
    assert (error / student).square().mean() == pytest.approx(float(off.square().mean()), rel=0.15)


def test_above_256_numbers_sixteen_probes_stand_in():
    x = torch.zeros(1, 257)
    assert likelihood._probes(x[:, :256], None, torch.randn_like) is None
    assert likelihood._probes(x, 0, torch.randn_like) is None
    z = likelihood._probes(x, None, torch.randn_like)
    assert z.shape == (16, 1, 257)
    assert (z.abs() == 1).all()


def test_signs_do_not_see_the_diagonal():
    off, _ = simulated(torch.diag(randn(30)), 1, 50)
    assert off.abs().max() < 1e-12


def test_the_error_of_a_likelihood_by_probes():
    f = spread(20, 5, 0.2, 0.5)
    x = f.sample(2, seeded(8)).repeat_interleave(200, 0)
    truth = f.log_density(x)
    found = log_likelihood(f, x, steps=40, probes=2, noise=streams(range(400)))
    inside = ((found.value - truth).abs() <= 2 * found.error).double().reshape(2, 200).mean(1)
    assert (inside > 0.9).all()
    exact = log_likelihood(f, x[::200], steps=40)
    assert float((exact.value - truth[::200]).abs().max()) < 0.02 * float(found.error.median())


# ---------------------------------------------------------------------------------- solver tables


def test_a_solver_table_settles():
    f = mixture(LinearVP())
    x = f.sample(10, seeded(9))
    rows = solver_table(f, x, steps=(64, 8, 16, 32), probes=1, noise=streams(range(10)))
    assert [row.steps for row in rows] == [8, 16, 32, 64]
    assert [row.evaluations for row in rows] == [12, 20, 36, 68]
    changes = [row.change for row in rows]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] == 0 < changes[-2] < 0.01
    same = log_likelihood(f, x, steps=64, probes=1, noise=streams(range(10)))
    assert rows[-1].value == pytest.approx(float(same.value.mean()) / 2, abs=1e-12)


# ------------------------------------------------------------------------------ densities of data


def test_pixels_as_likely_as_each_other_take_eight_bits():
    for shape in ((3, 4, 4), (7,)):
        d = math.prod(shape)
        nats = torch.full((5,), -d * math.log(256 / 127.5), dtype=DOUBLE)  # of x0, uniform over 256 quanta
        assert close(bits_per_dim(nats, shape, Pixels()), torch.full((5,), 8.0))


def test_bits_of_standardized_data_are_those_of_the_data():
    f, space = gaussian(Cosine()), Standardized((1.0, 0.0, -3.0), (5.0, 0.1, 2.0))
    data = torch.randn(6, 3, generator=seeded(1))
    x0 = dequantised(space, data)
    assert torch.equal(x0, space.encode(data))
    mean = f.means[0] * torch.tensor(space.std) + torch.tensor(space.mean)
    direct = torch.distributions.Normal(mean, f.stds[0] * torch.tensor(space.std)).log_prob(data.double()).sum(1)
    assert close(bits_per_dim(f.log_density(x0.double()), (3,), space), -direct / (3 * math.log(2)), 1e-5)


def test_dequantised_data_are_uniform_about_their_values():
    data = torch.randint(0, 256, (40, 1, 20, 25), generator=seeded(2), dtype=torch.uint8)
    x0 = dequantised(Pixels(), data, streams(range(40)))
    assert x0.dtype == torch.float32
    u = ((x0.double() + 1) * 127.5 - data).flatten().sort().values + 0.5
    assert -1e-4 < u[0] < u[-1] < 1 + 1e-4
    n = len(u)
    distance = (u - (torch.arange(n, dtype=DOUBLE) + 0.5) / n).abs().max()
    assert distance < math.sqrt(math.log(2 / 1e-5) / (2 * n)) + 1e-4  # Massart (1990): a chance of 1e-5
    assert (Pixels().decode(x0) == data).double().mean() > 0.9999
    assert torch.equal(dequantised(Pixels(), data[:3], streams(range(3))), x0[:3])


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "at least 1 step; given steps=0"),
        ({"probes": -1}, "at least 1 probe, or 0 for the exact trace; given probes=-1"),
        ({"sd": 0.0}, "sd > 0 and low > 0; given sd=0.0, low=0.002"),
        ({"low": -1.0}, "sd > 0 and low > 0"),
        ({"low": 90.0}, "low < 80"),
        ({"low": 0.1, "sd": 1e-3}, "low < 0.08"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        log_likelihood(mixture(Flow()), randn(2, 2), **settings)


@pytest.mark.parametrize("x0", [torch.zeros(3, 2, dtype=torch.uint8), torch.zeros(3), torch.zeros(0, 2)])
def test_x0_is_a_batch_of_floats(x0):
    with pytest.raises(ValueError, match="floating-point numbers, as a space encodes it; given shape"):
        log_likelihood(mixture(Flow()), x0)


def test_a_table_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one number of steps"):
        solver_table(mixture(Flow()), randn(2, 2), steps=())
