"""`reverie audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reverie.cli.below import with_below
from reverie.cli.judging import check_writable, mark_of, picture_of, together, watched
from reverie.cli.naming import place_of
from reverie.cli.notes import entry, width
from reverie.cli.sampling import settings_of

if TYPE_CHECKING:
    from reverie.audit import Audit, Finding, Hands, Settings
    from reverie.config import Plain
    from reverie.evaluation.reading import Picture
    from reverie.runs import Run

HELP = """Does a model memorise what it was trained on?

[bold]RUN[/bold]: its samples and its losses are looked at, beside what it was trained on and what was held out; of a
run with little held out name other examples, HELD_OUT. Or [bold]SAMPLES TRAINING HELD_OUT[/bold] of a model of any
origin: each a folder of images, a .npz or .npy file, or a built-in set. HELD_OUT are examples of the same kind that the
model was not trained on: without 50 of them copies may still be seen, but that there are none cannot be told.

Every finding comes with its interval and a p-value adjusted for the number of tests, so that an honest model is said to
memorise with the probability --level at the most. The verdict, the findings and all that they depend on go into
RUN/audit/, with a picture of the samples nearest to a training example.

Examples:

  reverie audit runs/digits -n 300

  reverie audit runs/digits --extractor none --steps 10 --fail

  reverie audit samples.npz training.npz held_out.npz --out audit/

  reverie audit samples/ photos/train/ photos/test/ --size 64 --flip --extractor efficientnet
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="audit", help=HELP, no_args_is_help=True)(audit)


def audit(
    what: Annotated[
        list[str],
        typer.Argument(metavar="RUN [HELD_OUT] [SETTINGS] | SAMPLES TRAINING [HELD_OUT]", help="See above."),
    ],
    n: Annotated[
        int | None, typer.Option("-n", help="Samples; of a run as many as were held out, from 256 to 1000.")
    ] = None,
    level: Annotated[float, typer.Option(help="Probability of accusing an honest model, by all tests.")] = 0.01,
    extractor: Annotated[
        str | None,
        typer.Option(help="Features besides the values, with commas: classifier, efficientnet, a path; none for none."),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirrored copies are copies too; as in training.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampler steps, of a run.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of classifier-free guidance, of a run.")] = None,
    weights: Annotated[
        Literal["model", "best"], typer.Option(help="model: the newest; best: those that did best during training.")
    ] = "model",
    seed: Annotated[int, typer.Option(help="Of the samples, and of all that is chosen at random.")] = 0,
    size: Annotated[str | None, typer.Option(help="Read folders of images at this size: 64, or 48,64.")] = None,
    resize: Annotated[str, typer.Option(help="How: crop, pad or stretch.")] = "crop",
    channels: Annotated[int | None, typer.Option(help="1, 3 or 4.")] = None,
    fail: Annotated[bool, typer.Option("--fail", help="Exit with status 1 if it memorises.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the files; audit/ of a run if left out.")] = None,
) -> None:
    """Read what is given, audit, print and write."""
    from reverie.audit import Hands, Settings
    from reverie.audit.drawn import save
    from reverie.audit.findings import FOLDER
    from reverie.evaluation.extractors import from_text
    from reverie.evaluation.reading import check_picture, printable
    from reverie.runs import load, located

    chosen = None
    if extractor is not None:
        words = [] if extractor.strip() == "none" else extractor.split(",")
        chosen = tuple(from_text(word.strip()) for word in words)
    settings = Settings(n=n, level=level, flip=flip, extractors=chosen, seed=seed)
    what = [str(located(what[0])), *what[1:]]
    of_run = (Path(what[0]) / "config.json").is_file()
    folder = out or (place_of(Path(what[0]), "", FOLDER) if of_run else None)
    if folder is not None:
        check_writable(folder / "audit.json")
    picture = picture_of(size, resize, channels)
    check_picture(picture, [] if of_run else what)
    team, where = together(device)
    with watched(team) as told:
        hands = Hands(team, where, told)
        if of_run:
            found = _of_run(load(what[0], weights), what[1:], settings, hands, steps, guidance)
        else:
            found = _of_sets(what, picture, settings, hands)
    if not team.main:
        raise typer.Exit(int(fail and found.memorises))
    print_audit(found)
    best = "-best" if of_run and weights == "best" else ""
    if folder is not None:
        name = f"n{found.protocol['samples']['n']}-seed{seed}{best}-{mark_of(dict(found.protocol))}"
        for path in save(found, folder, name):
            print(f"wrote {printable(path)}")
    if fail and found.memorises:
        raise typer.Exit(1)


def _of_run(
    run: Run, words: list[str], settings: Settings, hands: Hands, steps: int | None, guidance: float | None
) -> Audit:
    """A run's own samples and losses, beside its own held-out examples or others."""
    from reverie.audit import audit_run
    from reverie.evaluation.reading import others_of_run

    others = [word for word in words if "=" not in word or Path(word).exists()]
    if len(others) > 1:
        raise ValueError(
            f"{run.path} is a run, which brings its own training examples; given {' and '.join(others)} besides: name "
            "held-out examples alone, or to audit samples write reverie audit SAMPLES TRAINING HELD_OUT"
        )
    own = with_below(run, [word for word in words if word not in others])
    sampling = settings_of(run, own, None, None, steps, guidance)
    held_out = others_of_run(run, others[0]) if others else None
    return audit_run(run, settings, sampling, hands, held_out)


def _of_sets(what: list[str], picture: Picture, settings: Settings, hands: Hands) -> Audit:
    """Samples of any origin."""
    from reverie.audit import audit_sets
    from reverie.evaluation.reading import read

    if not 2 <= len(what) <= 3:
        raise ValueError(
            f"{what[0]} is no run, so say what its model was trained on, and what was held out: reverie audit "
            f"{what[0]} TRAINING HELD_OUT, each a folder of images, a .npz or .npy file, or a built-in set"
        )
    made = read(what[0], picture, settings.n, settings.seed)
    training = read(what[1], picture)
    held_out = read(what[2], picture) if len(what) == 3 else None
    return audit_sets(made, training, held_out, settings, hands)


# ------------------------------------------------------------------------------------ what is printed


def print_audit(found: Audit) -> None:
    """What was looked at, the verdict, and the findings."""
    for name in ("samples", "training", "held_out"):
        part = found.protocol.get(name)
        if part is not None:
            print(entry(name.replace("_", " "), _told(part)))
    print(entry("verdict", f"{found.verdict.word}: {found.verdict.why}"))
    print()
    _table(found)
    for finding in found.findings:
        if finding.note:
            print(entry("note", f"{_name(finding)}: {finding.note}"))
    twice = found.duplicates
    if twice is not None and (twice.identical or twice.explained):
        text = f"{twice.identical} training examples are identical to another"
        text += f"; {twice.explained} of {twice.copied} near-copies are of examples that have a duplicate, or nearly"
        print(entry("duplicates", text))
    for part in found.left_out:
        print(entry("left out", f"{part.name}: {part.why}"))
    if found.levels:
        _levels(found)


def _table(found: Audit) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=False)
    for name in ("value", "95 %", "honest", "p", "adjusted"):
        table.add_column(name, justify="right", no_wrap=True)
    for f in found.findings:
        ends = "-" if f.low is None or f.high is None else f"{_number(f, f.low)} to {_number(f, f.high)}"
        expected = "-" if f.expected is None else _number(f, f.expected)
        table.add_row(_name(f), _number(f, f.value), ends, expected, _p(f.p), _p(f.adjusted))
    Console(highlight=False, width=max(80, width())).print(table)


def _levels(found: Audit) -> None:
    """Losses by noise level."""
    print(f"\n{'t':>8}{'training':>12}{'held out':>12}{'gap':>12}{'error':>10}{'AUC':>8}{'p':>10}")
    for row in found.levels:
        print(
            f"{row.t:8.3f}{row.train:12.4g}{row.held_out:12.4g}{row.gap:12.3g}{row.error:10.2g}{row.auc:8.3f}"
            f"{_p(row.p):>10}"
        )


def _name(finding: Finding) -> str:
    return finding.title + (f" ({finding.space})" if finding.space else "")


def _number(finding: Finding, value: float) -> str:
    return f"{100 * value:.1f} %" if finding.unit == "%" else f"{value:.3g}"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 1e-12" if value < 1e-12 else f"{value:.2g}"


def _told(part: dict[str, Plain]) -> str:
    """A part of the protocol on one line."""
    kept = ("split", "weights", "steps", "evaluations", "guidance", "seed", "used", "also_in_training", "digest")
    rest = [f"{key.replace('_', ' ')} {part[key]}" for key in kept if part.get(key) is not None]
    return ", ".join([f"{part['n']:,} of {part['source']}", *rest])
