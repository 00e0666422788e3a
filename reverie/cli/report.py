"""`reverie report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie.cli.judging import check_writable, picture_of, together, watched
from reverie.cli.naming import place_of
from reverie.cli.notes import note

if TYPE_CHECKING:
    from reverie.evaluation.extractors import Extractor
    from reverie.evaluation.reading import Picture
    from reverie.report.samples import Judged

REFERENCES = 5000
"""Real examples that samples are evaluated beside, at the most, as `reverie evaluate` has it."""
HELP = """One page that tells all about a run, and a model card; or one about samples of any origin.

[bold]RUN[/bold]: RUN/report.html needs no network and no other file: what was trained, on what and how; curves; samples
over time and their denoising, each with a slider; evaluation, likelihood, audit and tuning with their protocols; how to
make it again. RUN/README.md is a model card in the form of the Hugging Face Hub. What the run lacks is said, with the
command that makes it.

[bold]SAMPLES REFERENCE [HELD_OUT][/bold], each a folder of images, a .npz or .npy file, or a built-in set: samples of a
model trained elsewhere are evaluated and audited now. REFERENCE is what the model was trained on, HELD_OUT examples of
the same kind that it was not trained on: without them the audit decides nothing. The page is SAMPLES-report.html.

Examples:

  reverie report runs/digits

  reverie report runs/digits --out digits.html

  reverie report samples/ photos/train/ photos/test/ --size 64
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="report", help=HELP, no_args_is_help=True)(report)


def report(
    what: Annotated[list[Path], typer.Argument(metavar="RUN | SAMPLES REFERENCE [HELD_OUT]", help="See above.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; RUN/report.html or SAMPLES-report.html if left out.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="How many of SAMPLES; all if left out.")] = None,
    extractor: Annotated[
        str | None, typer.Option(help="In whose features SAMPLES are judged, with commas: as for evaluate.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is chosen at random about SAMPLES.")] = 0,
    size: Annotated[str | None, typer.Option(help="Read folders of images at this size: 64, or 48,64.")] = None,
    resize: Annotated[str, typer.Option(help="How: crop, pad or stretch.")] = "crop",
    channels: Annotated[int | None, typer.Option(help="1, 3 or 4.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
) -> None:
    """Open what is given, judge samples, write the page, say where it is."""
    from reverie import report as reports
    from reverie.evaluation.extractors import from_text
    from reverie.evaluation.reading import check_picture, printable
    from reverie.runs import CONFIG, located

    if out is not None:
        reports.checked(out)
    given = {"-n": n, "--extractor": extractor, "--size": size, "--channels": channels}
    asked = [name for name, value in given.items() if value is not None]
    run = located(what[0])
    if len(what) == 1 or (run / CONFIG).is_file():
        _of_run(run, out, device, [*map(str, what[1:]), *asked])
        return
    if len(what) > 3:
        raise ValueError(f"a report is of SAMPLES REFERENCE [HELD_OUT]; given {len(what)} paths")
    if n is not None and n < 2:
        raise ValueError(f"-n asks for at least 2 samples; given {n}")
    path = out or Path(f"{what[0]}-report.html")
    check_writable(path)
    picture = picture_of(size, resize, channels)
    check_picture(picture, what)
    extractors = tuple(from_text(word.strip()) for word in extractor.split(",")) if extractor else ()
    found = _judged(what, picture, n, extractors, seed, device)
    if found is not None:
        print(f"wrote {printable(reports.report_samples(found, path))}")


def _of_run(run: Path, out: Path | None, device: str | None, asked: list[str]) -> None:
    """Page and card of a run, of which nothing else is asked."""
    from reverie import report as reports
    from reverie.devices import usable
    from reverie.models.guides import purpose
    from reverie.runs import MODEL, load, of_package

    opened = load(run)
    if asked:
        raise ValueError(f"{run} is a run, which brings its own data; {asked[0]} is one too many")
    if opened.recipe.kind != "denoiser":
        raise ValueError(f"a report shows samples, and {purpose(opened.recipe.kind, run)}")
    chosen = usable(device)
    if (run / MODEL).is_file() and chosen != "cpu":
        opened.to(chosen)
    written = reports.report(opened, out or place_of(run, "", reports.FILE))
    for piece in written.damage:
        note(f"{piece.where}: {piece.why}")
    print(f"wrote {written.page}")
    if written.card is not None:
        print(f"wrote {written.card}")
    elif not of_package(run):
        note(f"{run / 'README.md'} was not written by Reverie, and is left as it is")


def _judged(
    what: list[Path], picture: Picture, n: int | None, extractors: tuple[Extractor, ...], seed: int, device: str | None
) -> Judged | None:
    """Samples with their evaluation and audit; None on all processes but the main one."""
    from reverie import audit
    from reverie.evaluation.evaluate import Settings
    from reverie.evaluation.job import Job
    from reverie.evaluation.reading import read
    from reverie.report.samples import Judged

    team, where = together(device)
    made = read(what[0], picture, n, seed)
    real = read(what[1], picture)
    held_out = read(what[2], picture) if len(what) == 3 else None
    reference = real if len(real) <= REFERENCES else read(what[1], picture, REFERENCES, seed)
    with watched(team) as told:
        found = Job(Settings(extractors), reference, team=team, device=where).of_samples(made, told)
        settings = audit.Settings(extractors=extractors or None, seed=seed)
        audited = audit.audit_sets(made, real, held_out, settings, audit.Hands(team, where, told))
    command = _command(what, picture, n, extractors, seed)
    return Judged(made, real, found, audited, where, command) if team.main else None


def _command(
    what: list[Path], picture: Picture, n: int | None, extractors: tuple[Extractor, ...], seed: int
) -> tuple[str, ...]:
    """The words that make the page again."""
    size = picture.size if picture.size is None or isinstance(picture.size, int) else ",".join(map(str, picture.size))
    paths = [str(getattr(one, "path", "")) or one.kind for one in extractors]
    given = {
        "-n": n, "--extractor": ",".join(paths) or None, "--seed": seed or None, "--size": size,
        "--resize": picture.resize if picture.resize != "crop" else None, "--channels": picture.channels,
    }  # fmt: skip
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return "reverie", "report", *map(str, what), *options
