"""What a peer's setting is, to this benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmarks.samplers.reference import Asked

Run = Callable[[Asked, Tensor, str, int], "Sampled"]
"""(denoiser, noise (B, ...), start, evaluations at most) to samples."""


STRONG = {
    "diffusers UniPC 2, linspace",
    "diffusers UniPC 3, linspace",
    "diffusers UniPC 3, trailing",
    "diffusers UniPC 3, exponential",
    "diffusers UniPC 2, flow shift 3",
    "diffusers UniPC 3, flow shift 3",
    "diffusers DPM-Solver++ 2M, linspace",
    "diffusers DPM-Solver++ 3M, linspace",
    "diffusers DPM-Solver++ 3M, Karras",
    "diffusers DPM-Solver++ 3M, flow shift 3",
    "diffusers EDM DPM-Solver++ 2M, Karras",
    "diffusers DEIS 2, linspace",
    "diffusers DEIS 3, linspace",
    "diffusers PNDM, leading",
    "diffusers DDIM, leading",
    "diffusers DDIM, trailing",
    "diffusers Heun, linspace",
    "diffusers flow Euler",
    "diffusers flow Heun",
    "k-diffusion DPM-Solver++ 2M, Karras",
    "k-diffusion DPM-Solver++ 2M, model",
    "k-diffusion DPM-Solver++ 3M SDE, eta 0, Karras",
    "k-diffusion DPM-Solver++ 3M SDE, eta 0, exponential",
    "k-diffusion LMS 4, Karras",
    "k-diffusion LMS 4, model",
    "k-diffusion Heun, Karras",
    "azula vAB 2, own schedule",
    "azula vAB 3, own schedule",
    "azula zEAB 2, own schedule",
    "azula xEAB 2, own schedule",
    "azula xEAB 3, own schedule",
    "azula REAB 2, own schedule",
    "azula REAB 3, own schedule",
    "azula vAB 2, Decay to 0.0001",
    "azula vAB 3, Rectified to 0.0001",
}
"""Settings that were best on some mixture from some start, and the libraries' defaults."""


@dataclass(frozen=True)
class Sampled:
    """Samples (B, ...) of the data, and the level they began at, with x = sigma noise."""

    x: Tensor
    alpha: float
    sigma: float


@dataclass(frozen=True)
class Setting:
    """One sampler of a library with one choice of its options."""

    library: str
    name: str
    run: Run
    starts: tuple[str, ...]
    default: bool = False
    """Whether it is what the library does unless told otherwise (but for the number of steps)."""
    shown: bool = False
    """Whether it is also run where evaluations are dear, on networks and for convergence, if no peer's."""

    @property
    def strong(self) -> bool:
        """Whether it is run there."""
        return self.shown or self.label in STRONG

    @property
    def label(self) -> str:
        """Library and name."""
        return f"{self.library} {self.name}"
