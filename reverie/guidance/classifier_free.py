"""Classifier-free guidance.

Letters in shapes: B batch, K conditions, ... the shape of one example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reverie.conditioning import APART, Cond
from reverie.denoiser import Denoises, Wrapper, by_row
from reverie.guidance.contrast import Contrast, Interval, guided_rows
from reverie.guidance.evaluations import chosen, evaluated, moved
from reverie.prediction import Prediction
from reverie.tensors import right


class ClassifierFree(Wrapper):
    """D(x | c) + (scale - 1) (D(x | c) - D(x)), in x0 and eps alike.

    Ho & Salimans (2021), eq. 6 with w = scale - 1: scale 1 is no guidance, 0 is unconditional. Where no
    condition is given nothing is guided, and an example whose condition is dropped is left as it is, bit for
    bit. The two evaluations run as one of twice the batch where that is faster (see `evaluations.evaluated`);
    the result is the same. A learned variance is that of D(x | c).

    With `negative` D(x | negative) stands in the place of D(x). It tells what it tells and nothing else: where
    an image is to be kept and only the text to be led away from, it holds the image too.

    With `scales` each of the K parts of a condition that is told has a scale of its own (Liu et al., 2022):

        D(x) + sum_k w_k (D(x | c_k) - D(x))

    with w_k = scales[k], or `scale` for a part that it does not name, and c_k that part alone: K + 1
    evaluations. One part is ordinary guidance. All w_k = 0 is D(x), one w_k = 1 and the others 0 is D(x | c_k),
    and all w_k = 1 is D(x | c) if the parts are independent given x, else only an estimate of it. A learned
    variance is that of the part with the largest scale.

    Args:
        denoiser: the model.
        scale: w, or (B,), one for each example.
        together: examples up to which all evaluations are one call.
        interval: (low, high), guide only where low < sigma / alpha <= high (Kynkaanniemi et al., 2024);
            elsewhere D(x | c) stands alone.
        rescale: phi in [0, 1]: that share of the way to an x0 scaled so that its standard deviation over one
            example is that of D(x | c) (Lin et al., 2024, eq. 15 and 16, there of the network's output).
        negative: the conditions, one row or one for each example, to be led away from.
        scales: by the names in `reverie.conditioning.APART`.

    Raises:
        ValueError: `together` below 0, a rescale outside [0, 1], an interval that holds no level, a scale of
            something that is no part of a condition.
    """

    def __init__(
        self,
        denoiser: Denoises,
        scale: float | Tensor,
        together: int | None = None,
        *,
        interval: Interval | None = None,
        rescale: float = 0.0,
        negative: Cond | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(denoiser)
        if together is not None and together < 0:
            raise ValueError(f"together counts examples, 0 or more; given {together}")
        if unknown := [name for name in scales or {} if name not in APART]:
            raise ValueError(f"scales are of {', '.join(APART)}; given {unknown[0]!r}")
        check_rescale(rescale)
        self.scale, self.together, self.rescale = scale, together, rescale
        self.contrast = Contrast(interval, negative)
        self.scales = None if scales is None else dict(scales)

    @property
    def by_row(self) -> bool:
        """Also with a negative condition for each example."""
        return self.contrast.by_row or by_row(self.denoiser)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        if cond is None or not cond.given():
            return self.denoiser(x, t, cond)
        weights, inside = self._weights(cond), self.contrast.inside(self.schedule, t)
        plain = not isinstance(self.scale, Tensor) and weights == (1.0,)
        if plain or (inside is not None and not bool(inside.any())):
            return self.denoiser(x, t, cond)
        rows, several = guided_rows(cond, inside, x), len(weights) > 1
        own, away = self.contrast.pair(cond, len(x))
        conds = [own, away]
        if several:
            whole = [own] if self.rescale or rows is not None else []  # what is scaled to, or stands alone
            conds = [*whole, *_apart(own, cond.parts(), len(x)), away]
        made = evaluated(self.denoiser, x, t, conds, self.together)
        first = len(conds) - 1 - len(weights)
        largest = max(range(len(weights)), key=lambda i: weights[i]) if several else 0
        guided = made.combined(lambda v: _summed(v[first:], weights), first + largest)
        if self.rescale:
            guided = rescaled(guided, made[0], self.rescale)
        return guided if rows is None else chosen(rows, guided, made[0])

    def _weights(self, cond: Cond) -> tuple[float, ...] | tuple[Tensor]:
        """That of the condition, or one for each part of it that is told."""
        if isinstance(self.scale, Tensor):
            return (self.scale,)
        if self.scales is None:
            return (float(self.scale),)
        return tuple(float(self.scales.get(part, self.scale)) for part in cond.parts()) or (float(self.scale),)


def _apart(cond: Cond, parts: Sequence[str], batch: int) -> list[Cond]:
    """Each part by itself."""
    return [cond.without(batch, *(other for other in APART if other != part)) for part in parts]


def _summed(values: Sequence[Tensor], weights: Sequence[float] | tuple[Tensor]) -> Tensor:
    """b + sum_k w_k (a_k - b) for the values a_1, ..., a_K, b; or, for K = 1, with weights (B,) of the examples."""
    *given, base = values
    if isinstance(weights[0], Tensor):
        return torch.lerp(base, given[0], right(weights[0], like=base))
    total = torch.lerp(base, given[0], weights[0])
    for value, weight in zip(given[1:], weights[1:], strict=True):
        total.add_(value - base, alpha=weight)
    return total


def check_rescale(rescale: float) -> None:
    """Refuse a share that is none.

    Raises:
        ValueError: unless in [0, 1].
    """
    if not 0 <= rescale <= 1:
        raise ValueError(f"rescale is a share, 0 for none and at most 1; given {rescale}")


def rescaled(q: Prediction, like: Prediction, share: float) -> Prediction:
    """q with x0 (1 - share + share std(like.x0) / std(q.x0)), standard deviations over one example."""
    own, wanted = (p.x0.flatten(1).std(1, correction=0) for p in (q, like))
    ratio = torch.where(own > 0, wanted / own, 1.0).reshape((-1,) + (1,) * (q.x.ndim - 1))
    return moved(q, share * (ratio - 1) * q.x0)
