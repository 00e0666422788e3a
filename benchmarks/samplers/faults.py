"""Where peers are wrong or stop working: each claim of docs/peers.md, measured here."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import azula.sample
import diffusers
import torch
from torch import Tensor

from benchmarks.samplers import peers_azula, report
from benchmarks.samplers.convergence import KIND as SMOOTH
from benchmarks.samplers.convergence import slope
from benchmarks.samplers.measure import run
from benchmarks.samplers.peers_diffusers import level, table
from benchmarks.samplers.peers_kdiffusion import K, grid, levels
from benchmarks.samplers.problems import DOUBLE, Mixture, Problem, mixture
from benchmarks.samplers.reference import Asked, distance, reference

KIND = Mixture("d2-wide", 2, 6, 0.3, n=32)


def loop(scheduler: Any, kind: str, problem: Problem, begin: bool = True) -> tuple[Tensor, float, float]:  # noqa: ANN401
    """A run on timesteps already set: samples and their start."""
    ask, first, x = Asked(problem), (math.nan, math.nan), problem.noise
    if begin and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    for i, t in enumerate(scheduler.timesteps):
        alpha, sigma = level(scheduler, kind, i, t)
        if i == 0:
            first, x = (alpha, sigma), sigma * problem.noise
        scheduler.scale_model_input(x, t)
        x = scheduler.step(ask(x, alpha, sigma)[1], t, x).prev_sample
    return x, *first


def outcome(run: Callable[[], tuple[Tensor, float, float]], problem: Problem) -> str:
    """The error of a run, or what it raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x, alpha, sigma = run()
    except Exception as error:  # this is what is being looked at
        return f"`{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}`".replace(": `", "`")
    off = distance(x.double(), reference(problem, alpha, sigma))
    return report.number(float(off.square().mean().sqrt())) if bool(off.isfinite().all()) else "not finite"


def reab(seed: int) -> list[list[str]]:
    """The observed order of azula's REAB as it is, and with the one letter changed."""
    source = inspect.getsource(azula.sample.REABSampler)
    written, meant = "alpha_s**2 + sigma_t**2", "alpha_s**2 + sigma_s**2"
    if source.count(written) != 1:
        return [["changed since", "", "", ""]]
    names = dict(vars(azula.sample))
    exec(source.replace(written, meant), names)  # the installed package's own text, with the letter changed
    kept, rows = azula.sample.REABSampler, []
    for start in ("vp_linear", "flow"):
        problem = mixture(SMOOTH, start, seed)
        for order in (2, 3):
            row = [start, str(order)]
            for cls in (kept, names["REABSampler"]):
                azula.sample.REABSampler = cls
                made = peers_azula.setting("", "REABSampler", None, 1e-3, order=order)
                errors = [(n, run(made, problem, n).median) for n in (40, 64, 80, 128, 200)]
                row.append(f"{slope(errors):.2f}")
            azula.sample.REABSampler = kept
            rows.append(row)
    return rows


def reuse(seed: int) -> list[list[str]]:
    """A scheduler's first and second run, without setting the timesteps again."""
    problem, rows = mixture(KIND, "vp_linear", seed), []
    for cls, kind in (
        ("EulerDiscreteScheduler", "ve"),
        ("HeunDiscreteScheduler", "ve"),
        ("DPMSolverMultistepScheduler", "vp"),
        ("UniPCMultistepScheduler", "vp"),
        ("DEISMultistepScheduler", "vp"),
        ("PNDMScheduler", "table"),
        ("DDIMScheduler", "table"),
    ):
        options = {"clip_sample": False} if cls == "DDIMScheduler" else {}
        scheduler = getattr(diffusers, cls)(**table("vp_linear"), **options)
        scheduler.set_timesteps(20)
        rows.append(
            [cls, *(outcome(lambda s=scheduler, k=kind: loop(s, k, problem, begin=False), problem) for _ in range(2))]
        )
    return rows


def cosine(seed: int) -> list[list[str]]:
    """Grids of sigmas with the cosine schedule, without and with `set_begin_index`."""
    problem, rows = mixture(KIND, "vp_cosine", seed), []
    for cls in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"):
        for spacing in ("karras", "exponential", "beta"):
            row = [cls, spacing]
            for begin in (False, True):
                scheduler = getattr(diffusers, cls)(**table("vp_cosine"), **{f"use_{spacing}_sigmas": True})
                scheduler.set_timesteps(20)
                row.append(outcome(lambda s=scheduler, b=begin: loop(s, "vp", problem, begin=b), problem))
            rows.append(row)
    return rows


def corners(seed: int) -> dict[str, str]:
    """Step counts and options at which a scheduler stops working."""
    problem = mixture(KIND, "vp_linear", seed)

    def run(cls: str, kind: str, steps: int, **options: Any) -> str:  # noqa: ANN401
        def made() -> tuple[Tensor, float, float]:
            scheduler = getattr(diffusers, cls)(**table("vp_linear"), **options)
            scheduler.set_timesteps(steps)
            return loop(scheduler, kind, problem)

        return outcome(made, problem)

    unipc = "UniPCMultistepScheduler"
    return {
        'UniPC, `solver_type="bh1"`, 20 steps': run(unipc, "vp", 20, solver_type="bh1"),
        'the same, `final_sigmas_type="sigma_min"`': run(
            unipc, "vp", 20, solver_type="bh1", final_sigmas_type="sigma_min"
        ),
        "UniPC, 1000 steps": run(unipc, "vp", 1000),
        "DPM-Solver++, 1000 steps": run("DPMSolverMultistepScheduler", "vp", 1000),
        "PNDM, 3 steps": run("PNDMScheduler", "table", 3),
        "DEIS 3, 200 steps": run("DEISMultistepScheduler", "vp", 200, solver_order=3),
        "DEIS 3, 500 steps": run("DEISMultistepScheduler", "vp", 500, solver_order=3),
    }


def leading() -> list[list[str]]:
    """sigma / alpha at which the default of DDIM and PNDM begins."""
    rows = []
    for steps in (4, 5, 10, 20, 50):
        row = [str(steps)]
        for start in ("vp_linear", "vp_cosine"):
            scheduler = diffusers.DDIMScheduler(**table(start))
            scheduler.set_timesteps(steps)
            alpha, sigma = level(scheduler, "table", 0, scheduler.timesteps[0])
            row.append(f"{sigma / alpha:.3g}")
        rows.append(row)
    return rows


def churn(seed: int, n: int = 40000, steps: int = 300) -> dict[str, float]:
    """The variance of samples of N(0, 1/4) by Euler steps with churn: noise after the network call, and before."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 1, dtype=DOUBLE, generator=generator)
    sigmas = grid("Karras", "vp_linear", steps)
    spread = 0.25

    def data(x: Tensor, sigma: Tensor) -> Tensor:
        return x * spread / (spread + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2)

    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, s_churn in (("none", 0.0), ("k-diffusion", 0.1 * steps)):
            x = K.sample_euler(data, sigmas[0] * noise, sigmas, s_churn=s_churn, disable=True)
            found[name] = float(x.var())
        scheduler = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, **table("vp_linear"))
        scheduler.set_timesteps(steps)
        scheduler.is_scale_input_called, x = True, float(scheduler.sigmas[0]) * noise
        for i, t in enumerate(scheduler.timesteps):
            sigma = scheduler.sigmas[i].double()
            x = scheduler.step((x - data(x, sigma)) / sigma, t, x, s_churn=0.1 * steps).prev_sample
        found["diffusers"] = float(x.var())
    return found | {"exact": spread}


def ending(seed: int) -> dict[str, float]:
    """The distance that is left at 1000 evaluations by ending with the denoised sample at the table's lowest level."""
    problem = mixture(KIND, "vp_linear", seed)
    ask = Asked(problem)
    sigmas = grid("Karras", "vp_linear", 1000)
    x = K.sample_dpmpp_2m(lambda x, s: ask(x, 1.0, float(s[0]))[0], sigmas[0] * problem.noise, sigmas, disable=True)
    off = distance(x, reference(problem, 1.0, float(sigmas[0])))
    return {"lowest": float(levels("vp_linear")[0]), "rms": float(off.square().mean().sqrt())}


def weights(rounds: int = 7) -> dict[str, float]:
    """Milliseconds of processor time a step of linear multistep, of 20 steps on a tiny sample: median over rounds."""
    x, sigmas = torch.zeros(1, 3, 8, 8), grid("Karras", "vp_linear", 20).float()
    scheduler = diffusers.LMSDiscreteScheduler()

    def pipeline() -> None:
        for t in scheduler.timesteps:
            scheduler.step(x, t, x)

    found = {}
    for name, go in (
        ("k-diffusion", lambda: K.sample_lms(lambda x, s: x, x, sigmas, disable=True)),
        ("k-diffusion Euler", lambda: K.sample_euler(lambda x, s: x, x, sigmas, disable=True)),
        ("diffusers", pipeline),
    ):
        spent = []
        for _ in range(rounds):
            scheduler.set_timesteps(20)
            scheduler.is_scale_input_called = True
            began = time.thread_time()
            go()
            spent.append((time.thread_time() - began) / 20 * 1e3)
        found[name] = median(spent)
    return found


def measure(seed: int) -> dict[str, Any]:
    """All of them."""
    return {
        "reab": reab(seed),
        "reuse": reuse(seed),
        "cosine": cosine(seed),
        "corners": corners(seed),
        "leading": leading(),
        "churn": churn(seed),
        "ending": ending(seed),
        "weights": weights(),
    }


def page(found: dict[str, Any], curves: list[dict[str, Any]], about: str) -> str:
    """docs/peers.md."""
    churned, end, spent = found["churn"], found["ending"], found["weights"]
    others = [c for c in curves if c["library"] != "reverie"]
    return f"""# Where other libraries differ, with the numbers

{about}

Written by `python -m benchmarks.samplers convergence faults`, which measures every figure below. The error is the root
mean square distance from the exact solution of the flow ODE begun at the same noise and level,
on a mixture of Gaussians in two dimensions. How the libraries compare in accuracy and speed is in
[samplers-benchmark.md](samplers-benchmark.md).

## diffusers

**A scheduler serves one run**, but for DDIM's. The error of the first run of a scheduler, and of a second one without
another call of `set_timesteps`:

{report.table(["scheduler", "first run", "second run"], found["reuse"], left=3)}

**Levels told as integer timesteps.** With the cosine schedule, grids of sigmas round to timesteps that repeat, and the
step is looked up by timestep. 20 steps, as the loop in the documentation has it, and after `set_begin_index(0)`:

{report.table(["scheduler", "grid", "plain loop", "with `set_begin_index(0)`"], found["cosine"], left=4)}

**Corners.** On the linear schedule, the error or what is raised:

{report.table(["what", "outcome"], [[k, v] for k, v in found["corners"].items()], left=2)}

**Where sampling begins.** The default spacing of DDIM and PNDM ("leading") begins well below the noise it is given;
sigma / alpha at the first of N steps:

{report.table(["N", "linear", "cosine"], found["leading"])}

**Euler with churn** adds the noise after the network was asked, so that the answer belongs to another x. Variance of
samples of N(0, {churned["exact"]:g}) in 300 steps with a churn of 0.1 a step: diffusers {churned["diffusers"]:.4f},
k-diffusion, which adds it before as Karras et al. (2022) do, {churned["k-diffusion"]:.4f}, without churn
{churned["none"]:.4f} (standard error of each about {churned["exact"] * math.sqrt(2 / 40000):.4f}). Neither is exact
in so few steps; they are different algorithms under one name.

**Weights of linear multistep** are integrated numerically at every step of every run, here and in k-diffusion: a step
takes {spent["diffusers"]:.1f} ms of processor time in diffusers and {spent["k-diffusion"]:.2f} ms in k-diffusion, whose
Euler takes {spent["k-diffusion Euler"]:.3f} ms.

## k-diffusion

**The last step.** Samplers end by denoising at the lowest level of the grid. With the lowest level of the linear
table, sigma = {end["lowest"]:.4f}, that leaves DPM-Solver++ 2M an error of {end["rms"]:.1e} however many steps are
taken (here 1000).

## azula

**REAB.** The weight of the integral is written with sigma_t where the formula above it has sigma_s. Observed order as
installed, and with that letter changed in the installed text:

{report.table(["start", "declared", "as installed", "with sigma_s"], found["reab"])}

**The sample is left at sigma_min**, 0.001 unless told otherwise, which is the floor of its solvers in the table below.

## Order, rises and floor

On a mixture so wide that every sample converges smoothly. Observed order of the median error between 40 and 200
evaluations (as a check, Euler's methods come out at 1.0); the largest factor by which the error exceeds what fewer
evaluations gave, and where; the least error over 5 to 1000 evaluations; numbers of evaluations at which it raises or
does not end in finite numbers.

{report.convergence(others)}
"""
