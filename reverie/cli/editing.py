"""What is to be done to a picture, as the command line says it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from reverie import config

if TYPE_CHECKING:
    from torch import Tensor

    from reverie.data.decoding import Resize
    from reverie.editing import Method, Operator
    from reverie.editing.operators import Kronecker
    from reverie.edits import Way, Wish
    from reverie.edits.pictures import Source
    from reverie.runs import Run

METHOD = "method."
"""Begins settings of the method."""
TINGE = 16
"""By how much the channels of a grey picture may differ, of 255, for lossy files leave them a little apart."""


@contextmanager
def typed(option: str) -> Iterator[None]:
    """Errors inside begin with the option as it was given.

    Raises:
        ValueError: whatever was raised, with the option in front.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


@dataclass(frozen=True)
class Asked:
    """The options that say what is to be done; None, False or empty for those left out."""

    mask: Path | None = None
    box: tuple[str, ...] = ()
    outpaint: str | None = None
    strength: float | None = None
    invert: bool = False
    to: str | None = None
    operator: str | None = None
    measure: bool = False
    noise: float | None = None
    method: str | None = None
    vary: bool = False

    def given(self) -> dict[str, config.Plain]:
        """Those that are not left out, by name."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: str(v) if isinstance(v, Path) else config.to_data(v) for k, v in found.items()}
        return {k: v for k, v in plain.items() if v not in (None, False, [])}

    @property
    def masked(self) -> bool:
        """Whether there is a mask, of whatever kind."""
        return self.mask is not None or bool(self.box)

    def check(self) -> None:
        """Refuse options that have nothing to do with each other, and numbers out of range.

        Raises:
            ValueError: two ways at once, an option of another way, or a number that is none of its own.
        """
        ways = {
            "--mask or --box": self.masked,
            "--outpaint": self.outpaint is not None,
            "--operator": self.operator is not None,
            "--to": self.to is not None and not self.vary,
            "--vary": self.vary,
            "--invert": self.invert,
            "--strength": self.strength is not None and not self.invert and not self.vary,
        }
        chosen = [name for name, asked in ways.items() if asked]
        if len(chosen) > 1:
            raise ValueError(f"{chosen[0]} and {chosen[1]} are two ways to edit a picture; take one of them")
        if self.method is not None and not (self.masked or self.outpaint or self.operator):
            raise ValueError("--method is how a mask or a measurement is heeded; give --mask, --box or --operator too")
        if (self.measure or self.noise is not None) and self.operator is None:
            option = "--measure" if self.measure else "--noise"
            raise ValueError(f"{option} belongs to --operator, which says how the picture was degraded; give one")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(
                f"--strength is the share of the steps that are taken, above 0 and up to 1; given {self.strength:g}"
            )
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise ValueError(
                f"--noise is a standard deviation of at least 0, where pixels run from -1 to 1; given {self.noise:g}"
            )


def way_of(
    run: Run, source: Source, asked: Asked, begins: Wish, words: Sequence[str], seed: int, wish: Wish | None = None
) -> Way:
    """What is done to the picture.

    Args:
        run: what is edited with.
        source: the picture.
        asked: the options.
        begins: what is in the picture, for --invert and --vary.
        words: settings of the method, as method.zeta=0.5.
        seed: for the noise of --measure.
        wish: what the results should be, whose text --vary turns to.

    Raises:
        ValueError: options that do not fit each other or the run, or pictures that cannot be read.
    """
    from reverie.editing import Margins
    from reverie.edits import Blend, Convert, Inpaint, Outpaint, Redraw, Told, Vary, tells

    asked.check()
    if words and not (asked.masked or asked.outpaint or asked.operator):
        raise ValueError(f"{words[0]!r} is a setting of a method; give --mask, --box, --outpaint or --operator too")
    by_mask = tells(run, masked=True) and asked.method is None and not words
    if asked.operator is not None:
        return _restored(run, source, asked, words, seed)
    if asked.masked:
        known = _known(source, asked)
        if by_mask:
            return Told(source.pixels(), known)
        return Inpaint(source.pixels(), known, _method(asked.method or "repaint", words))
    if asked.outpaint is not None:
        method = None if by_mask else _method(asked.method or "repaint", words)
        sides, picture = _numbers("--outpaint", asked.outpaint, "top,right,bottom,left"), source.pixels()
        with typed(f"--outpaint {asked.outpaint}"):
            way = Outpaint(picture, Margins(*sides), method)
            way.check(run)
        return way
    wish = wish or begins
    if asked.vary:
        other, texts = None if asked.to is None else _another(source, asked.to).pixels(), None
        if isinstance(begins.prompt, str):
            texts = (begins.prompt, wish.prompt if isinstance(wish.prompt, str) else "".join((wish.prompt or ())[:1]))
        return Vary(source.pixels(), other, texts, asked.strength)
    if asked.to is not None:
        return Blend(source.pixels(), _another(source, asked.to).pixels())
    if asked.invert:
        return Convert(source.pixels(), begins, 1.0 if asked.strength is None else asked.strength)
    if asked.strength is None and tells(run, masked=False):
        return _told(run, source)
    if asked.strength is None and by_mask:
        raise ValueError(
            f"{run.path} is told a picture and what of it is known: give --mask, --box or --outpaint, or another way, "
            f"such as --strength 0.6"
        )
    return Redraw(source.pixels(), 0.6 if asked.strength is None else asked.strength)


def source_of(run: Run, name: str, resize: str) -> Source:
    """The picture, by name.

    Raises:
        ValueError: there is none, or it is no word for how it is resized.
    """
    from reverie.edits.pictures import Source

    ways: dict[str, Resize] = {"crop": "crop", "pad": "pad", "stretch": "stretch"}
    if resize not in ways:
        raise ValueError(f"--resize is {', '.join(ways)}; given {resize!r}")
    return Source(run, name, ways[resize])


def _another(source: Source, name: str) -> Source:
    from reverie.edits.pictures import Source

    return Source(source.run, name, source.resize)


def _known(source: Source, asked: Asked) -> Tensor:
    """(1, 1, H, W) bool, by the mask and the boxes."""
    import torch

    from reverie.edits.pictures import known_of_boxes, known_of_mask

    _, h, w = source.run.facts.shape
    known = torch.ones(1, 1, h, w, dtype=torch.bool)
    if asked.mask is not None:
        known = known & known_of_mask(asked.mask, source)
    boxes = [_numbers("--box", text, "left,top,width,height") for text in asked.box]
    with typed("--box"):
        return known & known_of_boxes(boxes, source)


def _numbers(option: str, text: str, wanted: str) -> tuple[int, int, int, int]:
    """Four whole numbers with commas."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.removeprefix("-").isdecimal() for part in parts):
        raise ValueError(f"{option} is {wanted} in pixels, such as {option} 0,4,0,4; given {text!r}")
    a, b, c, d = map(int, parts)
    return a, b, c, d


def _told(run: Run, source: Source) -> Way:
    """The picture as the model is told it: as it is, where it is as small as those that the model enlarges."""
    from reverie.edits import Told
    from reverie.edits.telling import small_size

    small = small_size(run)
    is_small = small is not None and not source.example and source.size == small
    return Told(source.pixels((run.facts.shape[0], *small) if is_small and small else None))


def _restored(run: Run, source: Source, asked: Asked, words: Sequence[str], seed: int) -> Way:
    """The picture as a measurement, or with --measure a measurement of it.

    Raises:
        ValueError: an operator that the run's pictures do not fit, or a picture that it cannot have left.
    """
    import torch

    from reverie.edits import Restore, measured
    from reverie.edits.restoring import ROUNDING

    option = f"--operator {asked.operator}"
    operator = operator_of(asked.operator or "")
    with typed(option):
        _, c, h, w = operator.forward(torch.zeros(1, *run.facts.shape)).shape
    method = _method(asked.method or "ddrm", words)
    noise = ROUNDING if asked.noise is None else asked.noise
    if asked.measure:
        picture = source.pixels()
        return Restore(measured(run, picture, operator, asked.noise or 0.0, seed), operator, noise, method, picture)
    _check_left(source, option, (c, h, w))
    return Restore(source.pixels((c, h, w)), operator, noise, method)


def _check_left(source: Source, option: str, shape: tuple[int, int, int]) -> None:
    """Refuse a picture that an operator cannot have left; one that it leaves as large cannot be told from others.

    Raises:
        ValueError: an example of the run, which is whole; another size, or colours where none are left.
    """
    (c, h, w), (whole, high, wide) = shape, source.run.facts.shape
    own, why = source.size, ""
    if source.example:
        why = f"{source.name} is a whole picture"
    elif (h, w) != (high, wide) and own != (h, w):
        why = (
            f"{source.name} has {own[1]}x{own[0]} pixels, and the operator leaves {w}x{h} of the {wide}x{high} that "
            f"{source.run.path} makes"
        )
    elif c < whole:
        seen = source.pixels((whole, h, w)).int()
        tinge = int((seen.amax(1) - seen.amin(1)).max())
        why = f"{source.name} has colours, and the operator leaves none" if tinge > TINGE else ""
    if why:
        raise ValueError(
            f"{option}: {why}; give a picture that it left, or --measure to have {source.name} degraded first and that "
            f"restored"
        )


def operator_of(text: str) -> Operator:
    """`downsample:4`, `blur:2`, `grey`, or several, the first one first: `blur:1+downsample:4`.

    Raises:
        ValueError: there is no such operator, or its number is out of range.
    """
    from reverie.editing import Chain

    with typed(f"--operator {text}"):
        parts = [_operator(word.strip()) for word in text.split("+")]
    return parts[0] if len(parts) == 1 else Chain(tuple(parts))


def _operator(word: str) -> Kronecker:
    from reverie.editing import Operator
    from reverie.editing.operators import Kronecker

    kind, colon, value = word.partition(":")
    cls, data = config.lookup(Operator, kind), {"kind": kind}
    if colon:
        names = list(config.hints(cls))
        if not names:
            raise ValueError(f"{kind} has no number; given {word!r}")
        data |= config.parse_override(f"{names[0]}={value}")
    made = config.from_data(cls, data)
    assert isinstance(made, Kronecker)
    return made


def _method(kind: str, words: Sequence[str]) -> Method:
    """By name, with its settings.

    Raises:
        ValueError: there is no such method, or it has no such setting.
    """
    from reverie.editing import Method

    with typed(f"--method {kind}"):
        config.lookup(Method, kind)
    data: dict[str, config.Plain] = {"method": {"kind": kind}}
    for word in words:
        data = config.merged(data, config.parse_override(word))
    made = config.from_data(Method, data["method"], "method")
    assert isinstance(made, Method)
    return made
