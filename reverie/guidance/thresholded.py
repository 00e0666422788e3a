"""Dynamic thresholding of what a denoiser thinks the data to be.

Letters in shapes: B batch, D numbers of an example, ... the shape of one example.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Wrapper
from reverie.prediction import Prediction


class Thresholded(Wrapper):
    """The denoiser with x0 held inside [-s, s] and divided by s; eps follows.

    s is the `percentile` quantile of |x0| over one example, or 1 where that is less: data lie in [-1, 1], and an
    example that is guided out of it is brought back as a whole instead of saturating (Saharia et al., 2022,
    section 2.3). Where nothing but the range is to be kept, `reverie.denoiser.Clipped` is the static form.

    Raises:
        ValueError: a percentile that is not above 0 and at most 1.
    """

    def __init__(self, denoiser: Denoises, percentile: float = 0.995) -> None:
        if not 0 < percentile <= 1:
            raise ValueError(f"a percentile lies above 0 and at 1 at the most, such as 0.995; given {percentile}")
        super().__init__(denoiser)
        self.percentile = percentile

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        q = self.denoiser(x, t, cond)
        limit = quantile(q.x0.abs().flatten(1), self.percentile).clamp_min(1)
        limit = limit.reshape((-1,) + (1,) * (x.ndim - 1))
        return q.with_x0(torch.minimum(torch.maximum(q.x0, -limit), limit) / limit)


def quantile(values: Tensor, share: float) -> Tensor:
    """The quantile of each row of (B, D), (B,): linear between the two values nearest to place share (D - 1).

    As `torch.quantile`, for tensors of any size and no slower for a share near 1.
    """
    place = share * (values.shape[1] - 1)
    low = int(place)
    largest = values.topk(values.shape[1] - low, dim=1).values
    return torch.lerp(largest[:, -1], largest[:, max(-2, -largest.shape[1])], place - low)
