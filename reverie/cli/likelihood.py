"""`reverie likelihood`."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reverie.cli.naming import place_of
from reverie.config import Plain

if TYPE_CHECKING:
    from reverie.evaluation.likelihood import Likelihood, Progress

HELP = """Bits per dimension of held-out data, by the variational bound and by the probability-flow ODE.

The bound is on the run's own chain, or on 256 steps even in log-SNR where time is continuous; its terms are drawn
over t. The ODE's trace is exact for up to 32 dimensions, else from random probes. Every figure comes with its standard
error and what it was measured on, also as JSON, in RUN/likelihood/.

Examples:

  reverie likelihood runs/digits -n 32 --steps 32 --ode-steps 16

  reverie likelihood runs/digits digits --split train --bound --steps 64

  reverie likelihood runs/digits -n 16 --ode --probes 1 --ode-steps 8 --label none
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="likelihood", help=HELP, no_args_is_help=True)(likelihood)


def likelihood(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        str | None, typer.Argument(help="As for train, of the shape of the run's; its own held-out ones if left out.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many examples; all there are, if fewer.")] = 256,
    split: Annotated[str | None, typer.Option(help="train, validation or all of the data.")] = None,
    label: Annotated[str, typer.Option(help="own: the model is told each example's class; none: it is not.")] = "own",
    bound: Annotated[bool, typer.Option("--bound", help="The bound alone.")] = False,
    ode: Annotated[bool, typer.Option("--ode", help="The flow ODE alone.")] = False,
    steps: Annotated[int | None, typer.Option(help="Steps of the bound's chain; all its knots, or 256.")] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Of the chain's variance: 0 its lower, 1 its upper bound.")
    ] = None,
    ode_steps: Annotated[int, typer.Option("--ode-steps", help="Steps of the flow ODE.")] = 64,
    probes: Annotated[
        int | None, typer.Option(help="For the ODE's trace; 0: exact. Exact up to 32 dimensions, else 4, if left out.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Of the dequantisation, averaged.")] = 1,
    weights: Annotated[
        Literal["model", "best"], typer.Option(help="model: the newest; best: those that did best during training.")
    ] = "model",
    seed: Annotated[int, typer.Option(help="Of the choice of examples and of all noise.")] = 0,
    batch: Annotated[int, typer.Option(help="Examples at a time, on a GPU.")] = 64,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
) -> None:
    """Open the run, measure, print, and write figures and picture."""
    from reverie.devices import usable
    from reverie.evaluation.likelihood import Settings, measure, name_of
    from reverie.files import write_json
    from reverie.runs import load

    opened = load(run, weights)
    settings = Settings(
        n, split, label, steps, fraction, ode_steps, probes, draws, seed, batch, bound=bound or not ode,
        ode=ode or not bound,
    )  # fmt: skip
    opened.to(usable(device))
    found = _watched(measure(opened, settings, data))
    path = place_of(opened.path, "likelihood", f"{name_of(found, settings)}{opened.mark}.json")
    write_json(path, found.to_data())
    _print(found)
    print(f"wrote {path}")
    if found.bound is not None:
        _draw(found, path.with_suffix(".png"))
        print(f"wrote {path.with_suffix('.png')}")


def _watched(parts: Iterator[Progress]) -> Likelihood:
    """The result, with a progress bar on a terminal."""
    from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(bar_width=30), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("likelihood", total=None)
        for part in parts:
            bar.update(task, completed=part.done, total=part.total)
    assert part.result is not None
    return part.result


def _draw(found: Likelihood, path: Path) -> None:
    """The terms of the bound over t."""
    from reverie import plots

    assert found.bound is not None
    terms = found.bound
    figure = plots.bound(terms.t, terms.nats_per_dim, terms.prior, terms.decoder)
    plots.save(figure, path, {"protocol": found.protocol})


def _print(found: Likelihood) -> None:
    """The protocol, the figures, and how the solver settles."""
    width = shutil.get_terminal_size((100, 24)).columns
    for key, value in found.protocol.items():
        line = f"{key:12}{_said(value)}"
        print(textwrap.fill(line, width, subsequent_indent=12 * " ", break_long_words=False, break_on_hyphens=False))
    print()
    bits = 1 / math.log(2)
    if found.bound is not None:
        print(f"bound       {_with_error(found.bound.bits_per_dim, found.bound.standard_error)} bits per dimension")
        print(f"  prior     {found.bound.prior * bits:.4f}")
        print(f"  steps     {sum(found.bound.nats_per_dim) * bits:.4f}")
        print(f"  decoder   {found.bound.decoder * bits:.4f}")
    if found.ode is not None:
        ode = found.ode
        print(f"flow ODE    {_with_error(ode.bits_per_dim, ode.standard_error)} bits per dimension")
        parts = {"probes": ode.from_probes, "dequantisation": ode.from_dequantisation}
        if told := [f"{part:.4f} from {name}" for name, part in parts.items() if part]:
            print(f"  of it     {', '.join(told)}")
        print(f"  density   {ode.nats:.2f} nats an example, {ode.evaluations} evaluations")
        print("\nODE steps   evaluations   bits per dimension   change, first batch")
        for row in found.solver:
            print(f"{row.steps:<12}{row.evaluations:<14}{row.bits_per_dim:<21.4f}{row.change:.4f}")


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")


def _said(value: Plain) -> str:
    """A value of the protocol in words: a part as its kind and settings."""
    if not isinstance(value, dict):
        return f"{value:g}" if isinstance(value, float) else str(value)
    inner = ", ".join(f"{k} {_said(v)}" for k, v in value.items() if k != "kind" and v is not None)
    if "kind" not in value:
        return inner
    return f"{value['kind']} ({inner})" if inner else str(value["kind"])
