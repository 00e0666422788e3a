"""How samples are to be drawn, as the command line says it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reverie import config
from reverie.cli.notes import note

if TYPE_CHECKING:
    from reverie.recipe import Sampling
    from reverie.request import Request
    from reverie.runs import Run

TUNED = "tuned"
"""The --grid that stands for the one fitted to the run."""


def settings_of(
    run: Run, words: list[str], sampler: str | None, grid: str | None, steps: int | None, guidance: float | None
) -> Sampling:
    """The run's own sampling settings with what the command line says on top.

    Args:
        run: whose settings they are.
        words: key=value.
        sampler: a kind of sampler.
        grid: a kind of grid, sections, or `TUNED`.
        steps: of the sampler.
        guidance: scale of guidance; 1 is none, and 0 where a gradient guides.

    Raises:
        ValueError: a word that is no setting, or settings that do not fit.
    """
    from reverie.recipe import Sampling

    data = config.to_data(run.recipe.sample)
    for key, kind in (("sampler", sampler), ("grid", grid)):
        if key == "grid" and re.fullmatch(r"ddim\d+|\d+(,\d+)*", kind or ""):
            data = config.merged(data, {key: {"kind": "sections", "sections": kind}})
        elif kind not in (None, TUNED):
            data = config.merged(data, {key: {"kind": kind}})
    for word in words:
        if "=" not in word:
            raise ValueError(f"{word!r} is not a setting; write key=value, such as sampler.eta=0.5, or see --help")
        data = config.merged(data, config.parse_override(word.removeprefix("sample.")))
    settings = config.from_data(Sampling, data, "")
    assert isinstance(settings, Sampling)
    settings.check(run.space)
    _check_small(run, settings, words)
    settings = replace(
        settings,
        grid=settings.grid if steps is None else settings.grid.with_steps(steps),
        guidance=settings.guidance if guidance is None else guidance,
    ).completed(run.space, run.shape)
    run.recipe.check_sampling(settings)
    if said := _on_scale(settings, words, guidance is not None or named(words, "guidance")):
        note(said)
    by_word = any(re.match(r"(sample\.)?grid\b(?!\.steps\b)", word) for word in words)
    return settings if by_word or grid not in (None, TUNED) else _tuned(run, settings, needed=grid == TUNED)


def _check_small(run: Run, settings: Sampling, words: Sequence[str]) -> None:
    """Refuse what is said of small pictures where there are none, or a level that was not in training.

    A recipe may say it of a run that is without a base as yet.
    """
    if settings.augmentation and named(words, "(augmentation|truncated)") and not enlarges(run):
        raise ValueError(
            f"augmentation and truncated are of small pictures that the stage base of a cascade draws, and {run.path} "
            f"has no such stage; leave them out"
        )


def enlarges(run: Run) -> bool:
    """Whether a stage of the run draws small pictures for it."""
    return run.has("base")


def named(words: Sequence[str], key: str) -> bool:
    """Whether one of the words is about a setting, or one inside it."""
    return any(re.match(rf"(sample\.)?{key}\b", word) for word in words)


def _on_scale(settings: Sampling, words: Sequence[str], given: bool) -> str:
    """What there is to say of the scale of a guide that the words name, `given` or the run's own."""
    guide = settings.guide
    if guide is None or not named(words, "guide"):
        return ""
    scale = f"{settings.guidance:g}{'' if given else ', the scale of the run'}"
    if settings.guidance == guide.neutral:
        return f"guide.kind={guide.kind} does nothing at guidance {scale}; give --guidance 2, say"
    if given or not guide.needs:
        return ""
    told = "" if guide.neutral else f"; `reverie info {guide.needs}` tells one to begin with"
    return f"guidance is {scale}, which was not chosen for guide.kind={guide.kind}: give --guidance{told}"


def idle(run: Run, settings: Sampling, request: Request, asked: bool) -> str:
    """Why guidance, or a negative text, leads no sample anywhere, in a sentence; else empty.

    Args:
        run: whose samples they are.
        settings: how they are drawn.
        request: what they are asked to be.
        asked: whether guidance was asked for; otherwise nothing is said.
    """
    from reverie.cascade import sampled
    from reverie.guidance import AutoGuide, ClassifierGuide, ClipGuide
    from reverie.runs import located

    guide, nothing = settings.guide, f"guidance {settings.guidance:g} does nothing"
    none, away = 1.0 if guide is None else guide.neutral, request.negative is not None
    if settings.guidance == none:
        if away and any(leads_away(*stage) for stage in sampled(run, run.sampling_below).values()):
            return ""
        return f"a negative text does nothing at guidance {none:g}; give --guidance 3, say" if away else ""
    if not asked:
        return ""
    if isinstance(guide, AutoGuide):
        same = located(guide.run).resolve() == run.path.resolve() and guide.weights == run.weights
        return f"{nothing}: guide.run is the run itself, with the same weights; give {guide.needed}" if same else ""
    by_class, by_text = isinstance(guide, ClassifierGuide), isinstance(guide, ClipGuide)
    labelled = any(label is not None for label in request.labels)
    if labelled or by_text or (request.cond is not None and not by_class):  # without a text a pair is refused
        return ""
    if by_class:
        return f"{nothing}: guide.kind=classifier leads to a class, and no sample is asked for one; give --label"
    if away:
        return f"{nothing}: a negative text leads away from no sample that is asked for nothing; give --prompt as well"
    known = ", ".join(part for part in run.vocabulary.parts if part != "image")
    if known:
        return f"{nothing}: no sample is asked for anything; {run.path} can be asked for: {known}"
    return f"{nothing}: {run.path} can be asked for nothing; guide.kind=auto or classifier leads it, with guide.run"


def leads_away(stage: Run, sampling: Sampling) -> bool:
    """Whether a stage that samples so is led away from a negative text."""
    none = 1.0 if sampling.guide is None else sampling.guide.neutral
    return stage.vocabulary.text is not None and sampling.guidance != none


def _tuned(run: Run, settings: Sampling, needed: bool) -> Sampling:
    """With the grid that was tuned for these settings, if there is one; what a user should know is printed.

    Raises:
        ValueError: there is none, and it was asked for by name.
    """
    from reverie.tuning import choose

    found = choose(run, settings)
    if needed and not found.tuned:
        raise ValueError(found.why or f"no grid is tuned for {settings.sampler.kind}; see `reverie tune --help`")
    if found.note:
        note(found.note)
    return found.sampling


def labels_of(text: str | None) -> list[int | str | None] | None:
    """The classes of --label, None for all in turn."""
    if text is None:
        return None
    return [None if word.strip() == "none" else word.strip() for word in text.split(",")]


def prompts_of(given: list[str] | None, file: Path | None) -> list[str] | None:
    """The texts of --prompt, and behind them the lines of --prompts that are not blank; None for neither option.

    Raises:
        ValueError: the file cannot be read, is no UTF-8, or has nothing but blank lines.
    """
    if file is None:
        return list(given) if given else None
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--prompts {file} cannot be read ({error}); it is a text file of one prompt a line") from None
    if not any(lines):
        raise ValueError(f"--prompts {file} holds no prompt; it is a text file of one prompt a line")
    return [*(given or ()), *(line for line in lines if line)]


def slug(words: Sequence[str], most: int = 60) -> str:
    """Words as a part of the name of a file, of at most so many bytes; a hash ends what would be longer.

    >>> slug(["red heart", "style=noto"])
    '-red_heart-style_noto'
    """
    whole = "".join("-" + re.sub(r"[^\w,]+", "_", word) for word in words)
    raw = whole.encode("utf-8", "replace")
    if len(raw) <= most:
        return raw.decode()
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()[:8]
    return f"{raw[: most - 9].decode('utf-8', 'ignore')}-{digest}"


def attributes_of(words: list[str] | None) -> dict[str, object]:
    """The attributes of --with: name to the values given, which are used in turn.

    Raises:
        ValueError: a word that is not NAME=VALUE.
    """
    found: dict[str, object] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not name.strip():
            raise ValueError(f"--with {word!r} names no attribute; write --with NAME=VALUE, such as --with style=noto")
        if not equals:
            raise ValueError(f"--with {word} gives no value; write --with {word}=VALUE, see `reverie info` for them")
        several = found.setdefault(name.strip(), [])
        assert isinstance(several, list)
        several.append(value.strip())
    return found
