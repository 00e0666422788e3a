"""What several test files share: every registered part, exact denoisers, and two exact statistics."""

import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.config import Part, hints, registered
from reverie.data import Digits, Smaller
from reverie.exact import Gaussian, GaussianMixture
from reverie.grids import Tuned
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Ancestral, Heun, Sampler
from reverie.schedules import GivenBetas, Schedule, Table
from reverie.tensors import host

DOUBLE = torch.float64

EXAMPLES = {
    "given": GivenBetas((0.1, 0.2, 0.5)),
    "smaller": Smaller(Digits()),
    "tuned": Tuned(5, ((1.0, 0.4, 0.0), (1.0, 0.8, 0.55, 0.3, 0.1, 0.0))),
}
"""Parts that need an example: a field that is not text has no default."""


def default(cls: type[Part]) -> Part:
    """A part with its default settings; text without a default, such as a path, is "given"."""
    if cls.kind in EXAMPLES:
        return EXAMPLES[cls.kind]
    known = hints(cls)
    needed = [f.name for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING]
    return cls(**{name: "given" for name in needed if known[name] in (str, Path)})


def defaults(family: type[Part]) -> dict[str, Part]:
    """Every registered part of a family, with its default settings."""
    return {kind: default(cls) for kind, cls in registered(family).items()}


def cases(family: type[Part]) -> dict:
    """For `pytest.mark.parametrize("name", **cases(Family))`."""
    found = defaults(family)
    return {"argvalues": list(found.values()), "ids": list(found)}


def named(**values: object) -> dict:
    """For `pytest.mark.parametrize("name", **named(id=value, ...))`."""
    return {"argvalues": list(values.values()), "ids": list(values)}


SCHEDULES: dict[str, Schedule] = {
    **defaults(Schedule),
    "table_cosine": Table.cosine(),
    "table_short": Table.linear(20, 0.005, 0.6),
    "table_zero_snr": Table(GivenBetas((0.1, 0.2, 0.5, 1.0))),
}
"""Every registered schedule, and tables with other rules."""

SAMPLERS: dict[str, Sampler] = {
    **defaults(Sampler),
    "ancestral_half": Ancestral(0.5),
    "ancestral_upper": Ancestral(1.0),
    "ddim_half": DDIM(0.5),
    "ddim_one": DDIM(1.0),
    "heun_churn": Heun(churn=0.2),
}
"""Every registered sampler, and the settings that make them stochastic."""

DETERMINISTIC = {name: s for name, s in SAMPLERS.items() if s.deterministic}
STOCHASTIC = {name: s for name, s in SAMPLERS.items() if not s.deterministic}

every_schedule = named(**SCHEDULES)
every_sampler = named(**SAMPLERS)


def seeded(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(sum(k * 1000**i for i, k in enumerate(key)))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=DOUBLE)


def noise_from(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator)


def quadratic(steps: int, start: float = 1.0) -> Tensor:
    """start (1 - i / N)^2: the last step, N^-2, leaves an Euler step there no say in the order."""
    return start * torch.linspace(1, 0, steps + 1, dtype=DOUBLE) ** 2


def gaussian(schedule: Schedule) -> Gaussian:
    return Gaussian(schedule, torch.tensor([0.7, -0.4, 1.1], dtype=DOUBLE), torch.tensor([0.8, 0.5, 1.2], dtype=DOUBLE))


def mixture(schedule: Schedule) -> GaussianMixture:
    """A lopsided mixture in the plane."""
    means = torch.tensor([[1.0, 0.5], [-1.5, -0.5]], dtype=DOUBLE)
    stds = torch.tensor([[0.6, 0.5], [0.4, 0.7]], dtype=DOUBLE)
    return GaussianMixture(schedule, means, stds, torch.tensor([0.75, 0.25]))


def labelled(schedule: Schedule) -> GaussianMixture:
    """Four components, two of each of two classes."""
    means = torch.tensor([[1.0, 0.5], [-1.5, -0.5], [0.0, 1.5], [0.5, -1.0]], dtype=DOUBLE)
    stds = torch.tensor([0.6, 0.4, 0.5, 0.7], dtype=DOUBLE)
    return GaussianMixture(schedule, means, stds, torch.tensor([1.0, 2, 3, 2]), labels=torch.tensor([0, 1, 0, 1]))


def slope(errors: list[float], factor: float = 2.0) -> float:
    """The order at which errors fall when the number of steps grows by `factor` each time, at the finest pair."""
    return math.log(errors[-2] / errors[-1]) / math.log(factor)


def distance(samples: Tensor, data: GaussianMixture, directions: int = 8) -> float:
    """The largest Kolmogorov distance over lines between samples (n, d) and the mixture's own projection.

    The projection of a Gaussian mixture is one, so its distribution function is exact, and the
    only chance is that of the samples.
    """
    angles = torch.arange(directions, dtype=DOUBLE) * math.pi / directions
    lines = torch.stack([angles.cos(), angles.sin()])
    if samples.shape[1] != 2:
        lines = torch.nn.functional.normalize(randn(samples.shape[1], directions, seed=9), dim=0)
    x = (samples.to(DOUBLE) @ lines).sort(0).values
    mean, std = data.means @ lines, (data.stds**2 @ lines**2).sqrt()
    cdf = (torch.special.ndtr((x.unsqueeze(1) - mean) / std) * data.weights[:, None]).sum(1)
    n = len(x)
    rank = torch.arange(n, dtype=DOUBLE)[:, None]
    return float(torch.maximum(cdf - rank / n, (rank + 1) / n - cdf).max())


def threshold(n: int, directions: int = 8, false_alarm: float = 1e-5) -> float:
    """What `distance` exceeds with probability at most `false_alarm` (Massart, 1990, and a union bound)."""
    return math.sqrt(math.log(2 * directions / false_alarm) / (2 * n))


class Stub:
    """A denoiser whose x0 (or any other half) is whatever the test says."""

    def __init__(self, schedule: Schedule, x0: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.schedule, self.x0 = schedule, x0

    def __call__(self, x: Tensor, t: Tensor, cond: object = None) -> Prediction:
        return Prediction.from_x0(self.x0(x, t), x, self.schedule.at(t, like=x))


def close(a: Tensor | float, b: Tensor | float, tolerance: float = 1e-12) -> bool:
    """Equal to `tolerance` relative to 1 or the larger of the two, element by element; prints how far off."""
    a, b = host(a), host(b)
    off = ((a - b).abs() / torch.maximum(a.abs(), b.abs()).clamp_min(1)).max()
    if not off <= tolerance:
        print(f"largest difference {float(off):.3g}, allowed {tolerance:.3g}")
    return a.shape == b.shape and bool(off <= tolerance)


def stirred(module: nn.Module) -> nn.Module:
    """The same module in float64 and eval mode, none of its parameters 0 any more."""
    module = module.double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module


def fitted(net: nn.Module, x: Tensor, label: Tensor, cond: Cond | None, target: Tensor, lr: float) -> Iterator[float]:
    """The squared error of one batch, seen before each step of Adam that has just been taken; without end."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    while True:
        loss = (net(x, label, cond) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()
