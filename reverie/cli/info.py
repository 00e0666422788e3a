"""`reverie info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie.cli import networks
from reverie.config import in_words

if TYPE_CHECKING:
    from reverie.runs import Run

HELP = """Say what a run is: data, process, network, size, steps, loss; or what networks cost that have a name.

Examples:

  reverie info runs/digits

  reverie info runs/digits --json

  reverie info networks

  reverie info unet-b --shape 3x64x64
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="info", help=HELP, no_args_is_help=True)(info)


def info(
    of: Annotated[str, typer.Argument(metavar="RUN|NETWORK", help="A run folder, a network's name, or `networks`.")],
    shape: Annotated[
        str | None, typer.Option(metavar="CxHxW", help="For networks: of one example; 3x32x32, or 1x16000 for waves.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Open the run, or count over the network, and print what there is to know."""
    from reverie.runs import CONFIG, located

    example = None if shape is None else networks.shape_of(shape)
    folder = located(of)
    if not (folder / CONFIG).is_file() and (of == networks.ALL or not folder.exists()):
        rows = networks.every(example) if of == networks.ALL else [networks.one(of, example)]
        if as_json:
            print(json.dumps(rows, indent=2))
        elif of == networks.ALL:
            networks.print_rows(rows)
        else:
            _print_facts(networks.in_words(rows[0]))
        return
    told = _run(of, example)
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        _print_facts(told)


def _run(path: str, example: tuple[int, ...] | None) -> dict[str, str]:
    """What there is to know of a run.

    Raises:
        ValueError: it is none, or a shape was given, which it has already.
    """
    from reverie.runs import load

    run = load(Path(path))
    if example is not None:
        shape = "x".join(map(str, run.facts.shape))
        raise ValueError(f"--shape is for networks; the run {path} has examples of {shape}")
    return _told(run)


def _print_facts(told: dict[str, str]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2))
    for key, value in told.items():
        table.add_row(f"[bold]{key}[/bold]", escape(str(value)), end_section=True)
    Console(highlight=False, soft_wrap=False).print(table)


def _told(run: Run) -> dict[str, str]:
    from reverie.runs import MODEL
    from reverie.training.accelerator import device_here
    from reverie.training.needs import Needs, operations, size
    from reverie.training.state import states

    recipe, facts = run.recipe, run.facts
    model, saved = run.path / MODEL, next(states(run), None)
    left_out = f", {facts.skipped} damaged files left out" if facts.skipped else ""
    made_by = f"Reverie {run.about.get('reverie', '?')}, torch {run.about.get('torch', '?')}"
    loss, held_out = _losses(run)
    shape = "x".join(map(str, facts.shape))
    device = device_here()
    needs = Needs(recipe, facts, device)
    return {
        "run": str(run.path),
        "kind": _kind(run),
        "made": f"{run.about.get('created', '?')}, {made_by}",
        "data": f"{in_words(recipe.data)}; {facts.train} to train on, {facts.validation} held out{left_out}",
        "example": f"{'image' if facts.image else 'array'} of shape {shape}, {in_words(recipe.space)}",
        **_conditions(run),
        **_stages(run),
        **_output(run),
        "loss function": in_words(recipe.loss),
        "network": f"{in_words(recipe.autoencoder or recipe.net)}; {needs.network.parameters:,} parameters",
        "operations": (
            f"{operations(needs.network.flops)} forward for one example; {operations(needs.flops)} for a training step"
        ),
        "memory": f"training needs about {size(needs.bytes)} on this {device.type}",
        "model file": f"{model.stat().st_size / 1e6:.1f} MB" if model.exists() else "not saved yet",
        "average": run.average or "-",
        "steps": f"{int(saved.name) if saved else 0} saved of {recipe.train.steps}, batch {recipe.train.batch}",
        "loss": loss,
        "held-out loss": held_out,
        **_guiding(run),
        "best": _best(run),
        **_sampling(run),
    }


def _output(run: Run) -> dict[str, str]:
    """The process, what the network puts out, and how it is told the time."""
    recipe, label = run.recipe, f"time label {in_words(run.recipe.time_label)}"
    if recipe.kind == "autoencoder":
        return {}
    process = {"process": in_words(recipe.schedule)}
    if recipe.kind != "denoiser":
        return {**process, "time label": in_words(recipe.time_label)}
    return {**process, "parameterization": f"{in_words(recipe.parameterization)}, {label}"}


def _stages(run: Run) -> dict[str, str]:
    """The runs inside the run, if there are any."""
    found = {}
    for each in run.facts.stages:
        try:
            found[f"stage {each.name}"] = str(run.stage(each.name).path)
        except ValueError as error:
            found[f"stage {each.name}"] = str(error)
    return found


def _sampling(run: Run) -> dict[str, str]:
    """How a run is sampled, if it can be."""
    from reverie.runs import SAMPLES
    from reverie.tuning import described

    if run.recipe.kind != "denoiser":
        return {}
    sample = run.recipe.sample
    return {
        "sampling": f"{in_words(sample.sampler)} on {in_words(sample.grid)}, guidance {sample.guidance:g}",
        "tuned": described(run),
        "pictures": str(max((run.path / SAMPLES).glob("[0-9]*.png"), default="none yet")),
    }


def _guiding(run: Run) -> dict[str, str]:
    """How good a guide or an autoencoder the run is, if it is one, and the scale that a pair has learned."""
    from reverie.models.guides import learned_scale
    from reverie.training.accuracy import newest
    from reverie.training.reconstruction import newest as newest_reconstruction

    if run.recipe.kind == "denoiser":
        return {}
    if run.recipe.kind == "autoencoder":
        return {"reconstruction": newest_reconstruction(run) or "-"}
    found = {"accuracy": newest(run) or "-"}
    if run.recipe.kind == "pair":
        scale = learned_scale(run)
        found["learned scale"] = "-" if scale is None else f"{scale:.3g} times the dot product (inverse temperature)"
    return found


def _kind(run: Run) -> str:
    """What the run has trained, and what that is for."""
    from reverie.models.guides import use_of

    kind = run.recipe.kind
    return "denoiser: samples are drawn from it" if kind == "denoiser" else f"{kind}: {use_of(run)}"


def _conditions(run: Run) -> dict[str, str]:
    """All that the model can be told, and the captions of the data; what there is none of is left out, but classes."""
    recipe, facts, told = run.recipe, run.facts, run.vocabulary
    names = ", ".join(run.classes[:12]) + (", ..." if len(run.classes) > 12 else "")
    found = {"classes": f"{len(run.classes)}: {names}" if run.classes else "none"}
    if told.attributes:
        found["attributes"] = "; ".join(f"{known.name} ({known.in_words()})" for known in told.attributes)
    if facts.captions or facts.troubles:
        wrong = f"; {facts.troubles} troubles, see `reverie data`" if facts.troubles else ""
        unread = "" if told.text is not None or not facts.captions else ", which the model is not told"
        found["captions"] = f"{facts.captions} of {facts.train + facts.validation} examples{unread}{wrong}"
    if told.text is not None:
        found["text encoder"] = in_words(told.text)
    if recipe.image_condition is not None:
        found["image condition"] = in_words(recipe.image_condition)
    return found


def _best(run: Run) -> str:
    """The best evaluation in training, whose weights are kept, in words."""
    from reverie.runs import BEST
    from reverie.tensor_files import read_metadata

    if not (run.path / BEST).is_file():
        return "-"
    try:
        about = read_metadata(run.path / BEST)
        return f"{about['metric']} {float(about['value']):.4g} at step {about['step']}, kept in {BEST}"
    except (ValueError, KeyError):
        return f"{BEST} is damaged"


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
