"""diffusers: its schedulers, each asked for the exact noise at exactly the level it works with.

A scheduler is told the network's output and believes it to have been made at its own sigma. Multistep
schedulers hold x = alpha x0 + sigma eps, Euler, Heun and LMS x / alpha, DDIM and PNDM the levels of a
table of 1000; the network is told whichever of these it is, not the rounded timestep.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import diffusers
import torch
from torch import Tensor

from benchmarks.samplers.peers_base import Sampled, Setting
from benchmarks.samplers.reference import Asked

VP = ("vp_linear", "vp_cosine")
TABLES = (*VP, "edm")

diffusers.utils.logging.set_verbosity_error()


@cache
def table(start: str) -> dict[str, Any]:
    """How a scheduler is told its process. EDM's levels as betas: 1000 of them, geometric from .002 to 80."""
    if start == "vp_linear":
        return {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    if start == "vp_cosine":
        return {"beta_schedule": "squaredcos_cap_v2"}
    rho = torch.logspace(math.log10(0.002), math.log10(80.0), 1000, dtype=torch.float64)
    kept = 1 / (1 + rho**2)
    before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    return {"trained_betas": (1 - kept / before).tolist()}


def level(scheduler: Any, kind: str, i: int, t: Tensor) -> tuple[float, float]:  # noqa: ANN401
    """alpha and sigma of the x that the scheduler holds at its i-th call."""
    if kind == "table":
        kept = float(scheduler.alphas_cumprod[int(t)])
        return math.sqrt(kept), math.sqrt(1 - kept)
    sigma = float(scheduler.sigmas[i].double())
    if kind == "ve":
        return 1.0, sigma
    if kind == "flow":
        return 1 - sigma, sigma
    size = math.sqrt(1 + sigma**2)
    return 1 / size, sigma / size


def follow(scheduler: Any, kind: str, output: str, steps: int, ask: Asked, noise: Tensor) -> Sampled:  # noqa: ANN401
    """The loop of a diffusers pipeline."""
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # as pipelines do; without it, timesteps that round to the same one crash
    first, x = None, noise
    for i, t in enumerate(scheduler.timesteps):
        alpha, sigma = level(scheduler, kind, i, t)
        if first is None:
            first, x = (alpha, sigma), sigma * noise
        x0, eps = ask(x, alpha, sigma)
        if output == "eps":
            told = eps
        elif output == "flow":
            told = eps - x0
        else:  # EDM's: the data prediction without its preconditioning
            c = scheduler.config.sigma_data
            told = (x0 - c**2 / (sigma**2 + c**2) * x) / (sigma * c / math.sqrt(sigma**2 + c**2))
        if hasattr(scheduler, "is_scale_input_called"):
            scheduler.is_scale_input_called = True  # it was: x is told with its own scale
        x = scheduler.step(told, t, x).prev_sample
    assert first is not None
    return Sampled(x, *first)


def setting(
    name: str,
    cls: str,
    kind: str = "vp",
    output: str = "eps",
    starts: tuple[str, ...] = TABLES,
    default: bool = False,
    cost: str = "n",
    **options: Any,  # noqa: ANN401
) -> Setting:
    """A scheduler with options; `cost` is its evaluations for n steps."""

    def run(ask: Asked, noise: Tensor, start: str, evaluations: int) -> Sampled:
        steps = {"n": evaluations, "2n-1": (evaluations + 1) // 2, "n+1": evaluations - 1, "n+9": evaluations - 9}[cost]
        if steps < 1:
            raise ValueError(f"{evaluations} evaluations are too few")
        told = dict(options)
        if start in TABLES and output != "edm":
            told |= table(start)
        if start == "edm" and output == "edm":
            told |= {"sigma_min": 0.002, "sigma_max": 80.0}
        if start == "flow" and "FlowMatch" not in cls:
            told |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        scheduler = getattr(diffusers, cls)(**told)
        flow = start == "flow"
        return follow(scheduler, "flow" if flow else kind, "flow" if flow else output, steps, ask, noise)

    return Setting("diffusers", name, run, starts, default)


def settings() -> list[Setting]:
    """Those compared."""
    unipc, dpm, deis = "UniPCMultistepScheduler", "DPMSolverMultistepScheduler", "DEISMultistepScheduler"
    every = (*TABLES, "flow")
    karras, exponential, beta = ({f"use_{g}_sigmas": True} for g in ("karras", "exponential", "beta"))
    trailing = {"timestep_spacing": "trailing"}
    found = [
        setting("UniPC 2, linspace", unipc, starts=every, default=True),
        setting("UniPC 3, linspace", unipc, starts=every, solver_order=3),
        setting("UniPC 3, trailing", unipc, solver_order=3, **trailing),
        setting("UniPC 2, Karras", unipc, **karras),
        setting("UniPC 3, Karras", unipc, solver_order=3, **karras),
        setting(
            "UniPC 3 bh1, Karras", unipc, solver_order=3, solver_type="bh1", final_sigmas_type="sigma_min", **karras
        ),
        setting("UniPC 3, exponential", unipc, solver_order=3, **exponential),
        setting("UniPC 3, beta", unipc, solver_order=3, **beta),
        setting("DPM-Solver++ 2M, linspace", dpm, starts=every, default=True),
        setting("DPM-Solver++ 2M Heun, linspace", dpm, starts=every, solver_type="heun"),
        setting("DPM-Solver++ 3M, linspace", dpm, starts=every, solver_order=3),
        setting("DPM-Solver++ 2M, trailing", dpm, **trailing),
        setting("DPM-Solver++ 2M, Karras", dpm, **karras),
        setting("DPM-Solver++ 3M, Karras", dpm, solver_order=3, **karras),
        setting("DPM-Solver++ 3M, exponential", dpm, solver_order=3, **exponential),
        setting("DPM-Solver++ 2M, Lu", dpm, use_lu_lambdas=True),
        setting("DPM-Solver++ 3M, Lu", dpm, solver_order=3, use_lu_lambdas=True),
        setting("DPM-Solver++ 2M, beta", dpm, **beta),
        setting("DPM-Solver 2M, Karras", dpm, algorithm_type="dpmsolver", final_sigmas_type="sigma_min", **karras),
        setting("DPM-Solver++ 3S, default", "DPMSolverSinglestepScheduler", solver_order=3),
        setting("DEIS 2, linspace", deis, starts=every, default=True),
        setting("DEIS 3, linspace", deis, starts=every, solver_order=3),
        setting("DEIS 3, Karras", deis, solver_order=3, **karras),
        setting("PNDM, leading", "PNDMScheduler", "table", starts=VP, default=True, cost="n+9"),
        setting(
            "PLMS, trailing",
            "PNDMScheduler",
            "table",
            starts=VP,
            cost="n+1",
            skip_prk_steps=True,
            set_alpha_to_one=True,
            **trailing,
        ),
        setting("DDIM, leading", "DDIMScheduler", "table", starts=VP, default=True, clip_sample=False),
        setting("DDIM, trailing", "DDIMScheduler", "table", starts=VP, clip_sample=False, **trailing),
        setting("LMS, linspace", "LMSDiscreteScheduler", "ve", default=True),
        setting("LMS, Karras", "LMSDiscreteScheduler", "ve", **karras),
        setting("Heun, linspace", "HeunDiscreteScheduler", "ve", default=True, cost="2n-1"),
        setting("Heun, Karras", "HeunDiscreteScheduler", "ve", cost="2n-1", **karras),
        setting("Euler, linspace", "EulerDiscreteScheduler", "ve", default=True),
        setting("Euler, Karras", "EulerDiscreteScheduler", "ve", **karras),
    ]
    edm = {"output": "edm", "kind": "ve", "starts": ("edm",)}
    found += [
        setting("EDM DPM-Solver++ 2M, Karras", "EDMDPMSolverMultistepScheduler", default=True, **edm),
        setting("EDM DPM-Solver++ 3M, Karras", "EDMDPMSolverMultistepScheduler", solver_order=3, **edm),
        setting(
            "EDM DPM-Solver++ 3M, exponential",
            "EDMDPMSolverMultistepScheduler",
            solver_order=3,
            sigma_schedule="exponential",
            **edm,
        ),
        setting("EDM Euler, Karras", "EDMEulerScheduler", default=True, **edm),
        setting("flow Euler", "FlowMatchEulerDiscreteScheduler", starts=("flow",), default=True),
        setting("flow Euler, shift 3", "FlowMatchEulerDiscreteScheduler", starts=("flow",), shift=3.0),
        setting("flow Heun", "FlowMatchHeunDiscreteScheduler", starts=("flow",), default=True, cost="2n-1"),
        setting("flow Heun, shift 3", "FlowMatchHeunDiscreteScheduler", starts=("flow",), cost="2n-1", shift=3.0),
    ]
    for shift in (0.5, 2.0, 3.0):
        shifted = {"starts": ("flow",), "flow_shift": shift}
        for name, cls in (("UniPC", unipc), ("DPM-Solver++", dpm)):
            for order in (2, 3):
                label = f"{name} {order}{'M' if cls == dpm else ''}, flow shift {shift:g}"
                found.append(setting(label, cls, solver_order=order, **shifted))
    return found
