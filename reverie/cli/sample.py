"""`reverie sample`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reverie import config
from reverie.cli.below import above_alone, told_below, unled, with_below
from reverie.cli.endings import ending_with
from reverie.cli.naming import finer, place_of
from reverie.cli.notes import note
from reverie.cli.sampling import attributes_of, idle, labels_of, named, prompts_of, settings_of, slug

if TYPE_CHECKING:
    from collections.abc import Iterator


HELP = """Draw samples from a run.

What the ending of --out says is what is written: .png a sheet, a folder (no ending) single PNGs, .npz
(arr_0 the samples, arr_1 their labels, texts and attribute_NAME what they were asked for) or .npy arrays, .gif or .webp
an animation from noise to samples.
Pictures carry the settings and seeds they were made with. The run knows how it is best sampled; --sampler,
--grid, --steps and --guidance change that, and finer settings are given as key=value. A run that was tuned
(reverie tune) has times and weights of its own for few steps, and they are used. Of a cascade, settings of the stage
that draws the small pictures begin with base., and augmentation=0.1 puts noise on these before they are enlarged; those
of the prior of unCLIP begin with prior., or base.prior.

Examples:

  reverie sample runs/digits --steps 10

  reverie sample runs/digits -n 64 --label 3 --sampler heun --steps 20 --seed 0 --batch 16 --out grid.png

  reverie sample runs/digits -n 10000 --precision bf16 --out samples.npz

  reverie sample runs/digits -n 100 --sampler ddim sampler.eta=0.5 --out denoising.gif

  reverie sample runs/emoji --prompt "red heart" --prompt "sleeping cat" --with style=noto --guidance 4

  reverie sample runs/emoji -n 100 --prompts wishes.txt --out wishes.npz

  reverie sample runs/digits --guidance 3 "guide.interval=[0.3,4]"

  reverie sample runs/digits --label 3 --guidance 2 guide.kind=classifier guide.run=runs/digits-classifier

  reverie sample runs/cascade --guidance 2 base.guidance=3 base.grid.steps=20 augmentation=0.2
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="sample", help=HELP, no_args_is_help=True, cls=ending_with(_kinds))(sample)


def _kinds() -> Iterator[str]:
    """Samplers by what they do, grids, and guides by what they need, a paragraph each."""
    from reverie.grids import Grid
    from reverie.guidance import Guide
    from reverie.samplers import Sampler

    solvers, others = [], []
    for kind, cls in config.registered(Sampler).items():
        made = cls()
        assert isinstance(made, Sampler)
        if made.deterministic:
            solvers.append(f"{kind} ({made.order})")
        else:
            others.append(kind)
    yield f"Samplers without noise (their order: n steps leave an error of n^-order): {', '.join(solvers)}."
    yield f"Samplers that draw noise: {', '.join(others)}."
    names = config.aliases(Sampler)
    if names:
        yield f"Other names of samplers, some with settings of their own: {', '.join(names)}."
    yield f"Grids: {', '.join(config.registered(Grid))}."
    guides = config.registered(Guide)
    alone, led = ([kind for kind, cls in guides.items() if bool(cls.needed) == other] for other in (False, True))
    yield (
        f"Guides, by guide.kind ({Guide.usual} unless given): {', '.join(alone)}; by another model, which guide.run "
        f"names: {', '.join(led)}."
    )
    yield "What each does, and its settings, is told by: reverie config"


def sample(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTINGS]...", help="As sampler.eta=0.5 or grid.steps=10.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many samples.")] = 64,
    label: Annotated[
        str | None,
        typer.Option(
            help="A class, or several with commas; none for no class. All in turn if left out, or none with a prompt."
        ),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="How to step: a kind from the list below; the run's own if left out.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="When to step: a kind from the list below, or sections as ddim50 or 10,15,20; if left out, the one "
            "tuned, or the run's own."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Sampler steps: 10 to 50 for solvers, as many as were trained for ancestral.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Scale of guidance; 1 is none (0 for guide.kind=classifier and clip, whose gradient it is)."),
    ] = None,
    weights: Annotated[
        Literal["model", "best"], typer.Option(help="model: the newest; best: those that did best during training.")
    ] = "model",
    prompt: Annotated[
        list[str] | None, typer.Option(help="What a model of captioned data is to draw; given again, used in turn.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text file of more such texts, one a line.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="A text to be led away from, with --guidance.")] = None,
    told: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME=VALUE", help="An attribute; given again, values are used in turn."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Each seed numbers its own series of samples.")] = 0,
    start: Annotated[int, typer.Option(help="Number of the first sample.")] = 0,
    batch: Annotated[
        int | None,
        typer.Option(
            help="How many at a time; fitted to memory if left out. Changes no sample (on a GPU, to rounding)."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
    precision: Annotated[str, typer.Option(help="Of the network: no is float32; bf16; fp16 on cuda.")] = "no",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: a minute or more, for many samples.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to; samples/ of the run if left out, or here.")] = None,
) -> None:
    """Open the run, draw the samples, write them."""
    from dataclasses import replace

    from rich.progress import Progress

    from reverie import faster
    from reverie.devices import usable
    from reverie.guiding import helper_of, lead_of
    from reverie.outputs import Output, check_output
    from reverie.runs import load
    from reverie.samplers import Weighed
    from reverie.synthesis import denoise, sized, times_of

    opened = load(run, weights)
    facts = opened.facts
    own = with_below(opened, words or [])
    settings = settings_of(opened, own, sampler, grid, steps, guidance)
    texts = prompts_of(prompt, prompts)
    lead = lead_of(opened, settings, labels_of(label), texts)
    asked_for = lead.told(opened.ask(n, lead.label, lead.prompt, attributes_of(told), negative=negative))
    if texts and len(texts) > n:
        note(f"{n} samples are of the first {n} of {len(texts)} prompts; -n {len(texts)} is one of each")
    for said in asked_for.remarks:
        note(said)
    guiding = guidance is not None or negative is not None or named(own, "guid(e|ance)")
    for said in (
        idle(opened, settings, asked_for, guiding),
        unled(opened, asked_for),
        above_alone(opened, precision, compiled),
    ):
        if said:
            note(said)
    request = replace(asked_for, seed=seed, start=start, batch=batch)
    number = len(times_of(settings, opened.schedule)) - 1
    asked = slug([word for word in (label, *(texts or ()), *(told or ()), negative and f"not {negative}") if word])
    kind = f"{settings.sampler.kind}-{settings.grid.kind}{number}-guidance{settings.guidance:g}"
    sections = grid if grid and "," in grid else None
    left_out = finer({"settings": words, "grid": sections, "precision": None if precision == "no" else precision})
    name = f"{kind}{asked}-seed{seed}-from{start}-n{n}{left_out}{opened.mark}.png"
    path = out or place_of(opened.path, "samples", name)
    check_output(path, facts.image)
    where = usable(device)
    began = time.perf_counter()
    f = faster.cast(opened.to(where).denoiser, faster.checked_precision(precision, where))
    helper = helper_of(opened, settings, request, where)
    if compiled:
        request = sized(f, opened.shape, settings, request, where, helper)
        f = faster.compiled(f, note)
    about = {
        "run": run.name,
        "weights": weights,
        "reverie": opened.about.get("reverie", ""),
        "seed": seed,
        "start": start,
        "n": n,
        "labels": list(request.labels),
        **({"texts": list(request.texts)} if request.texts else {}),
        **({"with": list(told)} if told else {}),
        **({"negative": negative} if negative else {}),
        "sampling": config.to_data(settings),
        **told_below(opened),
        "precision": precision,
        "compiled": compiled,
    }
    output = Output(path, opened.space, facts, request, about)
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("sampling", total=n * number)
        for drawn in denoise(f, opened.shape, settings, request, where, note, helper):
            output.take(drawn)
            progress.update(task, completed=drawn.done)
    output.write()
    used = settings.sampler
    method = f"{used.method.kind} with tuned weights" if isinstance(used, Weighed) else used.kind
    made = f"{_count(n, 'sample')}, {method}, {_count(number, 'step')}"
    print(f"wrote {path}: {made}, {time.perf_counter() - began:.1f} s")


def _count(n: int, thing: str) -> str:
    """In words: 1 step, 2 steps."""
    return f"{n} {thing}{'s' * (n != 1)}"
