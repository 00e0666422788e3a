"""`reverie sample`."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie import config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from reverie.recipe import Sampling
    from reverie.runs import Run

HELP = """Draw samples from a run.

What the ending of --out says is what is written: .png a sheet, a folder (no ending) single PNGs, .npz
(arr_0 the samples, arr_1 their labels) or .npy arrays, .gif or .webp an animation from noise to samples.
Pictures carry the settings and seeds they were made with. Sampling settings may be given as key=value.

Examples:

  reverie sample runs/digits -n 64 --label 3 --sampler heun --steps 20 --seed 0 --batch 16 --out grid.png

  reverie sample runs/digits -n 10000 --out samples.npz

  reverie sample runs/digits -n 100 --sampler ddim sampler.eta=0.5 --out denoising.gif
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="sample", help=HELP, no_args_is_help=True)(sample)


def sample(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTINGS]...", help="As sampler.eta=0.5 or grid.steps=10.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many samples.")] = 64,
    label: Annotated[
        str | None, typer.Option(help="A class, or several with commas; none for no class. All in turn if left out.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="heun, ddim, ancestral and others; `reverie config` lists all.")
    ] = None,
    grid: Annotated[str | None, typer.Option(help="uniform, karras, log_snr, knots.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampler steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of classifier-free guidance; 1 is none.")] = None,
    seed: Annotated[int, typer.Option(help="Each seed numbers its own series of samples.")] = 0,
    start: Annotated[int, typer.Option(help="Number of the first sample.")] = 0,
    batch: Annotated[int, typer.Option(help="How many at a time; changes no sample.")] = 64,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to; samples/ of the run if left out.")] = None,
) -> None:
    """Open the run, draw the samples, write them."""
    from reverie.devices import usable
    from reverie.outputs import ANIMATIONS, check_output, write_animation, write_samples
    from reverie.runs import load
    from reverie.synthesis import Request, denoise

    opened = load(run)
    facts = opened.facts
    settings = _settings(opened, words or [], sampler, grid, steps, guidance)
    request = Request(opened.labels_for(n, _labels(label)), seed, start, batch)
    number = len(settings.grid(opened.schedule)) - 1
    asked = "" if label is None else "-" + re.sub(r"[^\w,]+", "_", label)
    kind = f"{settings.sampler.kind}-{settings.grid.kind}{number}-guidance{settings.guidance:g}"
    name = f"{kind}{asked}-seed{seed}-from{start}-n{n}.png"
    path = out or run / "samples" / name
    check_output(path, facts.image)
    where = usable(device)
    f = opened.to(where).denoiser
    began, moving = time.perf_counter(), path.suffix.lower() in ANIMATIONS
    batches = _drawn(denoise(f, facts.shape, settings, request, where), n * (number + 1), every=moving)
    about = {
        "run": run.name,
        "reverie": opened.about.get("reverie", ""),
        "seed": seed,
        "start": start,
        "n": n,
        "labels": list(request.labels),
        "sampling": config.to_data(settings),
    }
    frames = [opened.space.decode(x) for x in batches]
    if moving:
        write_animation(path, frames, request.labels, facts, about)
    else:
        write_samples(path, frames[-1], request.labels, facts, about)
    kind = type(settings.sampler).__name__
    print(f"wrote {path}: {n} samples, {kind}, {number} steps, {time.perf_counter() - began:.1f} s")


def _drawn(batches: Iterator[Iterator[Tensor]], total: int, every: bool) -> list[Tensor]:
    """x after every step, or after the last alone, of all batches together.

    A progress bar on a terminal counts `total` states of samples.
    """
    import torch
    from rich.progress import Progress

    columns: list[list[Tensor]] = []
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("sampling", total=total)
        for states in batches:
            kept: list[Tensor] = []
            for x in states:
                kept = [*kept, x.cpu()] if every else [x]
                progress.advance(task, len(x))
            columns.append([x.cpu() for x in kept])
    return [torch.cat(parts) for parts in zip(*columns, strict=True)]


def _settings(
    run: Run, words: list[str], sampler: str | None, grid: str | None, steps: int | None, guidance: float | None
) -> Sampling:
    """The run's own sampling settings with what the command line says on top."""
    from reverie.recipe import Sampling

    data = config.to_data(run.recipe.sample)
    for key, kind in (("sampler", sampler), ("grid", grid)):
        if kind is not None:
            data = config.merged(data, {key: {"kind": kind}})
    for word in words:
        if "=" not in word:
            raise ValueError(f"{word!r} is not a setting; write key=value, such as sampler.eta=0.5, or see --help")
        data = config.merged(data, config.parse_override(word.removeprefix("sample.")))
    settings = config.from_data(Sampling, data, "")
    assert isinstance(settings, Sampling)
    if settings.clip and not run.space.bounded:
        raise ValueError("clip=true holds pixels in their range; these data are not 8-bit images")
    return replace(
        settings,
        grid=settings.grid if steps is None else settings.grid.with_steps(steps),
        guidance=settings.guidance if guidance is None else guidance,
    )


def _labels(text: str | None) -> list[int | str | None] | None:
    if text is None:
        return None
    return [None if word.strip() == "none" else word.strip() for word in text.split(",")]
