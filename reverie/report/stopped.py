"""Whether training ended before its last step, and which weights are kept besides the newest.

Letters in shapes: none.
"""

from __future__ import annotations

from reverie.report.found import Found
from reverie.report.words import number, plural
from reverie.runs import BEST
from reverie.tensor_files import read_metadata


def early(found: Found) -> bool:
    """Whether it ended for want of improvement: as many evaluations in a row without as the recipe has patience."""
    recipe = found.run.recipe
    patience = recipe.evaluate.patience
    if not patience or found.step >= recipe.train.steps or not found.history.evaluations:
        return False
    last = max(found.history.evaluations, key=lambda one: one.series.steps[-1])
    since = [step for step in last.series.steps if last.best is None or step > last.best]
    return len(since) >= patience


def told(found: Found) -> str:
    """Both, in words; empty where there is nothing to say."""
    steps, words = found.run.recipe.train.steps, []
    if early(found):
        words.append(
            f"Training stopped early, at step {found.step:,} of {steps:,}, after "
            f"{plural(found.run.recipe.evaluate.patience, 'evaluation')} without improvement."
        )
    try:
        best = read_metadata(found.run.path / BEST)
    except ValueError:
        return " ".join(words)
    step, metric, value = (best.get(key, "") for key in ("step", "metric", "value"))
    if step.isdecimal():
        try:
            reached = f", {metric} {number(float(value))}"
        except ValueError:
            reached = ""
        words.append(
            f"The weights that did best during training, of step {int(step):,}{reached}, are kept in {BEST}: "
            "--weights best uses them."
        )
    return " ".join(words)
