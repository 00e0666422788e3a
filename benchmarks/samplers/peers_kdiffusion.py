"""k-diffusion: its samplers work on x / alpha and sigma / alpha, so any process is the same to them.

Grids: Karras' and the exponential one over the levels of the model (its documented use), Karras' from 80 at
most to 0.002 too (EDM's), and the model's own, which is even in the time of its 1000-step table.

Only `k_diffusion.sampling` is imported. Its package imports a great deal that sampling does not use
(torchvision, clip, kornia, wandb, ...), so the package itself is not run, and torchvision, which the
module's helpers name for pictures, is stood in for by an empty module.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.samplers.peers_base import Sampled, Setting
from benchmarks.samplers.reference import Asked

STARTS = ("vp_linear", "vp_cosine", "edm", "flow")
FLOW_MIN, FLOW_MAX = 1 / 999, 999.0
"""sigma / alpha at the ends of a rectified flow told at t = 0.001 ... 0.999."""


def imported(name: str) -> ModuleType:
    """k_diffusion.`name`, without running k_diffusion/__init__.py."""
    if "k_diffusion" not in sys.modules:
        spec = importlib.util.find_spec("k_diffusion")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("k-diffusion is not installed; `make peers` installs what this benchmark compares with")
        package = ModuleType("k_diffusion")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["k_diffusion"] = package
    if importlib.util.find_spec("torchvision") is None:
        for stub in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules.setdefault(stub, ModuleType(stub))
        sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]  # type: ignore[attr-defined]
    return importlib.import_module(f"k_diffusion.{name}")


K = imported("sampling")


@cache
def levels(start: str) -> Tensor:
    """sigma / alpha of the model's table of 1000, rising."""
    if start == "edm":
        return torch.logspace(torch.tensor(0.002).log10(), torch.tensor(80.0).log10(), 1000, dtype=torch.float64)
    if start == "flow":
        t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
        return t / (1 - t)
    if start == "vp_linear":
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    else:
        cos = torch.cos((torch.arange(1001, dtype=torch.float64) / 1000 + 0.008) / 1.008 * torch.pi / 2) ** 2
        betas = (1 - cos[1:] / cos[:-1]).clamp_max(0.999)
    kept = (1 - betas).cumprod(0)
    return ((1 - kept) / kept).sqrt()


def grid(kind: str, start: str, steps: int) -> Tensor:
    """sigmas (N + 1,), falling, the last 0."""
    table = levels(start)
    low, high = float(table[0]), float(table[-1])
    if kind == "model":
        t = torch.linspace(len(table) - 1, 0, steps, dtype=torch.float64)
        below, part = t.floor().long().clamp_max(len(table) - 2), t - t.floor().clamp_max(len(table) - 2)
        logs = table.log()
        return torch.cat(
            [((1 - part) * logs[below] + part * logs[below + 1]).exp(), torch.zeros(1, dtype=torch.float64)]
        )
    shape, _, range_ = kind.partition(" ")
    if range_ == ".002-80":
        low, high = 0.002, min(high, 80.0)
    made = {"Karras": K.get_sigmas_karras, "exponential": K.get_sigmas_exponential}[shape]
    return made(steps, low, high).double()


def setting(
    name: str,
    sampler: str,
    grid_: str,
    default: bool = False,
    cost: str = "n",
    starts: tuple[str, ...] = STARTS,
    **options: Any,  # noqa: ANN401
) -> Setting:
    """A sampler on a grid."""

    def run(ask: Asked, noise: Tensor, start: str, evaluations: int) -> Sampled:
        steps = {"n": evaluations, "2n-1": (evaluations + 1) // 2}[cost]
        sigmas = grid(grid_, start, steps)
        model = lambda x, sigma: ask(x, 1.0, float(sigma[0]))[0]  # noqa: E731
        x = getattr(K, sampler)(model, sigmas[0] * noise, sigmas, disable=True, **options)
        return Sampled(x, 1.0, float(sigmas[0]))

    return Setting("k-diffusion", f"{name}, {grid_}", run, starts, default)


def fast(ask: Asked, noise: Tensor, start: str, evaluations: int) -> Sampled:
    """DPM-Solver-fast, which chooses its own grid; the sample stays at the lowest level, as its authors leave it."""
    low, high = float(levels(start)[0]), float(levels(start)[-1])
    x = K.sample_dpm_fast(
        lambda x, sigma: ask(x, 1.0, float(sigma[0]))[0], high * noise, low, high, evaluations, disable=True
    )
    return Sampled(x, 1.0, high)


def settings() -> list[Setting]:
    """Those compared."""
    still = {"eta": 0.0, "noise_sampler": lambda sigma, following: 0.0}
    methods = {
        "DPM-Solver++ 2M": partial(setting, sampler="sample_dpmpp_2m"),
        "DPM-Solver++ 2M SDE, eta 0": partial(setting, sampler="sample_dpmpp_2m_sde", **still),
        "DPM-Solver++ 3M SDE, eta 0": partial(setting, sampler="sample_dpmpp_3m_sde", **still),
        "LMS 4": partial(setting, sampler="sample_lms"),
        "LMS 3": partial(setting, sampler="sample_lms", order=3),
        "Heun": partial(setting, sampler="sample_heun", cost="2n-1"),
        "DPM 2": partial(setting, sampler="sample_dpm_2", cost="2n-1"),
        "Euler": partial(setting, sampler="sample_euler"),
    }
    found = []
    for name, made in methods.items():
        for kind in ("Karras", "Karras .002-80", "exponential", "model"):
            if kind == "Karras" or name not in ("DPM-Solver++ 2M SDE, eta 0", "Euler"):
                starts = tuple(s for s in STARTS if not (s == "edm" and kind == "Karras .002-80"))  # the same there
                found.append(made(name, grid_=kind, default=kind == "Karras", starts=starts))
    return [*found, Setting("k-diffusion", "DPM fast", fast, STARTS)]
