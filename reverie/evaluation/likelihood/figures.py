"""What is asked of a measurement of likelihoods, and what comes of it.

Letters in shapes: N examples, D numbers of one example, T steps of the chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reverie import config


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Raises:
        ValueError: a number out of its range, named.
    """

    n: int = 256
    """Examples, drawn without replacement; all there are, if fewer."""
    split: str | None = None
    """Of the data: train, validation or all; unless given, what the run held out, and all of other data."""
    label: str = "own"
    """Whether a model with classes is told the example's own, or none."""
    steps: int | None = None
    """T of the bound's chain; its own knots, or `STEPS`, unless given."""
    fraction: float | None = None
    """Of the chain's variance where it is not learned; that of the run's ancestral sampler, else 1."""
    ode_steps: int = 64
    probes: int | None = None
    """0 for the exact trace; unless given, exact up to D = 32, 4 above."""
    draws: int = 1
    """Of the dequantisation, averaged; one is the convention."""
    seed: int = 0
    batch: int = 64
    """Examples at a time; changes no number on a CPU, and only rounding elsewhere."""
    bound: bool = True
    ode: bool = True

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("ode_steps", 1), ("draws", 1), ("batch", 1), ("seed", 0), ("probes", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}; given {value}")
        if self.steps is not None and self.steps < 2:
            raise ValueError(f"the bound's chain needs at least 2 steps, one of them the decoder; given {self.steps}")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise ValueError(f"the variance needs a fraction in [0, 1]; given {self.fraction}")
        for name, known in (("split", (None, "train", "validation", "all")), ("label", ("own", "none"))):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(k for k in known if k)}; given {value!r}")
        if not (self.bound or self.ode):
            raise ValueError("neither the bound nor the flow ODE is asked for; ask for one or both")


@dataclass(frozen=True)
class Bound:
    """The variational bound, its terms in nats per dimension; their sum over log 2 is `bits_per_dim`."""

    t: tuple[float, ...]
    """(T - 1,), from where each step starts."""
    nats_per_dim: tuple[float, ...]
    """(T - 1,), E KL(q(x_s | x_t, x0) || p(x_s | x_t)) of each step."""
    prior: float
    """L_T."""
    decoder: float
    """L_0, of the data in their own units."""
    bits_per_dim: float
    standard_error: float | None
    """Over the examples, the noise of each term included; None of a single one."""


@dataclass(frozen=True)
class Ode:
    """The likelihood by the flow ODE."""

    bits_per_dim: float
    standard_error: float | None
    """Over the examples, with all that follows included; None of a single one."""
    from_probes: float
    """The part of it that random probes of the trace have: 0 where it is exact."""
    from_dequantisation: float
    """The part that the draw of u has, seen in a second one; 0 for data on no grid."""
    nats: float
    """The mean log density of an example's data, dequantised where they lie on a grid."""
    evaluations: int
    """Points (x, t) that the denoiser was asked about, for each example and draw."""


@dataclass(frozen=True)
class Solver:
    """What a number of steps of the ODE gives, of the first batch of examples."""

    steps: int
    evaluations: int
    bits_per_dim: float
    change: float
    """The mean distance from what the most steps give, in bits per dimension."""


@dataclass(frozen=True)
class Likelihood:
    """What was measured, and how."""

    protocol: dict[str, config.Plain]
    bound: Bound | None
    ode: Ode | None
    solver: tuple[Solver, ...]

    def to_data(self) -> dict[str, config.Plain]:
        """Plain data, as it goes into a file; what was not measured is left out."""
        plain = config.to_data(self)
        return {key: value for key, value in plain.items() if value not in (None, [])}


@dataclass(frozen=True)
class Progress:
    """How far a measurement is, in batches, and at its end the result."""

    done: int
    total: int
    result: Likelihood | None = None


def name_of(found: Likelihood, settings: Settings) -> str:
    """A file name that tells measurements of a run apart, without an ending."""
    data = Path(str(found.protocol["data"])).stem
    asked = "" if settings.bound and settings.ode else "-bound" if settings.bound else "-ode"
    label = "-label-none" if settings.label == "none" else ""
    return f"{data}-{found.protocol['split']}-n{settings.n}-seed{settings.seed}{label}{asked}"
