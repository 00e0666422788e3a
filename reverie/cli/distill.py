"""`reverie distill`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie import config
from reverie.cli.counts import counts_in
from reverie.cli.judging import watched
from reverie.cli.train import taking_part, trained

if TYPE_CHECKING:
    from reverie.distilling import Asked, Beside
    from reverie.evaluation.evaluate import Settings
    from reverie.runs import Run

HELP = """Teach a run to sample in a few steps, and tell what that brings.

The student is a run as any other, which begins as its teacher and holds a copy of it. It is trained for no more
evaluations of the network than its teacher was, with all students on the way to it; train.steps says otherwise, for
each of them. Settings are given as key=value, as to `reverie train`. Where the run is guided, or its network puts out
what few steps have no use for, such as noise, the first on the way is one by imitation. Of a cascade it is the last
model that is taught; its base samples as before, and is distilled by naming its folder. To resume, run the same command
again. A table then tells quality against evaluations and seconds of both, and where the teacher draws level; it is
stored in the student's folder as distilled.json and distilled.png.

[bold]Methods[/bold], for --method:

  distribution_matching  samples whose law, at every level of noise, is the teacher's (Yin et al., 2024)

  progressive            one step for several of the teacher's, student after student (Salimans & Ho, 2022)

  consistency            where a path of the flow ends, learned along the teacher's (Song et al., 2023)

  consistency_training   the same from data alone, beginning with the teacher's weights (Song & Dhariwal, 2024)

  scm                    the same in continuous time (Lu & Song, 2025)

  mean_flow              the mean of the flow over steps of any length (Geng et al., 2025)

  shortcut               steps of any length, each as two of half its length (Frans et al., 2024)

  reflow                 straight paths between noise and what the teacher makes of it (Liu et al., 2023)

  imitation              in one evaluation what guidance does in two, for any sampler (Meng et al., 2023)

Examples:

  reverie distill runs/digits --method progressive --steps 1,2,4

  reverie distill runs/digits --method mean_flow --guidance 1,4 --out runs/quick train.steps=500
"""
REFERENCE = 50
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
    steps: Annotated[
        str | None,
        typer.Option(help="In how many the student is to sample, with commas; 1,2,4 where the method has several."),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(help="Of the teacher: one scale, or two with a comma, which are told the student; its own."),
    ] = None,
    weaker: Annotated[Path | None, typer.Option(help="A run that the teacher is led away from (autoguidance).")] = None,
    out: Annotated[Path | None, typer.Option(help="The student's folder; one beside RUN if left out.")] = None,
    n: Annotated[int, typer.Option("-n", help="Samples that are judged at the end; 0 for no table.")] = 1000,
    metric: Annotated[str | None, typer.Option(help="By which; KID or the sliced Wasserstein distance.")] = None,
    extractor: Annotated[str | None, typer.Option(help="In whose features; by the data if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Of the samples that are judged.")] = 0,
) -> None:
    """Plan the student, train it after those in between, and put it beside its teacher."""
    from reverie.distilling import METHODS, Asked, links, plan_for
    from reverie.runs import load, of_package

    teacher = load(run)
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there are: {', '.join(METHODS)}")
    if n and n < 2:
        raise ValueError(f"-n are samples that are judged, at least 2, or 0 for no table; given {n}")
    place = teacher.path.resolve()
    name = f"{place.name}-{method}"
    out = out or (Path("runs") / name if of_package(place) else teacher.path.parent / name)
    scales = _scales(teacher, METHODS[method].lessons > 0, guidance)
    layers = tuple(config.parse_override(_setting(word)) for word in words or [])
    numbers = METHODS[method].steps if steps is None else counts_in(steps, "--steps", "1,2,4")
    asked, settings = Asked(method, numbers, scales, out, layers, weaker), _judged(metric, extractor)
    plan = plan_for(teacher, asked)
    given = ["--method", method, "--steps", ",".join(map(str, numbers))]
    given += [f"--{key}={value}" for key, value in (("guidance", guidance), ("weaker", weaker)) if value is not None]
    again = shlex.join(["reverie", "distill", str(run), *(words or []), *given, "--out", str(out)])
    processes = taking_part(plan)
    if processes.is_main_process:
        told = [f"{link.folder} by {link.name}" for link in reversed(links(teacher, asked))]
        print(f"students, one after the other: {', '.join(told)}")
    trained(plan, out, again, processes)
    if n and processes.is_main_process:
        _compare(teacher, asked, n, seed, settings)
    if processes.is_main_process:
        print(f"done: {out}. Next: reverie sample {out} -n 64 --out samples.png")


def _setting(word: str) -> str:
    if "=" not in word:
        raise ValueError(f"{word!r} is not a setting; write key=value, such as train.steps=500")
    return word


def _scales(teacher: Run, lessons: bool, text: str | None) -> tuple[float, float]:
    """The lowest and the highest scale of guidance: the teacher's own, or those that are asked for.

    Raises:
        ValueError: something that is no number, or more than two; or the teacher's own guidance is no plain one.
    """
    from reverie.guidance import ClassifierFreeGuide

    if text is None:
        own = teacher.recipe.sample
        if not lessons or not teacher.vocabulary.parts:
            return 1.0, 1.0
        if own.guide not in (None, ClassifierFreeGuide()):
            raise ValueError(
                f"{teacher.path} is sampled with guide.kind={own.guide.kind if own.guide else ''} and settings of its "
                f"own, which a student does not learn; give --guidance, a scale of classifier-free guidance, 1 for none"
            )
        return own.guidance, own.guidance
    try:
        found = sorted(float(word) for word in text.split(","))
    except ValueError:
        found = []
    if len(found) not in (1, 2):
        raise ValueError(f"--guidance takes one scale or two with a comma, such as 2 or 1,4; given {text!r}")
    return found[0], found[-1]


def _judged(metric: str | None, extractor: str | None) -> Settings:
    """By what students are judged; asked for before anything is trained.

    Raises:
        ValueError: there is no such metric or extractor.
    """
    from reverie.evaluation.evaluate import Settings
    from reverie.evaluation.extractors import from_text
    from reverie.evaluation.metrics import from_names

    return Settings(
        tuple(from_text(word.strip()) for word in extractor.split(",")) if extractor else (),
        from_names(metric) if metric else (),
    )


def _compare(teacher: Run, asked: Asked, n: int, seed: int, settings: Settings) -> None:
    """Measure, print and store."""
    from reverie import plots
    from reverie.devices import usable
    from reverie.distilling import FILE, METHODS, beside, picture, students
    from reverie.evaluation.job import Job
    from reverie.evaluation.team import Team
    from reverie.files import write_json
    from reverie.runs import load

    where = usable(None)
    job = Job(settings, device=where)
    made = {number: load(folder).to(where) for number, folder in students(teacher, asked).items()}
    low, high = asked.guidance
    own = teacher.recipe.sample.guidance
    own = min(max(own, low), high) if METHODS[asked.method].lessons else own
    with watched(Team()) as told:
        found = beside(job, teacher.to(where), made, (*asked.steps, 2 * asked.steps[-1], REFERENCE), own, n, seed, told)
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
