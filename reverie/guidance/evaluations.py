"""What a denoiser says of the same x under several conditions, asked for in one call or in one for each.

Letters in shapes: B batch, K conditions, ... the shape of one example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.prediction import Prediction
from reverie.schedules import Level
from reverie.tensors import Number

TOGETHER = 8
"""Examples up to which one evaluation of twice the batch is faster than two on a CPU: 1.18 to 1.27
times at 1 example and 1.05 times at 4, and no faster at 16 (U-Net and DiT of 7 million weights)."""


@dataclass(frozen=True)
class Evaluations:
    """Predictions of x (B, ...) at a level under K conditions."""

    x: Tensor
    level: Level
    said: tuple[Prediction, ...]
    """One for each condition; or one of K B rows, B for each."""
    count: int
    """K."""

    def __getitem__(self, k: int) -> Prediction:
        """What is said under condition k."""
        if len(self.said) == self.count:
            return self.said[k]
        q = self.said[0]
        x0, eps, var = (None if v is None else v.split(len(self.x))[k] for v in (q.x0, q.eps, q.var))
        assert x0 is not None and eps is not None
        return Prediction(self.x, self.level, x0, eps, var)

    def combined(self, total: Callable[[Sequence[Tensor]], Tensor], var: int = 0) -> Prediction:
        """A sum of all, whose weights sum to 1.

        It is taken of the one value of the network's own notation, or of x0 and eps where both were given.
        One denoiser speaks one notation, so such a sum has the coefficients of each.

        Args:
            total: of K tensors (B, ...), their sum.
            var: the condition whose learned variance is kept.
        """
        told = [q.told for q in self.said]
        own = self.said[var if len(self.said) == self.count else 0].var
        kept = own if own is None or len(self.said) == self.count else own.split(len(self.x))[var]
        known = [one for one in told if one is not None]
        if len(known) < len(told):
            x0, eps = (total(self._split(v)) for v in ([q.x0 for q in self.said], [q.eps for q in self.said]))
            return Prediction(self.x, self.level, x0, eps, kept)
        value, b = total(self._split([one.value for one in known])), len(self.x)
        x0_of, eps_of = _first(known[0].x0, b), _first(known[0].eps, b)
        return Prediction.from_linear(value, self.x, self.level, x0_of, eps_of, kept)

    def _split(self, values: list[Tensor]) -> Sequence[Tensor]:
        """One for each condition."""
        return values if len(values) == self.count else values[0].split(len(self.x))


def evaluated(f: Denoises, x: Tensor, t: Tensor, conds: Sequence[Cond], together: int | None = None) -> Evaluations:
    """What f says under each condition: one call of K B rows up to `together` examples, else K calls.

    Unless given, `together` is `TOGETHER` on a CPU and any number elsewhere: an accelerator that is not
    yet full does all in the time of one, and a full one loses nothing. A denoiser with a fixed number of
    `rows` is given all at once also where that saves it one of its evaluations.
    """
    b, k = len(x), len(conds)
    level = f.schedule.at(t, like=x)
    if not _at_once(f, x, k, together):
        return Evaluations(x, level, tuple(f(x, t, cond) for cond in conds), k)
    several = t.ndim > 0 and t.shape[0] == b
    q = f(torch.cat([x] * k), t.repeat(k) if several else t, joined(conds, b))
    return Evaluations(x, level, (q,), k)


def joined(conds: Sequence[Cond], batch: int) -> Cond:
    """The conditions of a batch of K B examples."""
    if len(conds) == 2:
        return Cond.cat(conds[0], conds[1], batch)
    return reduce(lambda a, b: Cond.cat(a, b, batch), [cond.without(batch) for cond in conds])


def _at_once(f: Denoises, x: Tensor, k: int, together: int | None) -> bool:
    """Whether to evaluate all in one call."""
    b, rows = x.shape[0], getattr(f, "rows", 1)
    if together is not None:
        return b <= together
    saved = math.ceil(k * b / rows) < k * math.ceil(b / rows)
    return x.device.type != "cpu" or b <= TOGETHER or saved


def _first(pair: tuple[Number, Number], b: int) -> tuple[Number, Number]:
    """A pair of coefficients for the first b examples alone."""
    a, c = (v[:b] if isinstance(v, Tensor) else v for v in pair)
    return a, c


def moved(q: Prediction, shift: Tensor) -> Prediction:
    """The prediction with x0 moved by `shift` (B, ...), and eps by -alpha / sigma times it.

    Unlike `Prediction.with_x0` it rounds nothing that does not move.
    """
    return Prediction(q.x, q.level, q.x0 + shift, q.eps - q.level.alpha / q.level.sigma * shift, q.var)


def chosen(where: Tensor, a: Prediction, b: Prediction) -> Prediction:
    """The rows of `a` where `where` (B,) is true, else those of `b`, bit for bit."""
    rows = where.reshape((-1,) + (1,) * (a.x.ndim - 1))
    var = None if a.var is None or b.var is None else torch.where(rows, a.var, b.var)
    return Prediction(a.x, a.level, torch.where(rows, a.x0, b.x0), torch.where(rows, a.eps, b.eps), var)
