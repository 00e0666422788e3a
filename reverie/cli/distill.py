"""`reverie distill`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie import config
from reverie.cli.judging import watched
from reverie.cli.train import taking_part, trained

if TYPE_CHECKING:
    from reverie.distilling import Asked, Beside
    from reverie.runs import Run

HELP = """Teach a run to sample in a few steps, and tell what that brings.

The student is a run as any other, which begins as its teacher and holds a copy of it. It is trained for as many
evaluations of the network as its teacher was, unless train.steps says otherwise; settings are given as key=value, as to
`reverie train`. To resume, run the same command again. A table then tells quality against evaluations and seconds of
both, and where the teacher draws level; it is stored in the student's folder as distilled.json and distilled.png.

[bold]Methods[/bold], for --method:

  distribution_matching  samples whose law, at every level of noise, is the teacher's (Yin et al., 2024)

  progressive            one step for several of the teacher's, student after student (Salimans & Ho, 2022)

  consistency            where a path of the flow ends, learned along the teacher's (Song et al., 2023)

  consistency_training   the same from data alone, beginning with the teacher's weights (Song & Dhariwal, 2024)

  scm                    the same in continuous time (Lu & Song, 2025)

  mean_flow              the mean of the flow over steps of any length (Geng et al., 2025)

  shortcut               steps of any length, each as two of half its length (Frans et al., 2024)

  reflow                 straight paths between noise and what the teacher makes of it (Liu et al., 2023)

Examples:

  reverie distill runs/digits --method progressive --steps 1,2,4

  reverie distill runs/digits --method mean_flow --guidance 1,4 --out runs/quick train.steps=500
"""
FINE = 50
"""Steps of the teacher that students are measured by."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="distill", help=HELP, no_args_is_help=True)(distill)


def distill(
    run: Annotated[Path, typer.Argument(help="The run folder of the teacher.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTINGS]...", help="Of the student, as train.steps=500.")
    ] = None,
    method: Annotated[str, typer.Option(help="See above.")] = "progressive",
    steps: Annotated[str, typer.Option(help="In how many steps the student is to sample; with commas.")] = "1,2,4",
    guidance: Annotated[
        str | None,
        typer.Option(help="Of the teacher: one scale, or two with a comma, which are told the student; its own."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The student's folder; RUN-METHOD if left out.")] = None,
    n: Annotated[int, typer.Option("-n", help="Samples that are judged at the end; 0 for no table.")] = 1000,
    metric: Annotated[str | None, typer.Option(help="By which; KID or the sliced Wasserstein distance.")] = None,
    extractor: Annotated[str | None, typer.Option(help="In whose features; by the data if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Of the samples that are judged.")] = 0,
) -> None:
    """Plan the student, train it after those in between, and put it beside its teacher."""
    from reverie.distilling import Asked, plan_for
    from reverie.runs import load

    teacher = load(run)
    out = out or teacher.path.with_name(f"{teacher.path.resolve().name}-{method}")
    scales = _scales(teacher, method, guidance)
    layers = tuple(config.parse_override(_setting(word)) for word in words or [])
    asked = Asked(method, _numbers(steps), scales, out, layers)
    plan = plan_for(teacher, asked)
    given = [
        "--method", method, "--steps", steps, *(["--guidance", guidance] if guidance else []), "--out", str(out),
    ]  # fmt: skip
    again = shlex.join(["reverie", "distill", str(run), *(words or []), *given])
    processes = taking_part(plan)
    trained(plan, out, again, processes)
    if n and processes.is_main_process:
        _compare(teacher, asked, n, seed, metric, extractor)
    if processes.is_main_process:
        print(f"done: {out}. Next: reverie sample {out} -n 64 --out samples.png")


def _setting(word: str) -> str:
    if "=" not in word:
        raise ValueError(f"{word!r} is not a setting; write key=value, such as train.steps=500")
    return word


def _numbers(text: str) -> tuple[int, ...]:
    """Those of --steps, rising.

    Raises:
        ValueError: something that is no whole number.
    """
    try:
        return tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        raise ValueError(f"--steps takes whole numbers with commas, such as 1,2,4; given {text!r}") from None


def _scales(teacher: Run, method: str, text: str | None) -> tuple[float, float]:
    """The lowest and the highest scale of guidance: the teacher's own, or those that are asked for.

    Raises:
        ValueError: something that is no number, or more than two.
    """
    from reverie.distilling import METHODS

    if text is None:
        guide = teacher.recipe.sample.guide
        plain = guide is None or guide.kind == "classifier_free"
        lessons = method in METHODS and METHODS[method].lessons
        own = teacher.recipe.sample.guidance if plain and lessons and teacher.vocabulary.parts else 1.0
        return own, own
    try:
        found = sorted(float(word) for word in text.split(","))
    except ValueError:
        found = []
    if len(found) not in (1, 2):
        raise ValueError(f"--guidance takes one scale or two with a comma, such as 2 or 1,4; given {text!r}")
    return found[0], found[-1]


def _compare(teacher: Run, asked: Asked, n: int, seed: int, metric: str | None, extractor: str | None) -> None:
    """Measure, print and store."""
    from reverie import plots
    from reverie.devices import usable
    from reverie.distilling import FILE, beside, picture, students
    from reverie.evaluation.evaluate import Settings
    from reverie.evaluation.extractors import from_text
    from reverie.evaluation.job import Job
    from reverie.evaluation.metrics import from_names
    from reverie.evaluation.team import Team
    from reverie.files import write_json
    from reverie.runs import load

    where = usable(None)
    settings = Settings(
        tuple(from_text(word.strip()) for word in extractor.split(",")) if extractor else (),
        from_names(metric) if metric else (),
    )
    job = Job(settings, device=where)
    made = {number: load(folder).to(where) for number, folder in students(teacher, asked).items()}
    low, high = asked.guidance
    own = min(max(teacher.recipe.sample.guidance, low), high)
    with watched(Team()) as told:
        found = beside(job, teacher.to(where), made, (*asked.steps, 2 * asked.steps[-1], FINE), own, n, seed, told)
    _print(found)
    path = asked.out / FILE
    write_json(path, found.to_data())
    print(f"wrote {path}")
    image = path.with_suffix(".png")
    plots.save(picture(found, f"{asked.out.resolve().name}, beside its teacher"), image, {"protocol": found.protocol})
    print(f"wrote {image}")


def _print(found: Beside) -> None:
    """A line for each model, sampler and number of steps; then what that says."""
    from rich.console import Console
    from rich.table import Table

    from reverie.cli.notes import width
    from reverie.cli.numbers import written

    number = found.lines[0].number
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"\n{number.title}, {number.extractor}", title_justify="left")
    table.title_style = "bold"
    table.add_column("model and sampler", no_wrap=True)
    for name in ("evaluations", "steps", "seconds / 1000", number.title, "± error", "same picture"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in sorted(found.lines, key=lambda line: (line.evaluations, line.name)):
        error = "-" if line.number.error is None else written(line.number, line.number.error)
        values = (line.name, str(line.evaluations), str(line.steps), f"{line.seconds:.3g}")
        alike = "-" if line.alike is None else f"{line.alike:.2f}"
        table.add_row(*values, written(line.number, line.number.value), error, alike)
    Console(highlight=False, width=max(90, width())).print(table)
    print("same picture: the correlation with the teacher's finest sample of the same noise; 1 is the same\n")
    for said in found.told():
        print(said)
