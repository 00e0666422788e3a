"""Training time, which stands still while checkpoints are written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from reverie.files import write_text
from reverie.tensor_files import write_tensors


class TimeIsUp(Exception):
    """Thrown out of a training loop that is not ours."""


@dataclass
class Clock:
    """Training time, and what to do each time another interval of it is over."""

    out: Path
    minutes: float
    every: float = 1.0
    """Minutes between two checkpoints."""
    spent: float = 0.0
    since: float | None = None
    log: list[dict[str, float]] = field(default_factory=list)

    def start(self) -> None:
        """From now on it counts."""
        self.since = time.perf_counter()

    def tick(self, step: int, batch: int, weights: Callable[[], Mapping[str, Tensor]]) -> bool:
        """Called after every step; whether the time is up."""
        assert self.since is not None
        now = time.perf_counter()
        self.spent, self.since = self.spent + now - self.since, now
        due = (len(self.log) + 1) * self.every
        if self.spent >= 60 * due:
            path = self.out / f"{len(self.log) + 1:03d}.safetensors"
            write_tensors(path, {k: v.detach().cpu().contiguous() for k, v in weights().items()})
            self.log.append({"minute": round(self.spent / 60, 3), "steps": step, "images": step * batch})
            write_text(self.out / "log.json", json.dumps(self.log) + "\n")
            self.start()
        return len(self.log) * self.every >= self.minutes - 1e-9
