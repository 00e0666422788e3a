"""azula: its samplers on its schedules, which its own denoisers allow to be replaced when sampling.

The schedule is the grid (times are even in t), so each sampler runs on the schedule of its name and on the
others, scaled to begin at the same sigma / alpha, and with a lower end than the default too: the sample is
left at the level sigma_min.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import azula.noise
import azula.sample
import torch
from torch import Tensor

from benchmarks.samplers.peers_base import Sampled, Setting
from benchmarks.samplers.reference import Asked

STARTS = ("vp_linear", "vp_cosine", "edm", "flow")
OWN = {"vp_linear": "VP", "vp_cosine": "Cosine", "edm": "VE", "flow": "Rectified"}


def schedule(kind: str, low: float, high: float) -> Any:  # noqa: ANN401
    """azula's, from sigma / alpha = `high` to `low`."""
    if kind == "VE":
        return azula.noise.VESchedule(low, high)
    made = {
        "VP": azula.noise.VPSchedule,
        "Cosine": azula.noise.CosineSchedule,
        "Rectified": azula.noise.RectifiedSchedule,
        "Decay": azula.noise.DecaySchedule,
    }[kind]
    return made(alpha_min=1 / high, sigma_min=low)


class Exact:
    """What a sampler asks of azula's denoisers: a schedule, and a posterior with a mean."""

    def __init__(self, ask: Asked, schedule: Any) -> None:  # noqa: ANN401
        self.ask, self.schedule = ask, schedule

    def __call__(self, x: Tensor, t: Tensor) -> SimpleNamespace:
        alpha, sigma = self.schedule(t)
        return SimpleNamespace(mean=self.ask(x, float(alpha), float(sigma))[0])


def setting(name: str, cls: str, on: str | None, low: float, cost: str = "n", **options: Any) -> Setting:  # noqa: ANN401
    """A sampler on a schedule, None for that of the start."""

    def run(ask: Asked, noise: Tensor, start: str, evaluations: int) -> Sampled:
        high = {"edm": 80.0, "flow": 999.0}.get(start, 1000.0)  # alpha_min = 1e-3 is azula's own
        made = schedule(on or OWN[start], low, high)
        steps = {"n": evaluations, "2n": evaluations // 2}[cost]
        sampler = getattr(azula.sample, cls)(Exact(ask, made), steps=steps, silent=True, dtype=torch.float64, **options)
        alpha, sigma = made(torch.tensor(1.0, dtype=torch.float64))
        return Sampled(sampler(sigma * noise), float(alpha), float(sigma))

    where = "own schedule" if on is None else on
    return Setting(
        "azula", f"{name}, {where}{'' if low == 1e-3 else f' to {low:g}'}", run, STARTS, on is None and low == 1e-3
    )


def settings() -> list[Setting]:
    """Those compared."""
    multistep = [
        (f"{kind} {order}", f"{kind}Sampler", {"order": order})
        for kind in ("zAB", "vAB", "zEAB", "xEAB", "REAB")
        for order in (2, 3)
    ]
    found = [setting(name, cls, None, 1e-3, **options) for name, cls, options in multistep]
    found.append(setting("Euler", "EulerSampler", None, 1e-3))
    found.append(setting("Heun", "HeunSampler", None, 1e-3, cost="2n"))
    for name, cls, options in multistep:
        if name in ("zAB 3", "vAB 3", "xEAB 3", "vAB 2"):
            for on in ("VE", "VP", "Cosine", "Rectified", "Decay"):
                found.append(setting(name, cls, on, 1e-4, **options))
    found += [
        setting(f"zEAB {order}", "zEABSampler", "VE", low, order=order) for order in (2, 3, 4) for low in (1e-2, 1e-3)
    ]
    found += [setting(f"vAB {order}", "vABSampler", "Decay", 1e-3, order=order) for order in (3, 4)]
    for on in ("Rectified", "Decay"):
        found.append(setting("REAB 1", "REABSampler", on, 1e-2, order=1))
        found.append(setting("zEAB 2", "zEABSampler", on, 1e-2, order=2))
    return found
