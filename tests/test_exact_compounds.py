"""Systems of several models with exact parts: a network in none of them, so that the law of the samples is known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from reverie.autoencoders.linear import fitted
from reverie.conditioning import Cond
from reverie.data import Examples
from reverie.data.smaller import means, smaller
from reverie.exact import Gaussian
from reverie.grids import Angle
from reverie.prediction import Prediction
from reverie.recipe import Sampling, compose
from reverie.runs import Run, create, load
from reverie.samplers import Adams
from reverie.schedules import Cosine, Flow, Schedule

FALSE_ALARM = 1e-5
"""Of a test of a covariance, by chance."""
MLP = {"kind": "mlp", "width": 8, "depth": 1}


class Exact(nn.Module):
    """An exact denoiser as a run's: a module, on a device."""

    def __init__(self, f: object, schedule: Schedule) -> None:
        super().__init__()
        self.f, self.schedule = f, schedule
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        made = self.f(x.double(), t, cond)
        return Prediction.from_x0(made.x0.to(x.dtype), x, self.schedule.at(t, like=x))


class Linear:
    """E[x0 | x_t, y] of x0 ~ N(0, C), where y = cos(pi s / 2) A x0 + sin(pi s / 2) eps is told enlarged, with s.

    Args:
        schedule: the process.
        covariance: C (N, N).
        seen: A (n, N), what is told of x0 flat.
        enlarged: U (N, n), what enlarges y.
    """

    def __init__(self, schedule: Schedule, covariance: Tensor, seen: Tensor, enlarged: Tensor) -> None:
        self.schedule, self.c, self.a = schedule, covariance, seen
        self.shrunk = torch.linalg.pinv(enlarged)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        level = self.schedule.at(t, like=x)
        flat = x.flatten(1)
        assert cond is not None
        assert cond.image is not None
        y = cond.image.double().flatten(1) @ self.shrunk.T
        s = 0.0 if cond.level is None else float(cond.level[0])  # all rows of a request have the same
        cos, sin = math.cos(math.pi / 2 * s), math.sin(math.pi / 2 * s)
        h = torch.cat([float(level.alpha) * torch.eye(len(self.c), dtype=x.dtype), cos * self.a])
        own, told = (x.new_ones(len(part)) for part in (self.c, self.a))
        noise = torch.diag(torch.cat([float(level.sigma) ** 2 * own, (sin**2 + 1e-9) * told]))
        gain = self.c @ h.T @ torch.linalg.inv(h @ self.c @ h.T + noise)
        return Prediction.from_x0((torch.cat([flat, y], 1) @ gain.T).reshape(x.shape), x, level)


def put(run: Run, f: object, schedule: Schedule) -> Run:
    """The run with an exact denoiser in the place of its network."""
    run.__dict__["denoiser"] = run.__dict__["model"] = Exact(f, schedule).requires_grad_(False).eval()
    return run


def covariances_agree(x: np.ndarray, wanted: np.ndarray) -> None:
    """Likelihood ratio test of N(0, wanted) against N(0, any), by Bartlett's chi-squared (Anderson, 2003, 10.8)."""
    n, p = x.shape
    white = np.linalg.solve(np.linalg.cholesky(wanted), x.T)
    s = white @ white.T / n
    statistic = n * (np.trace(s) - np.linalg.slogdet(s)[1] - p)
    bartlett = 1 - (2 * p + 1 - 2 / (p + 1)) / (6 * n)
    p_value = stats.chi2.sf(statistic * bartlett, p * (p + 1) // 2)
    assert p_value > FALSE_ALARM, p_value


def field(side: int) -> Tensor:
    """The covariance of a Gaussian field on side x side places: exp(-distance / 2), and a little of its own."""
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
    return torch.exp(-torch.cdist(place, place) / 2) + 0.05 * torch.eye(side * side, dtype=torch.float64)


def drawn(covariance: Tensor, n: int, shape: tuple[int, ...]) -> np.ndarray:
    g = torch.Generator().manual_seed(3)
    white = torch.randn(n, len(covariance), dtype=torch.float64, generator=g)
    return (white @ torch.linalg.cholesky(covariance).T).reshape(n, *shape).float().numpy()


def made(path: Path, layer: dict, examples: Examples, needed: dict[str, Path] | None = None) -> Run:
    recipe = compose([{"data": "digits", "net": MLP, "train": {"steps": 1, "ema_lengths": []}}, layer])
    run = create(path, recipe, examples, np.arange(len(examples)), needed)
    run.save_model(run_model(run).net.state_dict(), 0)
    return load(path)


def run_model(run: Run) -> nn.Module:
    from reverie.runs import new_model

    return new_model(run.recipe, run.facts)


# ------------------------------------------------------------------------------------------ latents


def test_a_linear_autoencoder_recovers_gaussian_data(tmp_path, monkeypatch):
    """Its latents, the principal components, are independent normal numbers; decoded samples have the data's law there.

    The data lie on 5 of 12 dimensions, so nothing is lost by five latents.
    """
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 5, dtype=torch.float64, generator=g)).Q
    root = basis * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)
    latent = torch.randn(4000, 5, dtype=torch.float64, generator=g)
    items = (latent @ root.T + 1.5).float().numpy()
    examples = Examples(items=items)
    stage = made(
        tmp_path / "ae",
        {"kind": "autoencoder", "autoencoder": {"kind": "linear", "channels": 5}, "net": None},
        examples,
    )
    space = stage.space
    state = fitted(space.encode(torch.from_numpy(items)), 5)
    stage.save_model(state, 1)
    run = made(tmp_path / "run", {"space": {"kind": "latent", "autoencoder": str(stage.path)}}, examples)
    assert run.shape == (5,)
    assert run.facts.shape == (12,)
    seen = run.space.encode(torch.from_numpy(items)).double()
    assert torch.allclose(torch.cov(seen.T, correction=0), torch.eye(5, dtype=torch.float64), atol=1e-4)
    schedule = run.schedule
    put(run, Gaussian(schedule, torch.zeros(5, dtype=torch.float64), 1.0), schedule)
    x = run.sample(3000, sampling=Sampling(Adams(), Angle(12, std=1.0))).double().numpy()
    centre, cov = items.astype(np.float64).mean(0), np.cov(items.astype(np.float64).T, bias=True)
    inside = (x - centre) @ basis.numpy()
    assert np.abs((x - centre) - inside @ basis.numpy().T).max() < 1e-4  # and nothing beside the five dimensions
    covariances_agree(inside, basis.numpy().T @ cov @ basis.numpy())


# ---------------------------------------------------------------------------------------- cascades


@pytest.mark.parametrize(("level", "truncated"), [(0.0, False), (0.3, False), (0.3, True)])
@pytest.mark.parametrize("schedule", [Flow(), Cosine()])
def test_a_cascade_recovers_a_gaussian_field_at_both_scales(tmp_path, level, truncated, schedule):
    """Two exact stages, the second told what the first draws: noised, or stopped early, or as it is."""
    side, covariance = 4, field(4)
    examples = Examples(items=drawn(covariance, 400, (1, side, side)))
    process = {"schedule": {"kind": schedule.kind}}
    low = smaller(examples, 2)
    made(tmp_path / "base", {"data": {"kind": "smaller", "data": "digits"}, **process}, low)
    condition = {"kind": "low_resolution", "factor": 2, "noise": 0.5}
    run = made(tmp_path / "run", {"image_condition": condition, **process}, examples, {"base": tmp_path / "base"})
    base = run.stage("base")

    unit = torch.eye(16, dtype=torch.float64).reshape(16, 1, side, side)
    seen = torch.from_numpy(means(unit.float().numpy(), 2)).double().flatten(1).T  # A (4, 16)
    small = torch.eye(4, dtype=torch.float64).reshape(4, 1, 2, 2)
    enlarged = run.recipe.image_condition.enlarged(small).flatten(1).T  # U (16, 4)
    (m,), (s,) = run.space.mean, run.space.std
    (m_low,), (s_low,) = base.space.mean, base.space.std
    # in the model's space the mean is not quite 0: the law is that of the field less the examples' own mean
    upper = Shifted(Linear(schedule, covariance / s**2, seen, enlarged), -m / s, seen, enlarged)
    root = torch.linalg.cholesky(seen @ covariance @ seen.T) / s_low
    lower = Coloured(schedule, root, -m_low / s_low)
    put(run, upper, schedule)
    put(base, lower, schedule)
    run.sampling_below = {"base": Sampling(Adams(), Angle(24, std=1.0))}
    sampling = Sampling(Adams(), Angle(24, std=1.0), augmentation=level, truncated=truncated)
    x = run.sample(1500, sampling=sampling).double().flatten(1)
    covariances_agree(x.numpy(), covariance.numpy())
    covariances_agree((x @ seen.T).numpy(), (seen @ covariance @ seen.T).numpy())
    below = base.sample(1500, sampling=run.sampling_below["base"]).double().flatten(1)
    if level == 0:  # the stage's own samples of that seed are what was enlarged
        assert float((x @ seen.T - below).abs().max()) < 0.1
    else:
        correlation = torch.corrcoef(torch.stack([(x @ seen.T).flatten(), below.flatten()]))[0, 1]
        assert 0.7 < float(correlation) < 0.999


class Coloured:
    """E[x0 | x_t] of x0 ~ N(shift, R R^T), by its covariance."""

    def __init__(self, schedule: Schedule, root: Tensor, shift: float) -> None:
        self.schedule, self.c, self.shift = schedule, root @ root.T, shift

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        level = self.schedule.at(t, like=x)
        a, b = float(level.alpha), float(level.sigma)
        gain = a * self.c @ torch.linalg.inv(a**2 * self.c + b**2 * torch.eye(len(self.c), dtype=x.dtype))
        x0 = (x.flatten(1) - a * self.shift) @ gain.T + self.shift
        return Prediction.from_x0(x0.reshape(x.shape), x, level)


class Shifted:
    """The denoiser of data that are `shift` beside those that another one knows."""

    def __init__(self, f: Linear, shift: float, seen: Tensor, enlarged: Tensor) -> None:
        self.f, self.schedule, self.shift, self.enlarged = f, f.schedule, shift, enlarged

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        level = self.schedule.at(t, like=x)
        assert cond is not None
        assert cond.image is not None
        s = torch.zeros(len(x)) if cond.level is None else cond.level
        told = torch.cos(math.pi / 2 * s.double())[:, None] * self.shift * self.enlarged.sum(1)
        moved = Cond(image=cond.image.double() - told.reshape(x.shape), level=cond.level)
        made = self.f(x - float(level.alpha) * self.shift, t, moved)
        return Prediction.from_x0(made.x0 + self.shift, x, level)
