"""What a denoiser is told besides x and t: `Cond`, a batch of it, and `Conditions`, what there will be.

Letters in shapes: B batch, C' channels of a conditioning image, L tokens, E width, D numbers of a text as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

APART = ("label", "vector", "text", "image")
"""What can be hidden apart: a class, a vector, a text (its tokens and the text as a whole), an image; in this order."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The sizes of a small transformer by which a network reads a text itself (see `reverie.nets.reading`).

    Raises:
        ValueError: a size below 1, or a width that is no multiple of `heads`.
    """

    words: int
    """Tokens there are: `Cond.words` are in 0..words - 1."""
    length: int = 32
    """L, tokens of a text at the most."""
    width: int = 128
    """E, of the tokens that it makes."""
    depth: int = 2
    """Blocks."""
    heads: int = 4

    def __post_init__(self) -> None:
        for f in fields(self):
            if getattr(self, f.name) < 1:
                raise ValueError(f"{f.name} of a reader must be at least 1; given {getattr(self, f.name)}")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width of a reader must be a multiple of twice its {self.heads} heads; given {self.width}"
            )


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Which fields of a `Cond` a network is built to read, and their sizes; 0 or False: not that one.

    Raises:
        ValueError: a size is negative, there is a level of noise and nothing that it could lie on, or tokens of
            another width than the reader's.
    """

    classes: int = 0
    """`label` is one of 0..classes - 1."""
    vector: int = 0
    """E of `vector`."""
    tokens: int = 0
    """E of `tokens`; a `mask` may come with them."""
    pooled: int = 0
    """D of `pooled`."""
    reader: Reader | None = None
    """What makes tokens of `words`, where the network reads texts itself; `tokens` is then its width."""
    image: int = 0
    """C' of `image`, whose other axes are those of x."""
    keeps_image: bool = False
    """Whether the image is told where all else is hidden, too: without a small picture there is nothing to enlarge."""
    level: bool = False
    """Whether there is a `level`."""
    until: bool = False
    """Whether there is an `until`: the network knows where its step ends."""
    scale: bool = False
    """Whether there is a `scale`: the network does by itself what guidance of that scale did."""

    def __post_init__(self) -> None:
        for name in ("classes", "vector", "tokens", "pooled", "image"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} of conditions must be at least 0, which is none; given {getattr(self, name)}")
        if self.level and not (self.image or self.vector):
            raise ValueError("conditions have a level of noise, and no image or vector that it lies on; give one")
        if self.keeps_image and not self.image:
            raise ValueError("conditions keep an image, and there is none; give image, its channels")
        if self.reader is not None and self.tokens != self.reader.width:
            raise ValueError(f"a reader makes tokens of {self.reader.width}; given tokens={self.tokens}")


@dataclass(frozen=True, kw_only=True)
class Cond:
    """Conditions of a batch. A field left None is not given; all others have B as their first axis.

    A network reads the fields it was built for. `drop` marks the examples whose condition it must
    treat as absent: that is all that classifier-free training and guidance need of a network.
    """

    label: Tensor | None = None
    """(B,) int64, a class."""
    vector: Tensor | None = None
    """(B, E), attributes or an image embedding."""
    tokens: Tensor | None = None
    """(B, L, E)."""
    mask: Tensor | None = None
    """(B, L) bool, True where a token, or a word, is real."""
    pooled: Tensor | None = None
    """(B, D), a text as one vector."""
    words: Tensor | None = None
    """(B, L) int64, numbers of tokens, for a network that makes `tokens` of them itself."""
    image: Tensor | None = None
    """(B, C', ...), a low-resolution or masked input."""
    level: Tensor | None = None
    """(B,), the amount of noise put on `image` or `vector`."""
    estimate: Tensor | None = None
    """(B, ...), what x0 was last thought to be, for networks that condition on it; nothing is told by it."""
    until: Tensor | None = None
    """(B,), the time that the step at hand leads to, as a denoiser is told it; a network is told its label. A network
    that reads it is asked about x itself, a step of no length, where it is not given."""
    scale: Tensor | None = None
    """(B,), of guidance, for a network that has learned to be guided; 1, which is none, where it is not given."""
    drop: Tensor | None = None
    """(B,) bool, True where the condition is to be ignored; or (B, 4), for each of `APART` by itself."""

    def map(self, f: Callable[[Tensor], Tensor]) -> Cond:
        """`f` applied to every field that is given."""
        values = {name: getattr(self, name) for name in _NAMES}
        return Cond(**{name: None if v is None else f(v) for name, v in values.items()})

    def to(self, device: torch.device | str) -> Cond:
        """The same on another device."""
        return self.map(lambda v: v.to(device))

    def __getitem__(self, index: slice | Tensor) -> Cond:
        """The conditions of some of the examples."""
        return self.map(lambda v: v[index])

    def given(self) -> bool:
        """Whether anything is told."""
        return any(getattr(self, name) is not None for name in _NAMES if name not in _HOW)

    def parts(self) -> tuple[str, ...]:
        """Which of `APART` are told, in that order."""
        texts = (self.tokens, self.pooled, self.words)
        own = ((self.label,), (self.vector,), texts, (self.image,))
        return tuple(name for name, given in zip(APART, own, strict=True) if any(v is not None for v in given))

    def hidden(self, part: str) -> Tensor | None:
        """(B,) bool, where one of `APART` is to be ignored; None: nowhere."""
        if self.drop is None or self.drop.ndim == 1:
            return self.drop
        return self.drop[:, APART.index(part)]

    def null(self, batch: int) -> Cond:
        """The same with every example's condition dropped."""
        return replace(self, drop=torch.ones(batch, dtype=torch.bool, device=self._device()))

    def without(self, batch: int, *parts: str) -> Cond:
        """The same with some of `APART` dropped in every example, besides what is dropped already.

        Raises:
            ValueError: a word that is none of `APART`.
        """
        if unknown := [part for part in parts if part not in APART]:
            raise ValueError(f"what can be dropped apart is {', '.join(APART)}; given {unknown[0]!r}")
        off = torch.tensor([name in parts for name in APART], device=self._device())
        drop = torch.zeros_like(off) if self.drop is None else _apart(self.drop)
        return replace(self, drop=(drop | off).expand(batch, -1))

    def _device(self) -> torch.device | None:
        return next((getattr(self, n).device for n in _NAMES if getattr(self, n) is not None), None)

    @staticmethod
    def cat(a: Cond, b: Cond, batch: int) -> Cond:
        """The conditions of a batch of 2B: `a` for the first B examples, `b` for the others.

        Texts of different lengths are filled up with tokens that the mask hides.

        Raises:
            ValueError: a field other than `drop` is given in one of them alone.
        """
        a, b = _as_long(a, b), _as_long(b, a)

        def join(name: str) -> Tensor | None:
            u, v = getattr(a, name), getattr(b, name)
            if name == "drop" and (u is None) != (v is None):
                off = torch.zeros(batch, dtype=torch.bool, device=(v if u is None else u).device)
                u, v = (off if u is None else u), (off if v is None else v)
            if u is None or v is None:
                if u is not v:
                    raise ValueError(f"{name} is given in one of two conditions alone; give both one, and use drop")
                return None
            if name == "drop" and u.ndim != v.ndim:
                u, v = _apart(u), _apart(v)
            return torch.cat([u, v])

        return Cond(**{name: join(name) for name in _NAMES})


_NAMES = tuple(f.name for f in fields(Cond))
_HOW = ("drop", "estimate", "until", "scale")
"""By which nothing is told of the example itself."""


def _apart(drop: Tensor) -> Tensor:
    """`drop` (B,) or (B, 4) as (B, 4)."""
    return drop if drop.ndim == 2 else drop[:, None].expand(-1, len(APART))


def _as_long(cond: Cond, other: Cond) -> Cond:
    """`cond` with its text filled up to the length of another one's, and with a mask if that has one."""
    text, more = (c.words if c.tokens is None else c.tokens for c in (cond, other))
    if text is None or more is None:
        return cond
    missing = more.shape[1] - text.shape[1]
    if missing == 0 and (cond.mask is not None or other.mask is None):
        return cond
    mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device) if cond.mask is None else cond.mask
    if missing <= 0:
        return replace(cond, mask=mask)
    return replace(
        cond,
        mask=F.pad(mask, (0, missing)),
        words=None if cond.words is None else F.pad(cond.words, (0, missing)),
        tokens=None if cond.tokens is None else F.pad(cond.tokens, (0, 0, 0, missing)),
    )
