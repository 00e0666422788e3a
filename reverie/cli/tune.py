"""`reverie tune`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie import config
from reverie.cli.counts import counts_in
from reverie.cli.naming import check_own
from reverie.cli.notes import note

if TYPE_CHECKING:
    from reverie.recipe import Sampling
    from reverie.runs import Run
    from reverie.tuning import Count, Settings, Tuning
    from reverie.tuning.tuner import OnProgress

HELP = """Fit times and weights of steps to a run's model, for few evaluations; `reverie sample` uses them from then on.

For each number of evaluations, guidance included as one, the times are chosen so that the sampler comes closest to
a fine solution from the same noise; and along them the weights of a multistep sampler, kept where they are better
on examples that were not fitted to. Both are stored in RUN/tuned.json. Tables tell how far the samples are from that
solution, beside other grids, on those examples: the distance a number of the data, as the model sees
them, its root mean square and its median over examples. Settings of the sampler, and clip, may be given as key=value.

A consistency model (`reverie distill`) has no such solution: its times are fitted to the distance of samples to the
training examples.

Examples:

  reverie tune runs/digits --nfe 5,10,20

  reverie tune runs/digits --nfe 8 --sampler adams sampler.order=2 --guidance 3
"""
SAID_EVERY = 0.1
"""Share of the work between two lines of progress where there is no terminal."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="tune", help=HELP, no_args_is_help=True)(tune)


def tune(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTINGS]...", help="As sampler.order=3 or clip=true.")
    ] = None,
    nfe: Annotated[
        str, typer.Option(help="Numbers of evaluations, with commas; the sampler makes the most steps of each.")
    ] = "5,6,8,10,15,20,30",
    sampler: Annotated[str | None, typer.Option(help="A deterministic one; the run's own if left out.")] = None,
    guidance: Annotated[float | None, typer.Option(help="The scale; the run's own if left out.")] = None,
    n: Annotated[
        int | None, typer.Option("-n", help="Examples to fit to, and as many to measure on; 16 to 256 if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    reference: Annotated[int, typer.Option(help="Steps of the fine solution.")] = 300,
    seconds: Annotated[float, typer.Option(help="About how long it may take.")] = 100.0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
) -> None:
    """Open the run, fit, write, print the table."""
    from reverie.devices import usable
    from reverie.runs import load
    from reverie.tuning import FILE, Settings
    from reverie.tuning import tune as fit

    counts = counts_in(nfe, "--nfe", "5,10,20")
    opened = load(run)
    check_own(opened.path)
    asked = _asked(opened, words or [], sampler)
    chosen = None if asked.sampler == opened.sampler else asked.sampler
    settings = Settings(counts, chosen, guidance, asked.clip, n, seed, reference, seconds)
    fitted = _costs(opened, settings)
    opened.to(usable(device))
    with _watched() as on_progress:
        made = fit(opened, settings, on_progress, note)
    _print(made, fitted)
    print(f"wrote {opened.path / FILE}")
    print(_use(opened, made))


def _asked(run: Run, words: list[str], kind: str | None) -> Sampling:
    """The run's own sampling settings with the sampler and the clipping asked for."""
    from reverie.recipe import Sampling

    data = config.to_data(run.recipe.sample)
    if kind is not None:
        data = config.merged(data, {"sampler": {"kind": kind}})
    for word in (word.removeprefix("sample.") for word in words):
        if not word.startswith(("sampler.", "clip=")) or "=" not in word:
            raise ValueError(
                f"{word!r} is not a setting of a fit; write key=value, such as sampler.order=3 or clip=true"
            )
        data = config.merged(data, config.parse_override(word))
    found = config.from_data(Sampling, data, "")
    assert isinstance(found, Sampling)
    return found


def _costs(run: Run, settings: Settings) -> tuple[int, ...]:
    """The numbers of evaluations that are fitted; a note for those that the sampler cannot make exactly."""
    from reverie.tuning import planned

    sampler = settings.sampler or run.sampler
    made = {}
    for limit, cost, steps in planned(run, settings):
        made[cost] = steps
        if cost < limit:
            note(f"{sampler.kind} makes {steps} steps of {cost} evaluations, and none of {limit}: {cost} are fitted")
    return tuple(made)


@contextmanager
def _watched() -> Iterator[OnProgress]:
    """A bar on a terminal; else a line now and then."""
    if not sys.stdout.isatty():
        said = {"next": 0.0}

        def tell(done: float, what: str) -> None:
            if done >= said["next"] or done >= 1:
                said["next"] = done + SAID_EVERY if done < 1 else 2.0
                print(f"{done:4.0%}  {what}", flush=True)

        yield tell
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=30), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda done, what: bar.update(task, completed=done, description=what)


def _print(made: Tuning, fitted: tuple[int, ...]) -> None:
    """The errors of the counts that were fitted, of the tuned grid and of others."""
    from rich.console import Console
    from rich.table import Table

    counts = [c for c in made.counts if c.evaluations in fitted]
    if not any(c.errors for c in counts):
        _print_distances(counts)
        return
    names = list(dict.fromkeys(name for c in counts for name in c.errors))
    about, console = counts[0].about, Console(highlight=False)
    reference, examples = about["reference_steps"], about["examples"]
    print(f"\nDistance from {reference} steps, {examples} examples, guidance {made.guidance:g}:")
    for title, of in (("root mean square", "rms"), ("median", "median")):
        table = Table(box=None, padding=(0, 1), title=title, title_justify="left", title_style="")
        for name in ("evaluations", "steps", *names):
            table.add_column(name, justify="right", no_wrap=True)
        for c in counts:
            told = (f"{getattr(c.errors[k], of):.2g}" if k in c.errors else "-" for k in names)
            table.add_row(str(c.evaluations), str(c.steps), *told)
        console.print()
        console.print(table)
    print(f"\nThe {reference} steps themselves are off by about {about['reference_rms']:.1g}.")


def _print_distances(counts: list[Count]) -> None:
    """Times that were fitted to how good samples are, and how good those were."""
    from rich.console import Console
    from rich.table import Table

    about = counts[0].about
    print(f"\nBy {about['by']}, {about['examples']} of them, of the noise that was fitted to:")
    table = Table(box=None, padding=(0, 1))
    for name in ("steps", "distance", "times"):
        table.add_column(name, justify="left" if name == "times" else "right")
    for c in counts:
        table.add_row(str(c.steps), f"{c.about['distance']:.3g}", ", ".join(f"{t:.3g}" for t in c.times))
    Console(highlight=False).print(table)


def _use(run: Run, made: Tuning) -> str:
    """How samples are drawn with it."""
    from reverie.tuning import words_for

    sampling = replace(run.recipe.sample, sampler=made.sampler, guidance=made.guidance, clip=made.clip)
    words = ["reverie", "sample", str(run.path), *words_for(run, sampling)]
    few = min((count.steps for count in made.counts), key=lambda n: abs(n - 10))
    return f"to use it: {' '.join(words)} --steps {few}"
