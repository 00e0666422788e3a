"""Structural similarity of images.

Letters in shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE, SIGMA = 11, 1.5
"""Pixels of a side of the Gaussian window, and its standard deviation."""
K1, K2 = 0.01, 0.03


def ssim(x: Tensor, y: Tensor, span: float) -> Tensor:
    """(B,) in float64, the mean structural similarity of images x and y (B, C, H, W) (Wang et al., 2004, eq. 13).

        (2 mu_x mu_y + c1) (2 s_xy + c2) / ((mu_x^2 + mu_y^2 + c1) (s_x^2 + s_y^2 + c2))

    with means mu, variances s^2 and the covariance s_xy in a Gaussian window of 11 pixels around each pixel,
    c1 = (0.01 span)^2 and c2 = (0.03 span)^2; the mean is over all places where the window lies inside the image, and
    over channels. For smaller images the window is cut to the largest odd number of pixels that fits.

    Args:
        x: the ones.
        y: the others.
        span: the range of values, such as 2 for images in [-1, 1].
    """
    size = min(SIZE, *(n - 1 + n % 2 for n in x.shape[-2:]))
    x, y = x.double(), y.double()
    mu_x, mu_y, xx, yy, xy = _windowed(torch.stack([x, y, x * x, y * y, x * y]), size)
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    brightness = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    structure = (2 * (xy - mu_x * mu_y) + c2) / (xx - mu_x**2 + yy - mu_y**2 + c2)
    return (brightness * structure).flatten(1).mean(1)


def _windowed(a: Tensor, size: int) -> Tensor:
    """Means of `a` (..., H, W) weighed by a Gaussian window of `size`, where it lies inside."""
    place = torch.arange(size, dtype=a.dtype, device=a.device) - size // 2
    weight = (-(place**2) / (2 * SIGMA**2)).exp()
    weight = weight / weight.sum()
    flat = a.reshape(-1, 1, *a.shape[-2:])
    made = F.conv2d(F.conv2d(flat, weight[None, None, :, None]), weight[None, None, None, :])
    return made.reshape(*a.shape[:-2], *made.shape[-2:])
