"""What a denoiser is told besides x and t: `Cond`, a batch of it, and `Conditions`, what there will be.

Letters in shapes: B batch, C' channels of a conditioning image, L tokens, E width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Which fields of a `Cond` a network is built to read, and their sizes; 0 or False: not that one.

    Raises:
        ValueError: a size is negative, or there is a level of noise and nothing that it could lie on.
    """

    classes: int = 0
    """`label` is one of 0..classes - 1."""
    vector: int = 0
    """E of `vector`."""
    tokens: int = 0
    """E of `tokens`; a `mask` may come with them."""
    image: int = 0
    """C' of `image`, whose other axes are those of x."""
    level: bool = False
    """Whether there is a `level`."""

    def __post_init__(self) -> None:
        for name in ("classes", "vector", "tokens", "image"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} of conditions must be at least 0, which is none; given {getattr(self, name)}")
        if self.level and not (self.image or self.vector):
            raise ValueError("conditions have a level of noise, and no image or vector that it lies on; give one")


@dataclass(frozen=True, kw_only=True)
class Cond:
    """Conditions of a batch. A field left None is not given; all others have B as their first axis.

    A network reads the fields it was built for. `drop` marks the examples whose condition it must
    treat as absent: that is all that classifier-free training and guidance need of a network.
    """

    label: Tensor | None = None
    """(B,) int64, a class."""
    vector: Tensor | None = None
    """(B, E), pooled text, an image embedding or attributes."""
    tokens: Tensor | None = None
    """(B, L, E)."""
    mask: Tensor | None = None
    """(B, L) bool, True where a token is real."""
    image: Tensor | None = None
    """(B, C', ...), a low-resolution or masked input."""
    level: Tensor | None = None
    """(B,), the amount of noise put on `image` or `vector`."""
    estimate: Tensor | None = None
    """(B, ...), what x0 was last thought to be, for networks that condition on it; nothing is told by it."""
    drop: Tensor | None = None
    """(B,) bool, True where the condition is to be ignored."""

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
        return any(getattr(self, name) is not None for name in _NAMES if name not in ("drop", "estimate"))

    def null(self, batch: int) -> Cond:
        """The same with every example's condition dropped."""
        device = next((getattr(self, n).device for n in _NAMES if getattr(self, n) is not None), None)
        return replace(self, drop=torch.ones(batch, dtype=torch.bool, device=device))

    @staticmethod
    def cat(a: Cond, b: Cond, batch: int) -> Cond:
        """The conditions of a batch of 2B: `a` for the first B examples, `b` for the others.

        Raises:
            ValueError: a field other than `drop` is given in one of them alone.
        """

        def join(name: str) -> Tensor | None:
            u, v = getattr(a, name), getattr(b, name)
            if name == "drop" and (u is None) != (v is None):
                off = torch.zeros(batch, dtype=torch.bool, device=(v if u is None else u).device)
                u, v = (off if u is None else u), (off if v is None else v)
            if u is None or v is None:
                if u is not v:
                    raise ValueError(f"{name} is given in one of two conditions alone; give both one, and use drop")
                return None
            return torch.cat([u, v])

        return Cond(**{name: join(name) for name in _NAMES})


_NAMES = tuple(f.name for f in fields(Cond))
