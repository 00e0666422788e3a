"""`reverie edit`."""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reverie import config
from reverie.cli.below import told_below, with_below
from reverie.cli.editing import METHOD, Asked, source_of, typed, way_of
from reverie.cli.endings import ending_with
from reverie.cli.naming import finer, place_of
from reverie.cli.notes import note
from reverie.cli.sampling import attributes_of, idle, labels_of, named, settings_of, slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from reverie.edits import Way, Wish
    from reverie.recipe import Sampling
    from reverie.runs import Run

ANIMATED = (".gif", ".webp")

HELP = """Edit a picture with a run.

A part painted anew (--mask, --box, --outpaint), the whole of it drawn again (--strength), its noise under another
class or text (--invert), the way from it to another picture (--to), or a picture of which it is a small, grey or
blurred one (--operator). With none of these, a run that is told an image is told the picture; any other draws it
again. The picture is brought to the run's size. A class, a text and attributes say what the results should be; left
out, nothing is asked.

What is written is a sheet of the given and the results, or by the ending of --out as for reverie sample: a folder (no
ending) single PNGs, .npz or .npy arrays, .gif or .webp an animation of --to. Pictures carry the settings and seeds they
were made with. Finer settings are given as key=value, those of a method as method.times=5, of a stage as
base.guidance=3.

Examples:

  reverie edit runs/digits digit.png --mask mask.png --label 3

  reverie edit runs/digits digit.png --box 0,4,8,4 --method ddrm -n 16 --seed 1

  reverie edit runs/digits digit.png --outpaint 0,4,0,4

  reverie edit runs/digits digit.png --strength 0.6 --label 0,1,2,3,4,5,6,7,8,9 -n 40

  reverie edit runs/digits digit.png --invert --from-label 8 --label 3 --out inverted.png

  reverie edit runs/digits held-out:0 --to held-out:1 -n 12 --out morph.gif

  reverie edit runs/digits small.png --operator downsample:2 --out restored

  reverie edit runs/digits digit.png --operator blur:1+downsample:2 --measure --method pigdm method.variance=1
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="edit", help=HELP, no_args_is_help=True, cls=ending_with(_kinds))(edit)


def _kinds() -> Iterator[str]:
    """Operators, methods and guides with their settings, a paragraph each."""
    from reverie.editing import Method, Operator
    from reverie.guidance import Guide

    def listed(family: type[config.Part]) -> str:
        known = {kind: ", ".join(config.hints(cls)) for kind, cls in config.registered(family).items()}
        return ", ".join(f"{kind} ({settings})" if settings else kind for kind, settings in known.items())

    yield f"Operators, with their number as downsample:4: {listed(Operator)}."
    yield f"Methods, with their settings as method.times=5: {listed(Method)}."
    yield f"Guides, as guide.kind=classifier guide.run=RUN: {listed(Guide)}."
    yield "What each does is told in docs/editing.md and docs/guidance.md."


def edit(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    picture: Annotated[
        str, typer.Argument(help="An image file; or held-out:17, an example that the run was not trained on.")
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTINGS]...", help="As method.zeta=0.5 or sampler.eta=0.5.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="An image as large as the picture: white is painted anew, black kept.")
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,W,H", help="Painted anew: left, top, width, height in pixels; may be given again."),
    ] = None,
    outpaint: Annotated[
        str | None,
        typer.Option(metavar="T,R,B,L", help="Room to paint around it: top, right, bottom, left, in the run's pixels."),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How far it is drawn again, above 0 and up to 1; with --invert, how far back.")
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Draw from the picture's own noise, found by a solver.")
    ] = False,
    vary: Annotated[
        bool,
        typer.Option(
            "--vary",
            help="Draw what has the picture's embedding (unclip): variations; moved with --to, or "
            "with --from-prompt to --prompt.",
        ),
    ] = False,
    to: Annotated[str | None, typer.Option(help="Another picture, to go to in -n pictures.")] = None,
    operator: Annotated[
        str | None,
        typer.Option(
            help="What made the picture of the one wanted: downsample:4, blur:2, grey, several as blur:1+grey; the "
            "picture is as that left it, small or grey."
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="The picture is a good one: have --operator degrade it first.")
    ] = False,
    noise: Annotated[
        float | None, typer.Option(help="Of --operator's picture, where pixels run from -1 to 1; rounding if left out.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="How what is known is heeded: repaint (masks), ddrm (operators) or another from the list."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", help="How many results; 8, or one for each class or text, if left out.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="A class, or several with commas; none if left out.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What a model of captioned data is to draw; given again, used in turn.")
    ] = None,
    told: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME=VALUE", help="An attribute; given again, values are used in turn."),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="A text to be led away from, with --guidance.")] = None,
    from_label: Annotated[str | None, typer.Option(help="The class of the picture, for --invert.")] = None,
    from_prompt: Annotated[str | None, typer.Option(help="What is in the picture, for --invert.")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Scale of guidance; 1 is none (0 for guide.kind=classifier and clip, whose gradient it is)."),
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="How to step; as the way of editing asks if left out.")] = None,
    grid: Annotated[str | None, typer.Option(help="When to step; the run's own if left out.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampler steps; as the method asks if left out.")] = None,
    resize: Annotated[
        str, typer.Option(help="crop: fill the run's size; pad: fit inside it; stretch: ignore proportions.")
    ] = "crop",
    weights: Annotated[
        Literal["model", "best"], typer.Option(help="model: the newest; best: those that did best during training.")
    ] = "model",
    seed: Annotated[int, typer.Option(help="Each seed numbers its own series of results.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to; edits/ of the run if left out, or here.")] = None,
) -> None:
    """Open the run and the picture, edit, write."""
    from dataclasses import replace

    from reverie.devices import usable
    from reverie.edits import Wish
    from reverie.edits import edit as edited
    from reverie.outputs import check_output
    from reverie.runs import load

    for option, given, least in (("-n", n, 1), ("--steps", steps, 1), ("--seed", seed, 0), ("--guidance", guidance, 0)):
        if given is not None and not given >= least:
            raise ValueError(f"{option} must be at least {least}; given {given:g}")
    opened = load(run, weights)
    if not opened.recipe.loss.flows:
        teacher = f", {opened.path / 'teacher'}" if opened.has("teacher") else ""
        raise ValueError(
            f"{opened.path} has learned whole steps from noise to data (loss.kind={opened.recipe.loss.kind}), and a "
            f"picture is edited between them: edit with the run that it has learned from{teacher}"
        )
    source = source_of(opened, picture, resize)
    asked = Asked(mask, tuple(box or ()), outpaint, strength, invert, to, operator, measure, noise, method, vary)
    settings_words, method_words = _parted(words or [])
    settings_words = with_below(opened, settings_words)
    if (from_label and not invert) or (from_prompt and not (invert or vary)):
        raise ValueError(
            "--from-label and --from-prompt say what is in the picture, for --invert (or --vary); give that too"
        )
    wish = Wish(labels_of(label), prompt, attributes_of(told) or None, negative)
    begins = Wish(labels_of(from_label), from_prompt)
    way = way_of(opened, source, asked, begins, method_words, seed, wish)
    if vary and from_prompt:  # the text is what the embedding is turned to, and not told besides
        wish = replace(wish, prompt=None)
    settings = _settings(opened, way, settings_words, sampler, grid, steps, guidance)
    count = way.number(wish) if n is None else n
    guiding = guidance is not None or negative is not None or named(settings_words, "guid(e|ance)")
    by_image = opened.recipe.image_condition is not None  # guidance leads to that as well
    if not by_image and (said := idle(opened, settings, wish.request(opened, count, sampling=settings), guiding)):
        note(said)
    left_out = finer({
        "sampler": sampler, "grid": grid, "steps": steps, "guidance": guidance, "settings": words, "negative": negative,
        "resize": None if resize == "crop" else resize, "from": begins.said(),
    })  # fmt: skip
    name = _name([source.stem, way.name, *_said(asked), *_wished(label, prompt, told)])
    path = out or place_of(opened.path, "edits", f"{name}-seed{seed}-n{count}{left_out}{opened.mark}.png")
    _check_out(path, way)
    check_output(path, opened.facts.image)
    opened.to(usable(device))
    about = {
        "run": run.name,
        "weights": weights,
        "reverie": opened.about.get("reverie", ""),
        "picture": picture,
        "resize": resize,
        "edit": {
            "way": way.name,
            **asked.given(),
            **({"settings": method_words} if method_words else {}),
            **({"from": begins.said()} if begins.said() else {}),
        },
        "seed": seed,
        "n": count,
        "sampling": config.to_data(settings),
        **told_below(opened),
    }
    began = time.perf_counter()
    with _progress(opened):
        made = edited(opened, way, wish, count, seed, settings, note)
    _write(path, opened, way, wish, settings, made, about)
    print(f"wrote {path}: {count} result{'s' * (count != 1)}, {way.name}, {time.perf_counter() - began:.1f} s")


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings of sampling, and those of the method."""
    return [w for w in words if not w.startswith(METHOD)], [w for w in words if w.startswith(METHOD)]


def _settings(
    run: Run, way: Way, words: list[str], sampler: str | None, grid: str | None, steps: int | None,
    guidance: float | None,
) -> Sampling:  # fmt: skip
    """The run's settings as the way is best gone, with what the command line says on top; not those tuned for samples.

    Raises:
        ValueError: a sampler besides a method that is one, or one that cannot go the way; or there is none such.
    """
    from dataclasses import replace

    from reverie.edits import Blend, Convert
    from reverie.grids import Grid
    from reverie.runs import Run
    from reverie.samplers import Sampler

    method = getattr(way, "method", None)
    words_of = [word for word in words if re.match(r"(sample\.)?sampler\b", word)]
    given = [f"--sampler {sampler}"] * bool(sampler) + words_of
    if getattr(method, "own", False) and given:
        raise ValueError(
            f"--method {getattr(method, 'kind', '')} is a sampler of its own; leave {given[0]} out, or take another "
            f"method, such as --method pigdm"
        )
    asked: tuple[tuple[type[config.Part], str | None], ...] = ((Sampler, sampler), (Grid, grid))
    for family, kind in asked:
        if kind and not re.search(r"\d", kind):  # with digits it may be sections
            with typed(f"--{family.family} {kind}"):
                config.lookup(family, kind)
    recipe = replace(run.recipe, sample=way.own(run))
    own = Run(run.path, recipe, run.facts, run.about, run.weights)
    found = settings_of(own, words, sampler, grid or recipe.sample.grid.kind, steps, guidance)
    if isinstance(way, Blend | Convert) and not found.sampler.invertible:
        why = "looks back over several steps" if found.sampler.deterministic else "draws noise"
        raise ValueError(
            f"--{'to' if isinstance(way, Blend) else 'invert'} goes back to the noise, and the sampler "
            f"{found.sampler.kind} {why}; take --sampler heun or ddim"
        )
    return found


def _check_out(path: Path, way: Way) -> None:
    """Refuse an animation of what does not move.

    Raises:
        ValueError: it is one.
    """
    if path.suffix.lower() in ANIMATED and way.name != "blend" and not way.moves:
        raise ValueError(f"{path} would be an animation, which is for --to; write .png, a folder, .npz or .npy")


def _said(asked: Asked) -> list[str]:
    """The options in the name of a file."""
    given = asked.given()
    return [
        Path(str(given[key])).stem if key in ("mask", "to") else str(given[key]) for key in given if key != "invert"
    ]


def _wished(label: str | None, prompt: list[str] | None, told: list[str] | None) -> list[str]:
    return [word for word in (label, *(prompt or ()), *(told or ())) if word]


def _name(words: Sequence[str]) -> str:
    return slug(words, 121).removeprefix("-")


@contextmanager
def _progress(run: Run) -> Iterator[None]:
    """How often the network was asked, on a terminal."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} evaluations"), TimeElapsedColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("editing", total=None)
        hook = run.denoiser.register_forward_hook(lambda *_: progress.advance(task))
        try:
            yield
        finally:
            hook.remove()


def _write(path: Path, run: Run, way: Way, wish: Wish, settings: Sampling, made: Tensor, about: dict[str, Any]) -> None:
    """Results to what the path ends in."""
    from reverie import pictures
    from reverie.edits.sheets import edit_sheet
    from reverie.outputs import write_animation, write_samples

    request = wish.request(run, len(made), sampling=settings)
    about = {
        **about,
        "labels": list(request.labels),
        **({"texts": list(request.texts)} if any(request.texts) else {}),
        **({"with": config.to_data(dict(wish.attributes))} if wish.attributes else {}),
        **({"negative": wish.negative} if wish.negative else {}),
    }
    if path.suffix.lower() == ".png":
        texts = request.texts or ("",) * len(made)
        known = (wish.lead(run, settings).guide or run).classes
        classes = ["" if i is None else known[i] for i in request.labels]
        names = [", ".join(filter(None, pair)) for pair in zip(classes, texts, strict=True)]
        pictures.save_png(edit_sheet(way.given(run), made, names), path, about)
    elif path.suffix.lower() in ANIMATED:
        frames = [made[i : i + 1] for i in range(len(made))]
        write_animation(path, [*frames, *frames[-2:0:-1]], [None], run.facts, about)
    else:
        write_samples(path, made, request, run.facts, about)
