"""`reverie evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reverie.cli.below import above_alone, with_below
from reverie.cli.counts import counts_in
from reverie.cli.judging import check_writable, mark_of, picture_of, together, watched
from reverie.cli.naming import place_of
from reverie.cli.notes import note
from reverie.cli.numbers import print_curve, print_evaluation
from reverie.cli.sampling import labels_of, settings_of

if TYPE_CHECKING:
    from reverie.evaluation.collection import Collection
    from reverie.evaluation.job import Job
    from reverie.evaluation.subject import Subject

SAMPLES = 1500
"""Of a run, unless said."""
HELP = """How good samples are beside real examples: numbers with their error, their floor and their protocol.

[bold]TARGET[/bold] is a run, whose samples are drawn and compared with what it was trained on, the held-out examples
giving the floor; or samples of any origin, a folder of images or a .npz or .npy file, compared with the REFERENCE that
follows: data as for train. Numbers come with all that they depend on, also as JSON, in RUN/evaluation/ or
beside the samples. The same command gives the same numbers to the last digit, on any number of processes.

Examples:

  reverie evaluate runs/digits -n 300

  reverie evaluate runs/digits --extractor pixels --metrics sliced_wasserstein,mmd --steps 10 -n 200

  reverie evaluate runs/digits --curve 5,10,20,50 --samplers heun,dpmpp_2m -n 200

  reverie evaluate samples/ photos/ --size 64 --extractor efficientnet --metrics kid,recall

  torchrun --nproc_per_node=2 -m reverie evaluate runs/digits -n 10000
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="evaluate", help=HELP, no_args_is_help=True)(evaluate)


def evaluate(
    target: Annotated[Path, typer.Argument(help="A run, or samples: a folder of images, a .npz or .npy file.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REFERENCE] [SETTINGS]...", help="Other data to compare with; sampler.eta=0.5 ..."),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="How many samples; 1500 of a run, all of a folder.")] = None,
    references: Annotated[int, typer.Option(help="Real examples to compare with, at the most.")] = 5000,
    extractor: Annotated[
        str | None,
        typer.Option(
            help="Whose features, with commas: efficientnet, classifier, pixels, values, or the path of weights of "
            "Inception, DINOv2 or CLIP."
        ),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="What is measured, with commas: fid, kid, recall, ...")] = None,
    pair: Annotated[str | None, typer.Option(help="Judge captions: trained, or the folder of a CLIP model.")] = None,
    likelihood: Annotated[int, typer.Option(help="Bits per dimension of so many held-out examples too.")] = 0,
    curve: Annotated[
        str | None, typer.Option(help="Quality against cost: numbers of evaluations, as 5,10,20,50.")
    ] = None,
    samplers: Annotated[
        str, typer.Option(help="Of --curve, beside the run's own; with commas.")
    ] = "ddim,heun,dpmpp_2m,unipc",
    sampler: Annotated[str | None, typer.Option(help="As for sample.")] = None,
    grid: Annotated[str | None, typer.Option(help="As for sample.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampler steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of classifier-free guidance; 1 is none.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Classes, with commas; if left out all, as often as in the reference.")
    ] = None,
    weights: Annotated[
        Literal["model", "best"], typer.Option(help="model: the newest; best: those that did best during training.")
    ] = "model",
    seed: Annotated[int, typer.Option(help="Of the samples, and of the choice of real examples.")] = 0,
    sets: Annotated[int, typer.Option(help="Disjoint sets of samples that the error is told from.")] = 3,
    size: Annotated[str | None, typer.Option(help="Read folders of images at this size: 64, or 48,64.")] = None,
    resize: Annotated[str, typer.Option(help="How: crop, pad or stretch.")] = "crop",
    channels: Annotated[int | None, typer.Option(help="1, 3 or 4.")] = None,
    precision: Annotated[str, typer.Option(help="Of the run's network: no is float32; bf16; fp16 on cuda.")] = "no",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
    notes: Annotated[bool, typer.Option("--notes", help="Print what is to know of each number too.")] = False,
    out: Annotated[Path | None, typer.Option(help="The JSON file.")] = None,
) -> None:
    """Read what is given, draw, measure, print and write."""
    from reverie.evaluation.evaluate import Settings
    from reverie.evaluation.extractors import from_text
    from reverie.evaluation.job import Job
    from reverie.evaluation.metrics import from_names
    from reverie.evaluation.numbers import FOLDER
    from reverie.evaluation.reading import check_picture, read
    from reverie.runs import load, located

    picture, target = picture_of(size, resize, channels), located(target)
    other, asked = _parted(words or [])
    _check_counts(n, references)
    of_run = (target / "config.json").is_file()
    if not of_run:
        options = {"sampler": sampler, "grid": grid, "steps": steps, "guidance": guidance, "label": label}
        _check_samples(target, other, [*asked, *(f"--{k}" for k, v in options.items() if v is not None)])
        if curve is not None or likelihood:
            raise ValueError(f"--curve and --likelihood ask for a run; {target} is samples")
    check_picture(picture, [*([] if of_run else [target]), *([] if other is None else [other])])
    new = place_of(target, FOLDER, "new.json") if of_run else target.absolute().with_name("new.json")
    check_writable(out or new)
    settings = Settings(
        tuple(from_text(word.strip()) for word in extractor.split(",")) if extractor else (),
        from_names(metrics) if metrics else (),
        sets,
    )
    team, where = together(device)
    reference = None if other is None else read(other, picture, references, seed, pair is not None)
    job = Job(settings, reference, references, pair, likelihood, team, where)
    if not of_run:
        _of_samples(job, read(target, picture, n, seed, pair is not None), target, out, notes)
        return
    from reverie.evaluation.subject import Subject
    from reverie.faster import checked_precision

    run = load(target, weights).to(where)
    chosen = settings_of(run, with_below(run, asked), sampler, grid, steps, guidance)
    labels = labels_of(label)
    classes = None if labels is None else tuple(labels)
    subject = Subject(run, chosen, SAMPLES if n is None else n, classes, seed, checked_precision(precision, where))
    if team.main and (said := above_alone(run, precision)):
        note(said)
    if subject.untold and team.main:
        note(f"{target} is a run that is told an image; its samples here are told none, and judged as those are")
    if curve is None:
        _of_run(job, subject, out, notes)
    else:
        counts = counts_in(curve, "--curve", "5,10,20,50", "numbers of evaluations", 1)
        _curve(job, subject, list(counts), [word.strip() for word in samplers.split(",") if word.strip()], out)


def _of_samples(job: Job, made: Collection, target: Path, out: Path | None, notes: bool) -> None:
    """Samples of any origin."""
    from reverie.evaluation.reading import printable
    from reverie.files import write_json

    with watched(job.team) as told:
        found = job.of_samples(made, told)
    if job.team.main:
        print_evaluation(found, notes)
        path = out or Path(f"{target}.{mark_of(dict(found.protocol))}.evaluation.json")
        write_json(path, found.to_data())
        print(f"wrote {printable(path)}")


def _of_run(job: Job, subject: Subject, out: Path | None, notes: bool) -> None:
    """A run's own samples."""
    from reverie.evaluation.numbers import FOLDER
    from reverie.files import write_json

    with watched(job.team) as told:
        found = job.of_run(subject, told)
    if job.team.main:
        print_evaluation(found, notes)
        path = out or place_of(subject.run.path, FOLDER, f"{subject.name}-{mark_of(dict(found.protocol))}.json")
        write_json(path, found.to_data())
        print(f"wrote {path}")


def _curve(job: Job, subject: Subject, counts: list[int], others: list[str], out: Path | None) -> None:
    """Several samplers at several costs."""
    import warnings
    from dataclasses import replace

    from reverie import config, plots
    from reverie.evaluation.curve import FOLDER, picture
    from reverie.files import write_json
    from reverie.samplers import Sampler

    samplers = [subject.sampling.sampler]
    for name in others:
        made = config.from_data(Sampler, name, "--samplers")
        if made.kind not in {s.kind for s in samplers}:
            samplers.append(made)
    with warnings.catch_warnings(), watched(job.team) as told:
        if job.team.main:
            warnings.showwarning = lambda text, *_: note(str(text))
        else:
            warnings.simplefilter("ignore")
        found = job.curve(subject, samplers, counts, told)
    if not job.team.main:
        return
    print_curve(found)
    whole = {
        "protocol": dict(found.protocol),
        "points": [config.to_data(replace(p, seconds=0.0)) for p in found.points],
    }
    path = out or place_of(subject.run.path, FOLDER, f"seed{subject.seed}-n{subject.n}-{mark_of(whole)}.json")
    write_json(path, found.to_data())
    print(f"wrote {path}")
    image = path.with_suffix(".png")
    plots.save(picture(found, subject.run.path.resolve().name), image, {"protocol": found.protocol})
    print(f"wrote {image}")


# ----------------------------------------------------------------------------------- what is given


def _parted(words: list[str]) -> tuple[str | None, list[str]]:
    """The reference among the words, and the settings; what exists is no setting."""
    others = [word for word in words if "=" not in word or Path(word).expanduser().exists()]
    asked = [word for word in words if word not in others]
    if len(others) > 1:
        raise ValueError(f"one reference is enough; given {' and '.join(others)}")
    return (others[0] if others else None), asked


def _check_counts(n: int | None, references: int) -> None:
    if n is not None and n < 2:
        raise ValueError(f"-n asks for at least 2 samples; given {n}")
    if references < 2:
        raise ValueError(f"--references asks for at least 2 real examples; given {references}")


def _check_samples(target: Path, other: str | None, asked: list[str]) -> None:
    """Refuse samples that have nothing beside them, or that are to be drawn in some way."""
    if other is None:
        raise ValueError(
            f"{target} is no run, so say what its samples are to be compared with: reverie evaluate {target} "
            "REFERENCE, a folder of images, a .npz or .npy file, or a built-in set"
        )
    if asked:
        raise ValueError(f"{asked[0]} says how a run draws samples; {target} is no run, and its samples are drawn")
