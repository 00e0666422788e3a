"""`reverie plot`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie import config
from reverie.cli.naming import place_of
from reverie.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from torch import Tensor

    from reverie.data import Examples
    from reverie.runs import Facts, Run
    from reverie.schedules import Schedule
    from reverie.spaces import Space

HELP = """Draw a picture of a process or of a run, as .png, .svg or .pdf.

The first word says which:

[bold]schedule[/bold] SCHEDULES: signal, noise, log-SNR, drift and diffusion over t. A schedule is a name such as
cosine, linear_vp or table, with settings as key=value behind it, or a run folder.

[bold]forward[/bold] SOURCE SCHEDULES: an image, or points in the plane, going to noise. SOURCE is data as for train,
an image file or a run (digits if left out); without schedules, a run's own, or DDPM's linear and the cosine chain.

[bold]process[/bold] RUN: of a run on points in the plane, data to noise, noise to data, and the drift between.

[bold]field[/bold] RUN: of such a run, the learned score field at several noise levels.

[bold]bound[/bold] RUN: the terms of the variational bound over t, as reverie likelihood last left them.

A run folder alone: all that fit it, into the folder --out, or into plots/ of the run; into a file, the first.

Examples:

  reverie plot schedule cosine linear_vp table betas.kind=cosine betas.steps=100 --out schedules.png

  reverie plot forward digits --index 3 --times 0,0.2,0.4,0.6,0.8,1 --out forward.png

  reverie plot runs/digits --out digits.svg
"""

POINTS = 3000
"""Points in the plane that are drawn at most."""
LONGEST = 128
"""Longer side of an image file that goes to noise; larger ones are reduced."""


@dataclass(frozen=True)
class Options:
    """What the pictures have in common."""

    label: str | None
    index: int
    seed: int
    times: tuple[float, ...] | None


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="plot", help=HELP, no_args_is_help=True)(plot)


def plot(
    words: Annotated[list[str], typer.Argument(metavar="WHAT...", help="A picture and what it is of, or a run.")],
    out: Annotated[Path | None, typer.Option(help="Where to; NAME.png, or plots/ of the run, if left out.")] = None,
    times: Annotated[
        str | None, typer.Option(help="Times t to show, as 0.1,0.5,1, of forward, process, field.")
    ] = None,
    index: Annotated[int, typer.Option(help="Number of the example that forward shows.")] = 0,
    label: Annotated[str | None, typer.Option(help="The class that process and field show; none if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
) -> None:
    """Find out what is wanted, draw it, write it."""
    from reverie import plots

    options = Options(label, index, seed, None if times is None else _numbers(times))
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index are at least 0; given seed={seed}, index={index}")
    wanted, folder = _wanted(words)
    if out is not None and (out.suffix or words[0] in KINDS):
        plots.check_output(out)
        paths = dict.fromkeys(list(wanted)[:1], out)
    else:
        paths = {kind: (out or folder) / f"{kind}.png" for kind in wanted}
    for kind, path in paths.items():
        named = [Path(word).resolve().name if Path(word).exists() else word for word in wanted[kind]]
        about = {"plot": [kind, *named], "reverie": __version__, **config.to_data(options)}
        plots.save(KINDS[kind](wanted[kind], options), path, about)
        print(f"wrote {path}: {kind}")


def _wanted(words: list[str]) -> tuple[dict[str, list[str]], Path]:
    """The pictures asked for, each with its words, and the folder they go to unless told otherwise.

    Raises:
        ValueError: the first word is neither a picture nor a run folder, or a run has words behind it.
    """
    from reverie.runs import located

    name, rest = words[0], words[1:]
    if name in KINDS:
        own = len(rest) == 1 and _is_run(rest[0])
        return {name: rest}, place_of(located(rest[0]), "plots", "") if own else Path()
    if not located(name).is_dir():
        raise ValueError(f"{name!r} is no run folder, and no picture; a picture is one of: {', '.join(KINDS)}")
    run = _run(name)
    if rest:
        raise ValueError(f"a run alone is drawn whole; write `reverie plot schedule {name} {rest[0]}`, or the like")
    return {kind: [name] for kind in _fitting(run)}, place_of(run.path, "plots", "")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"times are numbers with commas between, as 0.1,0.5,1; given {text!r}") from None


def _one_run(words: list[str]) -> Run:
    if len(words) != 1:
        raise ValueError(f"this picture is of one run folder; given {' '.join(words) or 'none'}")
    return _run(words[0])


def _is_run(word: str) -> bool:
    from reverie.runs import CONFIG, located

    return (located(word) / CONFIG).is_file()


def _run(word: str) -> Run:
    from reverie.runs import load, located

    if not located(word).is_dir():
        raise ValueError(f"there is no run folder {word!r}")
    return load(word)


def _fitting(run: Run) -> Iterable[str]:
    """The pictures that fit a run, the one that says most first."""
    if run.facts.shape == (2,):
        yield from ("process", "field")
    yield "schedule"
    if _bounds(run.path):
        yield "bound"


# ------------------------------------------------------------------------------------ schedules


def _words(words: Iterable[str]) -> Iterator[str]:
    """Words, where "table betas.kind=cosine" in one pair of quotes is two."""
    for word in words:
        whole = Path(word).exists() or "=" in word.partition(" ")[0]
        yield from [word] if whole else re.split(r"\s+(?=[\w.]+=)", word)


def _is_schedule(word: str) -> bool:
    from reverie.schedules import Schedule

    try:
        return bool(config.lookup(Schedule, word))
    except ValueError:
        return False


def _schedules(words: Iterable[str]) -> dict[str, Schedule]:
    """Schedules by what was written: a name and the settings behind it, or a run folder.

    Raises:
        ValueError: an unknown name or setting, or a setting with no name before it.
    """
    from reverie.runs import located
    from reverie.schedules import Schedule

    found: list[tuple[str, config.Plain]] = []
    for word in words:
        if "=" in word and not Path(word).exists():
            if not found:
                raise ValueError(f"{word!r} is a setting of a schedule; name one before it, as in: table {word}")
            name, below = found[-1]
            found[-1] = f"{name} {word}", config.merged(below, config.parse_override(word))
        elif "/" in word or (located(word).is_dir() and not _is_schedule(word)):
            found.append((Path(word).resolve().name, config.to_data(_run(word).schedule)))
        else:
            found.append((word, {"kind": config.lookup(Schedule, word).kind}))
    return {name: config.from_data(Schedule, data, name.split()[0]) for name, data in found}


def _schedule(words: list[str], options: Options) -> Figure:
    from reverie import plots

    return plots.schedules(_schedules(_words(words)))


# --------------------------------------------------------------------------------- data to noise


def _forward(words: list[str], options: Options) -> Figure:
    from reverie import plots
    from reverie.schedules import Table
    from reverie.tensors import streams

    given = list(_words(words))
    source, rest = (
        ("digits", given) if not given or "=" in given[0] or _is_schedule(given[0]) else (given[0], given[1:])
    )
    named: dict[str, Schedule] = {"linear": Table.linear(), "cosine": Table.cosine()}
    if rest:
        named = _schedules(rest)
    elif run := _run_of(source):
        named = {run.path.resolve().name: run.schedule}
    x0, space = _example(source, options.index)
    times = [i / 8 for i in range(9)] if options.times is None else options.times
    return plots.forward(x0, named, times, streams([(options.seed, i) for i in range(len(x0))]), space)


def _run_of(source: str) -> Run | None:
    """The run that a source is, if it is one; built-in data come before a run of the package of the same name."""
    from reverie.data import built_in

    return _run(source) if _is_run(source) and (Path(source).exists() or source not in built_in()) else None


def _example(source: str, index: int) -> tuple[Tensor, Space]:
    """One image (1, C, H, W), or the points (N, 2), of a source, as a model sees them, and its space.

    Raises:
        ValueError: there is no such source, or it holds neither images nor points in the plane.
    """
    import torch

    from reverie.data import resolve
    from reverie.data.decoding import formats
    from reverie.spaces import Pixels, Standardized

    if Path(source).is_file() and Path(source).suffix.lower() in formats():
        return Pixels().encode(torch.from_numpy(_decoded(Path(source)))), Pixels()
    run = _run_of(source)
    examples = (run.recipe.data if run else resolve(source)).load()
    if examples.image:
        if index >= len(examples):
            raise ValueError(f"{source} has examples 0 to {len(examples) - 1}; given index {index}")
        return Pixels().encode(torch.from_numpy(examples.items[index : index + 1].copy())), Pixels()
    if examples.shape != (2,):
        raise ValueError(f"only images and points in the plane go to noise here; {source} holds {_shape(examples)}")
    space = run.space if run else Standardized().fit(torch.from_numpy(examples.items))
    return space.encode(_some(examples.items)), space


def _decoded(path: Path) -> np.ndarray:
    """An image file as (1, 3, H, W), its longer side at most `LONGEST`.

    Raises:
        ValueError: the file is damaged.
    """
    from reverie.data.decoding import decode, image_size, reason

    try:
        wide, high = image_size(path)
        ratio = min(1.0, LONGEST / max(wide, high))
        return decode(path, (max(1, round(high * ratio)), max(1, round(wide * ratio))), "crop", 3)[None]
    except Exception as error:  # pillow raises what it likes
        raise ValueError(f"{path} cannot be read: {reason(error, path)}") from None


def _shape(of: Examples | Facts) -> str:
    return f"examples of shape {'x'.join(map(str, of.shape))}"


def _some(items: np.ndarray) -> Tensor:
    """At most `POINTS` of the items, evenly spaced."""
    import numpy as np
    import torch

    chosen = np.linspace(0, len(items) - 1, min(len(items), POINTS)).round().astype(int)
    return torch.from_numpy(np.ascontiguousarray(items[chosen]))


# ---------------------------------------------------------------------------------- in the plane


def _in_plane(words: list[str], options: Options) -> tuple[Run, Tensor, int | None]:
    """A run on points in the plane, its data as it sees them, and the class asked for.

    Raises:
        ValueError: it is no such run, or has no such class.
    """
    run = _one_run(words)
    if run.facts.shape != (2,):
        raise ValueError(
            f"{run.path} has {_shape(run.facts)}; this picture is of runs on points in the plane, "
            "such as reverie train swissroll makes"
        )
    label = None if options.label is None else run.label_index(options.label)
    examples = run.recipe.data.load()
    items = examples.items
    if label is not None and examples.labels is not None:
        items = items[examples.labels == label]
    return run, run.space.encode(_some(items)), label


def _field(words: list[str], options: Options) -> Figure:
    from reverie import plots
    from reverie.tensors import streams

    run, x0, label = _in_plane(words, options)
    noise = streams([(options.seed, i) for i in range(len(x0))])
    return plots.field(run.denoiser, x0, noise, options.times, label)


def _process(words: list[str], options: Options) -> Figure:
    from reverie import plots
    from reverie.tensors import streams

    run, x0, label = _in_plane(words, options)
    noise = streams([(options.seed, i) for i in range(len(x0))])
    shown = (0.0, 0.125, 0.5, 1.0) if options.times is None else options.times
    return plots.process(run.denoiser, run.sampler, run.grid(run.schedule), x0, noise, shown, label)


# ------------------------------------------------------------------------------------- the bound


@dataclass(frozen=True)
class Bound:
    """What `reverie likelihood` leaves of the bound: see `reverie.plots.bound`."""

    t: tuple[float, ...]
    nats_per_dim: tuple[float, ...]
    prior: float
    decoder: float


def _bounds(run: Path) -> list[Path]:
    """The files of a run that hold a bound, the newest last."""
    files = sorted((run / "likelihood").glob("*.json"), key=lambda file: (file.stat().st_mtime, file.name))
    return [file for file in files if "bound" in config.read_file(file)]


def _bound(words: list[str], options: Options) -> Figure:
    from reverie import plots

    run = _one_run(words)
    files = _bounds(run.path)
    if not files:
        raise ValueError(f"{run.path} has no bound yet: `reverie likelihood` computes it")
    data = config.read_file(files[-1])["bound"]
    known = {key: data[key] for key in config.hints(Bound) if key in data} if isinstance(data, dict) else data
    try:
        terms: Bound = config.from_data(Bound, known, "bound")
        return plots.bound(terms.t, terms.nats_per_dim, terms.prior, terms.decoder)
    except ValueError as error:
        raise ValueError(f"{files[-1]}: {error}") from None


KINDS: dict[str, Callable[[list[str], Options], Figure]] = {
    "schedule": _schedule,
    "forward": _forward,
    "process": _process,
    "field": _field,
    "bound": _bound,
}
