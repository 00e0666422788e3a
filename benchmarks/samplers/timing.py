"""What the loop costs beside the network: milliseconds an evaluation, all libraries interleaved in one run.

The network is trivial: it answers with a tensor that is already there. Each round runs every case, in an
order of its own, twice, and times the second, in processor time of its one thread. A figure is the median
over rounds, and a ratio the median of the ratios within a round, so that a busy machine slows both sides
alike. Samples are float32. Grids and schedulers' tables are made outside the clock, coefficients that a
sampler computes itself inside.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

import reverie
from benchmarks.samplers.peers_kdiffusion import K, grid
from reverie.config import registered
from reverie.denoiser import Denoiser
from reverie.samplers import Sampler

STEPS = 20
SHAPE = (3, 32, 32)
BASE = ("k-diffusion DPM-Solver++ 2M", "diffusers Euler")
"""What ratios are to: the quickest sampler worth having of either."""


@dataclass(frozen=True)
class Timed:
    """A case at a batch size."""

    library: str
    name: str
    batch: int
    milliseconds: float
    """An evaluation, median over rounds."""
    quiet: float
    """The tenth part of the rounds was quicker: what it costs when nothing else runs."""
    ratios: dict[str, float]
    """To each of `BASE`, medians of ratios within a round."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Still(nn.Module):
    """A network that has its answer already."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("answer", torch.zeros_like(like))

    def forward(self, x: Tensor, label: Tensor, cond: object) -> Tensor:
        return self.answer


class Trivial:
    """A denoiser that has its answer already: what remains is the sampler and the loop."""

    def __init__(self, like: Tensor) -> None:
        self.schedule, self.answer, self.calls = reverie.LinearVP(), torch.zeros_like(like), 0

    def __call__(self, x: Tensor, t: Tensor, cond: object = None) -> reverie.Prediction:
        self.calls += 1
        answer = self.answer if len(x) == len(self.answer) else self.answer[:1].expand_as(x)
        return reverie.Prediction.from_eps(answer, x, self.schedule.at(t, like=x))


def deterministic() -> dict[str, Sampler]:
    """Every deterministic sampler of Reverie of order 1 to 3, by name.

    `Picard` is left out: it evaluates all times at once, in batches of its own; and `Weighed`, which is
    another method with other weights.
    """
    found: dict[str, Sampler] = {}
    for kind, cls in registered(Sampler).items():
        if kind in ("picard", "weighed"):
            continue
        for options in ({}, {"order": 1}, {"order": 2}, {"order": 3}):
            try:
                sampler = cls(**options)
            except (TypeError, ValueError):
                continue
            if sampler.deterministic and sampler.order <= 3 and sampler not in found.values():
                found[f"{kind} {sampler.order}" if "order" in getattr(cls, "__dataclass_fields__", {}) else kind] = (
                    sampler
                )
    return found


def cases(x: Tensor) -> dict[tuple[str, str], tuple[Callable[[], object], int]]:
    """By library and name: what runs, and its evaluations."""
    found: dict[tuple[str, str], tuple[Callable[[], object], int]] = {}
    answer = torch.zeros_like(x)
    schedule = reverie.LinearVP()
    times = reverie.LogSNR(STEPS)(schedule)
    for name, sampler in deterministic().items():
        f = Trivial(x)
        reverie.generate(f, sampler, times, x)
        found["reverie", name] = (lambda s=sampler, f=f: reverie.generate(f, s, times, x)), f.calls
    wrapped = Denoiser(Still(x), schedule, reverie.Eps())
    for name in ("adams 3", "ddim"):
        if name in deterministic():
            sampler = deterministic()[name]
            found["reverie", f"{name}, with `Denoiser`"] = (
                (lambda s=sampler: reverie.generate(wrapped, s, times, x)),
                STEPS,
            )
    sigmas = grid("Karras", "vp_linear", STEPS).float()
    still = {"eta": 0.0, "noise_sampler": lambda sigma, following: 0.0}
    for name, function, cost, options in (
        ("Euler", K.sample_euler, STEPS, {}),
        ("Heun", K.sample_heun, 2 * STEPS - 1, {}),
        ("DPM 2", K.sample_dpm_2, 2 * STEPS - 1, {}),
        ("LMS 4", K.sample_lms, STEPS, {}),
        ("DPM-Solver++ 2M", K.sample_dpmpp_2m, STEPS, {}),
        ("DPM-Solver++ 3M SDE, eta 0", K.sample_dpmpp_3m_sde, STEPS, still),
    ):
        model = lambda x, sigma: answer  # noqa: E731
        found["k-diffusion", name] = (lambda g=function, o=options, m=model: g(m, x, sigmas, disable=True, **o)), cost
    for name, cls, options in (
        ("Euler", "EulerDiscreteScheduler", {}),
        ("DDIM", "DDIMScheduler", {}),
        ("Heun", "HeunDiscreteScheduler", {}),
        ("PLMS", "PNDMScheduler", {"skip_prk_steps": True}),
        ("DEIS 2", "DEISMultistepScheduler", {}),
        ("DPM-Solver++ 2M", "DPMSolverMultistepScheduler", {}),
        ("DPM-Solver++ 3M", "DPMSolverMultistepScheduler", {"solver_order": 3}),
        ("UniPC 2", "UniPCMultistepScheduler", {}),
        ("UniPC 3", "UniPCMultistepScheduler", {"solver_order": 3}),
    ):
        scheduler = getattr(diffusers, cls)(**options)
        scheduler.set_timesteps(STEPS)
        found["diffusers", name] = (lambda s=scheduler: pipeline(s, x, answer)), len(scheduler.timesteps)
    return found


def pipeline(scheduler: Any, x: Tensor, answer: Tensor) -> Tensor:  # noqa: ANN401
    """The loop of a diffusers pipeline; setting the timesteps again, which a second run needs, is not on the clock."""
    for t in scheduler.timesteps:
        scheduler.scale_model_input(x, t)
        x = scheduler.step(answer, t, x, return_dict=False)[0]
    return x


def measure(batches: tuple[int, ...] = (1, 64), seconds: float = 60.0) -> list[Timed]:
    """All cases at each batch size, in rounds until the time is up."""
    found: list[Timed] = []
    rng = random.Random(0)
    for batch in batches:
        x = torch.randn(batch, *SHAPE)
        made = cases(x)
        spent: dict[tuple[str, str], list[float]] = {key: [] for key in made}
        began = time.perf_counter()
        while time.perf_counter() - began < seconds / len(batches) or len(spent["reverie", "ddim"]) < 6:
            order = list(made)
            rng.shuffle(order)
            for key in order:
                function, cost = made[key]
                for _ in range(2):  # the first brings back memory that the others have pushed out
                    reset(function)
                    start = time.thread_time()
                    with torch.no_grad():
                        function()
                    taken = time.thread_time() - start
                spent[key].append(taken / cost * 1e3)
        rounds = {key: values[1:] for key, values in spent.items()}  # the first warms up
        for (library, name), values in rounds.items():
            ratios = {
                base: median(a / b for a, b in zip(values, rounds[tuple(base.split(" ", 1))], strict=True))
                for base in BASE
            }
            quiet = sorted(values)[len(values) // 10]
            found.append(Timed(library, name, batch, median(values), quiet, ratios))
    return found


def reset(function: Callable[[], object]) -> None:
    """A diffusers scheduler begins anew only after its timesteps are set again."""
    scheduler = next((v for v in function.__defaults__ or () if isinstance(v, diffusers.SchedulerMixin)), None)
    if scheduler is not None:
        scheduler.set_timesteps(STEPS)
