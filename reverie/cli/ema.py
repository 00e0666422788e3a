"""`reverie ema`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie.cli.naming import check_own

if TYPE_CHECKING:
    from torch import Tensor

    from reverie.runs import Run

HELP = """Choose how long the weights are averaged, after training (Karras et al., 2024).

Averages of any length are made of the snapshots in RUN/ema and compared by their loss on held-out examples; the best
becomes the run's model. The length [bold]exponential[/bold] stands for the average that training itself keeps.

Examples:

  reverie ema runs/digits

  reverie ema runs/digits --length 0.03,0.05,0.08

  reverie ema runs/digits --length exponential
"""
EXPONENTIAL = "exponential"
LENGTHS = f"{EXPONENTIAL},0.02,0.03,0.05,0.07,0.1,0.15"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="ema", help=HELP, no_args_is_help=True)(ema)


def ema(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    length: Annotated[
        str, typer.Option(help="Relative lengths, with commas: the width of the average as a share of its steps.")
    ] = LENGTHS,
    step: Annotated[int | None, typer.Option(help="After how many steps; at the last snapshot if left out.")] = None,
) -> None:
    """Make the averages, print how they do, and put the chosen one into the run."""
    from reverie.locking import locked
    from reverie.runs import load
    from reverie.stages import check_apart

    opened, lengths = load(run), _lengths(length)
    check_own(opened.path)
    check_apart(opened.path)
    if step is not None:  # training keeps its average at the newest state alone
        lengths = [each for each in lengths if each is not None] or lengths
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(run))
        except ValueError:
            raise ValueError(f"another process is training in {run}; wait for it to end, or stop it") from None
        made = [_average(opened, each, step) for each in lengths]
        loss = _held_out(opened, alone=len(made) == 1)
        present = loss(None)
        losses = [loss(each.weights) for each in made]
        best = min(range(len(made)), key=lambda i: losses[i] or 0.0)
        print(f"{run} has: {opened.average or 'no model that can be read'}")
        _print(present, [(each.name, each.mismatch, found) for each, found in zip(made, losses, strict=True)])
        if between := _between(opened, max(each.step for each in made)):
            print(between)
        chosen, least = made[best], losses[best]
        opened.save_model(chosen.weights, _newest(opened, chosen.step), chosen.about)
        print(f"{run} has now: {opened.average}")
        if present is not None and least is not None and present < least and chosen.name != EXPONENTIAL:
            print(
                f"the model before was better on held-out examples ({present:.6g} against {least:.6g}); "
                f"the average of training is --length {EXPONENTIAL}"
            )


@dataclass(frozen=True, eq=False)
class _Average:
    """Weights that may become the model; `mismatch` is by how much their profile is off."""

    name: str
    weights: Mapping[str, Tensor]
    step: int
    mismatch: float = 0.0
    about: Mapping[str, str] | None = None


def _average(run: Run, length: float | None, step: int | None) -> _Average:
    """The average of a length, after `step` steps or the last; None for that of training.

    Raises:
        ValueError: there is none.
    """
    from reverie.training.snapshots import reconstruct
    from reverie.training.state import AVERAGE, newest

    if length is not None:
        made = reconstruct(run, length, step)
        return _Average(f"{length:g}", made.weights, made.profile.step, made.mismatch, made.about)
    saved, _ = newest(run)
    if saved is None:
        raise ValueError(f"{run.path} has no saved state, which is where the exponential average stands")
    if step not in (None, saved.progress.step):
        raise ValueError(f"the exponential average is saved at step {saved.progress.step}; given --step {step}")
    return _Average(EXPONENTIAL, saved.files[AVERAGE], saved.progress.step)


def _lengths(text: str) -> list[float | None]:
    """Those of `--length`, None for the exponential average.

    Raises:
        ValueError: something that is no length.
    """
    from reverie.training.profiles import exponent

    lengths: list[float | None] = []
    for word in text.split(","):
        if word.strip() == EXPONENTIAL:
            lengths.append(None)
            continue
        try:
            number = float(word)
        except ValueError:
            raise ValueError(f"--length takes numbers with commas, such as 0.05,0.1; given {text!r}") from None
        exponent(number)
        lengths.append(number)
    return list(dict.fromkeys(lengths))


def _between(run: Run, step: int) -> str:
    """A sentence where there is no snapshot at `step`, without which no profile there is matched well."""
    from reverie.training.snapshots import snapshots

    steps = sorted({s.profile.step for s in snapshots(run)})
    if step in steps:
        return ""
    return f"step {step} lies between snapshots, and is matched badly; they are at {', '.join(map(str, steps))}"


def _newest(run: Run, step: int) -> int:
    """The steps trained: those of the newest state, so that resuming finds the model as new as that."""
    from reverie.training.state import states

    return max([step, *(int(path.name) for path in states(run))])


def _held_out(run: Run, alone: bool) -> Callable[[Mapping[str, Tensor] | None], float | None]:
    """The held-out loss of some weights, or of the model; None where there is nothing to tell it by.

    Raises:
        ValueError: the data have changed; they may, or be missing, where one length is `alone`.
    """
    import torch

    from reverie.runs import check_data, new_model
    from reverie.tensor_files import fill
    from reverie.training.seen import seen
    from reverie.training.validation import held_out_loss

    recipe, train = run.recipe, run.recipe.train
    try:
        examples = recipe.data.load()
        check_data(run, examples)
    except (ValueError, OSError) as error:
        if not alone:
            raise
        print(f"no held-out loss: {error}")
        return lambda weights: None
    rows = recipe.data.split(examples, train.validation, train.seed).validation
    if len(rows) == 0:
        print(f"no held-out loss: {run.path} held no examples out (train.validation={train.validation:g})")
        return lambda weights: None
    device = (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or "cpu"
    model, shown = new_model(recipe, run.facts).to(device).eval(), seen(run, examples)

    def loss(weights: Mapping[str, Tensor] | None) -> float | None:
        try:
            fill(model, run.model.net.state_dict() if weights is None else weights, run.path)
        except ValueError:
            return None  # there is no model yet, or it is damaged
        return held_out_loss(run, model, shown, rows, device).loss

    return loss


def _print(present: float | None, rows: list[tuple[str, float, float | None]]) -> None:
    from rich.console import Console
    from rich.table import Table

    def told(value: float | None) -> str:
        return "-" if value is None else f"{value:.6g}"

    table = Table(box=None, padding=(0, 2))
    table.add_column("length")
    table.add_column("held-out loss", justify="right")
    table.add_column("profile off by", justify="right")
    table.add_row("present", told(present), "")
    for length, mismatch, found in rows:
        table.add_row(length, told(found), f"{mismatch:.2%}")
    Console(highlight=False).print(table)
