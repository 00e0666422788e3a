"""The page of one run: what it was trained on and how, its curves and samples, and what was measured of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie import config
from reverie.report import audited, bits, commands, judged, measured, stages, stopped
from reverie.report.charts import Drawer, spread
from reverie.report.denoising import Denoising, draw
from reverie.report.environment import environment
from reverie.report.found import Found
from reverie.report.history import Damage
from reverie.report.images import Group, Player, opened, stills
from reverie.report.views import (
    Block,
    Commands,
    Facts,
    Folded,
    Missing,
    Moving,
    Page,
    Panels,
    Section,
    Text,
)  # fmt: skip
from reverie.report.words import duration, listed, moment, number, plural, settings, shape
from reverie.synthesis import OutOfMemory
from reverie.training.needs import counted
from reverie.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SHEETS = 24
"""Sample sheets on a page, at the most."""
ROOM_SHEETS, ROOM_DENOISING = 1_300_000, 450_000
"""Bytes of all sheets, and of either half of the denoising."""


def page(found: Found, date: str) -> Page:
    """All that is written of a run.

    Args:
        found: the run and what was made of it.
        date: of the page, in words.
    """
    drawer, damage = Drawer(), [*found.damage]
    sections = (
        Section("model", "The model", _model(found)),
        Section("training", "Training", _training(found, drawer)),
        Section("samples", "Samples during training", _samples(found, damage)),
        Section("denoising", "From noise to samples", _denoising(found, damage)),
        *stages.sections(found, damage),
        judged.section(found, drawer, damage),
        bits.section(found, damage),
        audited.section(found, damage),
        measured.tuning(found),
        Section("reproduce", "Environment and reproduction", _environment(found)),
    )
    return Page(
        found.name,
        purpose(found),
        _headline(found),
        sections,
        tuple((d.where, d.why) for d in damage),
        f"Made by Reverie {__version__}, {date}",
    )


# ------------------------------------------------------------------------------------ in words


def purpose(found: Found) -> str:
    """What the model makes, in a sentence."""
    facts, classes = found.run.facts, found.run.classes
    if facts.image:
        colours = {1: "grey ", 3: "colour ", 4: "transparent "}.get(facts.shape[0], "")
        what = f"{colours}images of {shape(facts.shape[1:])} pixels"
    else:
        what = "points in the plane" if facts.shape == (2,) else f"arrays of shape {shape(facts.shape)}"
    of = f" in {plural(len(classes), 'class', 'classes')}" if classes else ""
    return f"A diffusion model of {what}{of}, trained on {plural(facts.train, 'example')} of {source(found)}."


def source(found: Found) -> str:
    """What the data are called: their kind, and the last part of their path."""
    data = found.run.recipe.data
    path = getattr(data, "path", None)
    return data.kind if path is None else str(path).rstrip("/").rpartition("/")[2] or str(path)


def process(found: Found) -> str:
    """How it learns, in a few sentences."""
    recipe = found.run.recipe
    assert recipe.net is not None
    train, notation = recipe.train, getattr(recipe.loss, "notation", "")
    batch = train.batch * train.accumulate
    passes = found.step * batch / max(found.run.facts.train, 1)
    seconds = found.history.seconds
    took = f", in about {duration(seconds)}" if seconds else ""
    decay = {"none": "then constant", "linear": "then falling linearly to 0", "cosine": "then falling as a cosine to 0"}
    return (
        f"A {recipe.net.kind} network of {counted(found.parameters)} parameters sees data mixed with noise by the "
        f"{recipe.schedule.kind} process and is read as {recipe.parameterization.kind}; the loss is "
        f"{recipe.loss.kind}{f' of {notation}' if notation else ''}. It was trained for "
        f"{plural(found.step, 'step')} of {plural(batch, 'example')}, {number(float(f'{passes:.3g}'))} passes over the "
        f"data{took}, with AdamW at a learning rate of {train.lr:g}, reached after {plural(train.warmup, 'step')}, "
        f"{decay[train.decay]}."
    )


def sampling(found: Found) -> str:
    """How it is sampled, in a sentence."""
    sample = found.run.recipe.sample
    steps = len(sample.grid(found.run.schedule)) - 1
    guidance = f", with guidance of {sample.guidance:g}" if sample.guidance != 1 else ", without guidance"
    where = f"in {plural(steps, 'step')} of the {sample.grid.kind} grid"
    return f"Samples are drawn with {sample.sampler.kind} {where}{guidance}."


def split(found: Found) -> str:
    """The data, in a sentence or two."""
    facts, run = found.run.facts, found.run
    names = f" Classes: {listed(list(run.classes))}." if run.classes else ""
    skipped = f" {plural(facts.skipped, 'damaged file was', 'damaged files were')} left out." if facts.skipped else ""
    held = (
        plural(facts.validation, "example was", "examples were") + " held out" if facts.validation else "none held out"
    )
    return f"{plural(facts.train, 'example')} of {source(found)} were trained on, {held}.{skipped}{names}"


def _headline(found: Found) -> tuple[tuple[str, str, str], ...]:
    """Name, value, and a few words more, of the most important facts."""
    train, told = found.run.recipe.train, found.history.series
    facts = [("parameters", counted(found.parameters), f"{found.run.recipe.net.kind} network")]  # type: ignore[union-attr]
    of = (
        f"of {train.steps:,}" if found.step < train.steps else f"of {plural(train.batch * train.accumulate, 'example')}"
    )
    facts.append(("steps", f"{found.step:,}", of))
    if found.history.seconds:
        facts.append(("time", duration(found.history.seconds), "of training steps"))
    held_out, loss = told("validation_loss"), told("loss")
    if len(held_out):
        facts.append(("held-out loss", number(held_out.values[-1]), f"from {number(held_out.values[0])}"))
    elif len(loss):
        facts.append(("training loss", number(loss.values[-1]), f"at step {loss.steps[-1]:,}"))
    facts += _judged(found)
    if found.audits:
        facts.append(("audit", list(found.audits.values())[-1].verdict.word, ""))
    return tuple(facts)


def _judged(found: Found) -> list[tuple[str, str, str]]:
    """The primary number of the main evaluation."""
    main = measured.ranked(found.evaluations)[:1]
    return [measured.tile(one, number) for _, one in main for number in measured.of_samples(one)[:1]]


# ------------------------------------------------------------------------------------ sections


def _model(found: Found) -> list[Block]:
    plain = config.to_data(found.run.recipe)
    average = found.run.average
    weights = f" The weights are an average over training: {average}." if average else ""
    return [
        Text(split(found)),
        Text(process(found) + weights),
        *([Text(early)] if (early := stopped.told(found)) else []),
        Text(sampling(found)),
        Folded("Every setting", tuple(settings(plain))),
    ]


def _training(found: Found, drawer: Drawer) -> list[Block]:
    panels = drawer.training(found.history)
    if not panels:
        text = "Nothing has been measured yet: training has not come to its first line of metrics.jsonl."
        return [Missing(text, commands.train(found.run))]
    return [Panels(tuple(panels))]


def _samples(found: Found, damage: list[Damage]) -> list[Block]:
    sheets: list[tuple[int, Picture]] = []
    size = None
    for step in spread(list(found.sheets), SHEETS):
        path = found.sheets[step]
        try:
            picture = opened(path)
        except ValueError as error:
            damage.append(Damage(f"samples/{path.name}", str(error)))
            continue
        if size is not None and picture.size != size:
            damage.append(Damage(f"samples/{path.name}", "it has another size than the sheets before it"))
            continue
        size = picture.size
        sheets.append((step, picture))
    if not sheets:
        return [
            Missing(
                "Training has drawn no sheet of samples yet.",
                commands.with_run("sample", found.run, "--out", "samples.png"),
            )
        ]
    labels = tuple(f"step {step:,}" for step, _ in sheets)
    frames = stills([p for _, p in sheets], [f"Samples at {label}" for label in labels], ROOM_SHEETS)
    left_out = f" {len(sheets)} of {len(found.sheets)} sheets are shown." if len(sheets) < len(found.sheets) else ""
    return [
        Text(f"The same seeds every time, averaged weights.{left_out}"),
        Moving(Player("sheets", "Samples by step", labels, (Group("", frames),))),
    ]


def _denoising(found: Found, damage: list[Damage]) -> list[Block]:
    if not found.saved:
        return [Missing("There are no weights yet: the run has not saved.", commands.train(found.run))]
    try:
        drawn = draw(found.run)
    except (ValueError, OutOfMemory) as error:
        damage.append(Damage("denoising", str(error)))
        return [Missing(f"The denoising could not be drawn: {error}", commands.train(found.run))]
    return [Text(_told(found, drawn)), Moving(_player(drawn))]


def _told(found: Found, drawn: Denoising) -> str:
    scaled = " Where x has outgrown the data, it is shown divided by √(α² + σ²)." if drawn.scaled else ""
    return (
        f"The way of {found.run.sampler.kind} in {plural(drawn.steps, 'step')} from the noise of seed 0: x, and beside "
        f"it what the network takes the data behind x to be.{scaled}"
    )


def _player(drawn: Denoising) -> Player:
    groups = []
    for caption, frames in (("x", drawn.x), ("predicted data", drawn.x0)):
        alts = [f"{caption}, {label}" for label in drawn.labels]
        groups.append(Group(caption, stills(frames, alts, ROOM_DENOISING)))
    return Player("denoising", "Denoising by step", drawn.labels, tuple(groups))


def _environment(found: Found) -> list[Block]:
    run = found.run
    devices = sorted({str(e.about["device"]) for e in found.evaluations.values() if e.about.get("device")})
    begun = moment(run.about.get("created", "unknown"))
    rows = [
        ("run begun", f"{begun}, Reverie {run.about.get('reverie', 'unknown')}, torch {run.about.get('torch', '?')}"),
        *environment(_device(found)),
    ]
    if devices:
        rows.append(("evaluated on", ", ".join(devices)))
    rows.append(("data", f"fingerprint {run.facts.fingerprint}"))
    precision = run.recipe.train.precision
    rows.append(("precision of training", "float32" if precision == "no" else precision))
    return [
        Facts(tuple(rows)),
        Text("To train the same run again from the same data, then sample, judge and report it:"),
        Commands(
            (
                commands.train(run),
                commands.with_run("sample", run, "-n", "64", "--out", "samples.png"),
                commands.with_run("evaluate", run),
                commands.with_run("report", run),
            )
        ),
    ]


def _device(found: Found) -> str:
    """Where the network is, if it was needed."""
    if "denoiser" not in vars(found.run):
        return "cpu"
    return next(found.run.denoiser.parameters()).device.type
