"""What a trainer tells its caller after every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Report:
    """The state of a training run after `step` of `steps`.

    Step 0 is reported before the first one, with the pictures of the untrained network.
    """

    step: int
    steps: int
    loss: float | None = None
    """Mean over the step's examples on all processes; None at step 0, and on a GPU where it is still being computed."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """The line written to metrics.jsonl at this step, if one was."""
    sampled: Path | None = None
    """The sample sheet drawn at this step."""
    saved: Path | None = None
    """The state saved at this step."""
    stopped: int | None = None
    """The signal that ends the run early; the state is saved."""
    notes: tuple[str, ...] = ()
    """Sentences a reader of the log should see."""
