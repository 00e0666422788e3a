"""Numbers and classes as vectors.

Letters in shapes: B batch, E width of an embedding, `...` any axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import APART, Cond, Conditions
from reverie.nets.reading import Reading


def sinusoidal(label: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Sines and cosines of a number at geometrically spaced frequencies.

        out_i = sin(label * w_i),  out_{width/2 + i} = cos(label * w_i),  w_i = max_period^(-2 i / width)

    (Vaswani et al., 2017, section 3.5, with sines and cosines in two halves as in Ho et al., 2020.)

    Args:
        label: (...), any numbers; float64 stays so, everything else is computed in float32.
        width: even, the length of the new last axis.
        max_period: the longest period is this times 2 pi, approached but not reached.

    Returns:
        (..., width).

    Raises:
        ValueError: `width` is odd or below 2.
    """
    if width < 2 or width % 2:
        raise ValueError(f"sines and cosines come in pairs: width must be even and at least 2, given {width}")
    half = width // 2
    dtype = torch.float64 if label.dtype == torch.float64 else torch.float32
    index = torch.arange(half, device=label.device, dtype=dtype)
    angle = label.to(dtype)[..., None] * torch.exp(index * (-math.log(max_period) / half))
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class Fourier(nn.Module):
    """Sines and cosines of a number at random frequencies, drawn once and kept, (B,) -> (B, features).

        out_i = sin(2 pi f_i label),  out_{features/2 + i} = cos(2 pi f_i label),  f_i ~ N(0, scale^2)

    (Tancik et al., 2020; Song et al., 2021, appendix H.2, with scale 16 and the label log sigma.) A network
    has them in place of geometric ones when its `conditioning.fourier` is set to one.
    """

    frequencies: Tensor

    def __init__(self, features: int, scale: float) -> None:
        """`features` is even."""
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(features // 2))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Frequencies go where the network goes, but never into half precision: the phase of f label would be lost."""
        exact = self.frequencies
        super()._apply(fn, recurse)
        if self.frequencies.dtype.itemsize < exact.dtype.itemsize:
            self.frequencies = exact.to(self.frequencies.device, torch.float32)
        return self

    def forward(self, label: Tensor) -> Tensor:
        """`label` is (B,); float64 stays so, everything else is computed in float32."""
        dtype = torch.float64 if label.dtype == torch.float64 else torch.float32
        angle = label.to(dtype)[:, None] * self.frequencies.to(dtype) * (2 * math.pi)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


def check_labels(label: Tensor, classes: int) -> None:
    """Refuse labels that a network of so many classes does not know.

    It reads the values, which stalls any device but the CPU.

    Args:
        label: (B,), integers in 0..classes - 1.
        classes: as the network was built; 0 for none.

    Raises:
        ValueError: a label is out of range or no integer, or the network knows no labels at all.
    """
    if classes == 0:
        raise ValueError("this network was built without labels; give none, or build it with classes")
    check_integers(label, classes)
    outside = sorted({int(v) for v in label.flatten().tolist() if not 0 <= v < classes})
    if outside:
        shown = ", ".join(map(str, outside[:5])) + (", ..." if len(outside) > 5 else "")
        raise ValueError(f"labels must be in 0..{classes - 1} for {classes} classes, given {shown}")


def check_integers(label: Tensor, classes: int) -> None:
    """Refuse labels that are no integers, without reading them.

    Raises:
        ValueError: they are of another dtype.
    """
    if label.dtype.is_floating_point or label.dtype.is_complex or label.dtype == torch.bool:
        raise ValueError(f"labels must be integers in 0..{classes - 1}, given {label.dtype}")


def readable(*given: Tensor | None) -> bool:
    """Whether the values of all may be read at no cost: ordinary tensors on the CPU, not traced or transformed."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return all(t is None or (type(t) is Tensor and t.device.type == "cpu") for t in given)


@dataclass(frozen=True)
class Embedded:
    """What a backbone is told, as it reads it."""

    e: Tensor
    """(B, E), time and all conditions together, after a SiLU."""
    tokens: Tensor | None = None
    """(B, 1 + L, E): one learned token for "nothing", then those given."""
    mask: Tensor | None = None
    """(B, 1 + L) bool, True where a token may be looked at, the first one always; None: all."""


class Conditioning(nn.Module):
    """Time and conditions as the vector that modulates every block of a backbone, and as tokens.

        e = SiLU(Linear(SiLU(Linear(sinusoidal(label)))) + class + vector + level + pooled tokens + image),  (B, E)

    - class: a row of a table;
    - vector: Linear(vector);
    - level: Linear(SiLU(Linear(sinusoidal(1000 level))));
    - tokens: Linear(token), of width E each, pooled by one attention head with a learned query; words become
      tokens by a transformer of the network's own, where no tokens are given;
    - pooled: Linear(pooled), of a text as a whole;
    - image: nothing, for it is stacked onto x;
    - until, scale: Linear(SiLU(Linear(waves))), waves those of the time label, or sinusoidal(100 scale); the last
      Linear begins at 0, so that a network which is told more than another begins as that one. Where they are not
      given, the label itself stands for until, and 1 for scale.

    Each of the others has a learned value for "none", a last row of the table or a vector of its own, used where `cond`
    or the field is None and where `cond.drop` is True; the image has one too. So a dropped example and
    one that was given nothing are the same to the network, whatever the dropped fields hold, NaN included. A
    network that can attend to tokens reads them beside e, behind a learned token that is always there: it
    is what is seen of examples without any. What the network was not built for is not read.

    Args:
        width: E, even.
        conditions: what there is.
        features: sines and cosines of the time label.
        period: their longest period, in units of 2 pi.
    """

    def __init__(
        self, width: int, conditions: Conditions | None = None, features: int | None = None, period: float = 10_000.0
    ) -> None:
        super().__init__()
        self.width, self.features, self.period = width, features or width, period
        self.conditions = conditions or Conditions()
        told = self.conditions
        self.fourier: Fourier | None = None
        self.time_in = nn.Linear(self.features, width)
        self.time_out = nn.Linear(width, width)
        self.table = nn.Embedding(told.classes + 1, width) if told.classes else None
        self.vector = OrNothing(nn.Linear(told.vector, width), width) if told.vector else None
        self.image_missing = nn.Parameter(0.02 * torch.randn(width)) if told.image else None
        self.level = OrNothing(LevelEmbedding(width), width) if told.level else None
        self.until = Added(self.features, width) if told.until else None
        self.scale = Added(width, width) if told.scale else None
        self.tokens = Tokens(told.tokens, width) if told.tokens else None
        self.pooled = OrNothing(nn.Linear(told.pooled, width), width) if told.pooled else None
        self.reader = Reading(told.reader) if told.reader else None

    def forward(self, label: Tensor, cond: Cond | None) -> Embedded:
        """`label` is (B,), the time label; what comes out is in the dtype of the weights.

        Raises:
            ValueError: a field that is read has other sizes than the network was built for; or a label on the CPU
                is no class of it (elsewhere, looking would stall the device).
        """
        cond = cond or Cond()
        self._check(cond, len(label))
        if self.reader is not None and cond.tokens is None and cond.words is not None:
            cond = replace(cond, tokens=self.reader(cond.words, cond.mask))
        e = self.time_out(F.silu(self.time_in(self._waves(label))))
        if self.until is not None:
            e = e + self.until(self._waves(label if cond.until is None else cond.until.to(label)))
        if self.scale is not None:
            scale = torch.ones_like(label) if cond.scale is None else cond.scale.to(label)
            e = e + self.scale(sinusoidal(100 * scale, self.width).to(self.time_in.weight.dtype))
        if self.table is not None:
            e = e + self.table(self._rows(label, cond))
        if self.vector is not None:
            e = e + self.vector(cond.vector, cond.hidden("vector"), len(label))
        if self.level is not None:
            lies_on = "image" if self.conditions.image else "vector"
            hidden = None if self.conditions.keeps_image else cond.hidden(lies_on)
            e = e + self.level(cond.level, hidden, len(label))
        if self.pooled is not None:
            e = e + self.pooled(cond.pooled, cond.hidden("text"), len(label))
        if self.image_missing is not None:
            e = e + self._without_image(label, cond)[:, None] * self.image_missing
        if self.tokens is None:
            return Embedded(F.silu(e))
        tokens, mask = self.tokens(cond, len(label))
        return Embedded(F.silu(e + self.tokens.pooled(tokens, mask)), tokens, mask)

    def _waves(self, label: Tensor) -> Tensor:
        """(B, features), for labels (B,)."""
        waves = sinusoidal(label, self.features, self.period) if self.fourier is None else self.fourier(label)
        return waves.to(self.time_in.weight.dtype)

    def _check(self, cond: Cond, batch: int) -> None:
        """Refuse sizes that would fail deep inside, or be spread over the batch."""
        told = self.conditions
        wanted: dict[str, tuple[int, ...]] = {"drop": (batch,)}
        if cond.drop is not None and cond.drop.ndim == 2:
            wanted = {"drop": (batch, len(APART))}
        wanted |= {"label": (batch,)} if told.classes else {}
        wanted |= {"vector": (batch, told.vector)} if told.vector else {}
        wanted |= {name: (batch,) for name in ("level", "until", "scale") if getattr(told, name)}
        wanted |= {"pooled": (batch, told.pooled)} if told.pooled else {}
        if told.tokens and cond.tokens is not None:
            if cond.tokens.ndim != 3:
                wants = f"({batch}, L, {told.tokens})"
                raise ValueError(f"tokens of a condition must be of {wants} here; given {tuple(cond.tokens.shape)}")
            length = cond.tokens.shape[1]
            wanted |= {"tokens": (batch, length, told.tokens), "mask": (batch, length)}
        if told.classes and cond.label is not None:
            check_integers(cond.label, told.classes)
        for name, sizes in wanted.items():
            given = getattr(cond, name)
            if given is not None and tuple(given.shape) != sizes:
                raise ValueError(f"{name} of a condition must be of {sizes} here; given {tuple(given.shape)}")
            if given is not None and name in ("drop", "mask") and given.dtype != torch.bool:
                raise ValueError(f"{name} of a condition must be of torch.bool; given {given.dtype}")

    def _rows(self, label: Tensor, cond: Cond) -> Tensor:
        """(B,) int64, the row of the table for each example."""
        none = torch.full(label.shape, self.conditions.classes, dtype=torch.int64, device=label.device)
        if cond.label is None:
            return none
        hidden = cond.hidden("label")
        if readable(cond.label, hidden):
            check_labels(cond.label if hidden is None else cond.label[~hidden], self.conditions.classes)
        rows = cond.label.to(torch.int64)
        return rows if hidden is None else torch.where(hidden, none, rows)

    def _without_image(self, label: Tensor, cond: Cond) -> Tensor:
        """(B,), 1 where there is no image."""
        dtype = self.time_in.weight.dtype
        if cond.image is None:
            return torch.ones(len(label), dtype=dtype, device=label.device)
        hidden = None if self.conditions.keeps_image else cond.hidden("image")
        if hidden is None:
            return torch.zeros(len(label), dtype=dtype, device=label.device)
        return hidden.to(dtype)


class OrNothing(nn.Module):
    """A condition through a module, or a learned vector where there is none: (B, ...) -> (B, E)."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        """`inner` gives (B, E), of `width` E."""
        super().__init__()
        self.inner = inner
        self.nothing = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, given: Tensor | None, drop: Tensor | None, batch: int) -> Tensor:
        """`given` is (B, ...) or None for nobody has it, `drop` (B,) bool."""
        if given is None:
            return self.nothing.expand(batch, -1)
        given = given.to(self.nothing.dtype)
        if drop is None:
            return self.inner(given)
        kept = given.masked_fill(drop.reshape(-1, *(1,) * (given.ndim - 1)), 0)  # 0 * NaN is NaN, in gradients too
        return torch.where(drop[:, None], self.nothing, self.inner(kept))


class Added(nn.Module):
    """What is added to the embedding of the time, (B, F) -> (B, E): Linear(SiLU(Linear(waves))), 0 at first."""

    def __init__(self, features: int, width: int) -> None:
        """`features` is F, `width` E."""
        super().__init__()
        self.enter = nn.Linear(features, width)
        self.leave = nn.Linear(width, width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, waves: Tensor) -> Tensor:
        """`waves` is (B, F)."""
        return self.leave(F.silu(self.enter(waves)))


class LevelEmbedding(nn.Module):
    """A level of noise in [0, 1], (B,) -> (B, E), embedded as the time label is, with 1000 times the level.

        Linear(SiLU(Linear(sinusoidal(1000 level))))

    (Noise conditioning augmentation: Ho et al., 2022, section 4; Saharia et al., 2022.)
    """

    def __init__(self, width: int) -> None:
        """`width` is E, even."""
        super().__init__()
        self.enter = nn.Linear(width, width)
        self.leave = nn.Linear(width, width)

    def forward(self, level: Tensor) -> Tensor:
        """`level` is (B,)."""
        e = sinusoidal(1000 * level, self.enter.in_features).to(self.enter.weight.dtype)
        return self.leave(F.silu(self.enter(e)))


class Tokens(nn.Module):
    """Tokens brought to the width of the network, behind one for "nothing".

    Where tokens are masked or dropped, the first one is all there is to look at, so that attention
    always has something to attend to.
    """

    def __init__(self, given: int, width: int) -> None:
        """`given` is the width of the tokens that come, `width` E, of those that go."""
        super().__init__()
        self.enter = nn.Linear(given, width)
        self.nothing = nn.Parameter(0.02 * torch.randn(width))
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.leave = nn.Linear(width, width)

    def forward(self, cond: Cond, batch: int) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, 1 + L, E) and their mask (B, 1 + L), None where all may be looked at."""
        first = self.nothing.expand(batch, 1, -1)
        if cond.tokens is None:
            return first, None
        given, seen, hidden = cond.tokens.to(self.nothing.dtype), cond.mask, cond.hidden("text")
        if hidden is not None:
            kept = ~hidden[:, None].expand(given.shape[:2])
            seen = kept if seen is None else seen & kept
        if seen is not None:
            given = given.masked_fill(~seen[:, :, None], 0)  # attention weighs it by 0, and 0 * NaN is NaN
        made = self.enter(given)
        tokens = torch.cat([first.to(made.dtype), made], dim=1)
        return tokens, None if seen is None else F.pad(seen, (1, 0), value=True)

    def pooled(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(B, E), Linear(sum_l softmax_l(query . token_l / sqrt(E)) token_l) (GLIDE and Imagen pool too)."""
        fit = tokens @ self.query.to(tokens.dtype) * self.query.numel() ** -0.5
        if mask is not None:
            fit = fit.masked_fill(~mask, float("-inf"))
        return self.leave((fit.softmax(dim=-1).to(tokens.dtype)[:, None] @ tokens)[:, 0])
