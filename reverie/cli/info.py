"""`reverie info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie import config
from reverie.config import Plain

if TYPE_CHECKING:
    from reverie.runs import Run

HELP = """Say what a run is: data, process, network, size, steps, loss.

Examples:

  reverie info runs/digits

  reverie info runs/digits --json
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="info", help=HELP, no_args_is_help=True)(info)


def info(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Open the run and print what it knows of itself."""
    from reverie.runs import load

    told = _told(load(run))
    if as_json:
        print(json.dumps(told, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2))
    for key, value in told.items():
        table.add_row(f"[bold]{key}[/bold]", escape(str(value)), end_section=True)
    Console(highlight=False, soft_wrap=False).print(table)


def _told(run: Run) -> dict[str, str]:
    import torch

    from reverie.runs import MODEL, SAMPLES
    from reverie.training.accelerator import on_cpu
    from reverie.training.needs import Needs, operations, size
    from reverie.training.state import states
    from reverie.tuning import described

    recipe, facts = run.recipe, run.facts
    model, saved = run.path / MODEL, next(states(run), None)
    left_out = f", {facts.skipped} damaged files left out" if facts.skipped else ""
    made_by = f"Reverie {run.about.get('reverie', '?')}, torch {run.about.get('torch', '?')}"
    names = ", ".join(run.classes[:12]) + (", ..." if len(run.classes) > 12 else "")
    loss, held_out = _losses(run)
    shape, sample = "x".join(map(str, facts.shape)), recipe.sample
    device = torch.device("cpu") if on_cpu() else torch.accelerator.current_accelerator()
    assert device is not None
    needs = Needs(recipe, facts, device)
    return {
        "run": str(run.path),
        "made": f"{run.about.get('created', '?')}, {made_by}",
        "data": f"{_part(recipe.data)}; {facts.train} to train on, {facts.validation} held out{left_out}",
        "example": f"{'image' if facts.image else 'array'} of shape {shape}, {_part(run.space)}",
        "classes": f"{len(run.classes)}: {names}" if run.classes else "none",
        "process": _part(recipe.schedule),
        "parameterization": f"{_part(recipe.parameterization)}, time label {_part(recipe.time_label)}",
        "loss function": _part(recipe.loss),
        "network": f"{_part(recipe.net)}; {needs.network.parameters:,} parameters",
        "operations": (
            f"{operations(needs.network.flops)} forward for one example; {operations(needs.flops)} for a training step"
        ),
        "memory": f"training needs about {size(needs.bytes)} on this {device.type}",
        "model file": f"{model.stat().st_size / 1e6:.1f} MB" if model.exists() else "not saved yet",
        "average": run.average or "-",
        "steps": f"{int(saved.name) if saved else 0} saved of {recipe.train.steps}, batch {recipe.train.batch}",
        "loss": loss,
        "held-out loss": held_out,
        "sampling": f"{_part(sample.sampler)} on {_part(sample.grid)}, guidance {sample.guidance:g}",
        "tuned": described(run),
        "pictures": str(max((run.path / SAMPLES).glob("[0-9]*.png"), default="none yet")),
    }


def _losses(run: Run) -> tuple[str, str]:
    """The newest training and held-out losses, in words."""
    from reverie.runs import METRICS
    from reverie.training.log import lines

    metrics = lines(run.path / METRICS)
    train = [line for line in metrics if isinstance(line.get("loss"), float)]
    held_out = [line for line in metrics if isinstance(line.get("validation_loss"), float)]
    told = f"{train[-1]['loss']:.4g} at step {train[-1]['step']}" if train else "-"
    if not held_out:
        return told, "-"
    first, last = (f"{line['validation_loss']:.4g} at step {line['step']}" for line in (held_out[0], held_out[-1]))
    return told, f"{last}; {first}"


def _part(part: object) -> str:
    """A part in words: `table (betas=cosine (steps=1000, ...))`, settings left at none aside."""

    def said(value: Plain) -> str:
        if isinstance(value, dict) and "kind" in value:
            inner = ", ".join(f"{k}={said(v)}" for k, v in value.items() if k != "kind" and v is not None and v != [])
            return f"{value['kind']} ({inner})" if inner else str(value["kind"])
        if isinstance(value, list):
            shown = ", ".join(said(v) for v in value[:6])
            return f"[{shown}{', ...' if len(value) > 6 else ''}]"
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    return said(config.to_data(part))
