"""What an autoencoder loses of held-out examples: no model of its latents brings that back.

Letters in shapes: N examples, B batch, C channels, ... one example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reverie.diagnosis.distances import Distance, Ruler
from reverie.diagnosis.found import Found, Row, pm
from reverie.evaluation import Collection
from reverie.spaces import Space
from reverie.training.reconstruction import PEAK, in_words, psnr, snr
from reverie.training.ssim import ssim

HALF_DB = 3.0
"""Of the variance as much is lost as is kept."""


@dataclass(frozen=True)
class Ceiling(Found):
    """Reconstructions of held-out examples beside the examples."""

    n: int
    quality: dict[str, float]
    """As in `reverie.training.reconstruction`: `psnr`, dB, of data in [-1, 1]; `ssim` of images; `snr`, dB, of all."""
    rebuilt: tuple[Distance, ...]
    """Of reconstructions from training examples."""
    floor: tuple[Distance, ...]
    """Of the held-out examples themselves, the same distances."""

    @property
    def faulty(self) -> bool:
        return self.quality["snr"] < HALF_DB

    @property
    def seen(self) -> str:
        made, real = self.rebuilt[0], self.floor[0]
        told = f"{made.title} {pm(made.value, made.error)}, floor {pm(real.value, real.error)}"
        return f"{in_words(self._told)}; {told}"

    @property
    def words(self) -> str:
        made, real = self.rebuilt[0], self.floor[0]
        if self.faulty:
            return (
                f"the autoencoder is at fault: of held-out examples it loses {self._lost:.0%} of the variance; train "
                f"it longer, or with more channels, before its latents are learnt"
            )
        return (
            f"the autoencoder loses {self._lost:.1%} of the variance of held-out examples: a {made.title} of "
            f"{pm(made.value, made.error)} in features of {made.extractor}, where they have "
            f"{pm(real.value, real.error)}, is what the model of its latents cannot beat"
        )

    @property
    def _told(self) -> dict[str, float]:
        """The quality by the names that suit the data."""
        return {k: v for k, v in self.quality.items() if k != "snr" or "psnr" not in self.quality}

    @property
    def _lost(self) -> float:
        """The share of the variance."""
        return float(10 ** (-self.quality["snr"] / 10))

    def rows(self) -> tuple[Row, ...]:
        told = [(f"reconstructions of {self.n} held-out examples", in_words(self._told), "as high as can be")]
        for made, real in zip(self.rebuilt, self.floor, strict=True):
            floor = f"{pm(real.value, real.error)}, held-out examples"
            told.append((f"{made.title} of reconstructions, in {made.extractor}", pm(made.value, made.error), floor))
        return tuple(told)


def ceiling(space: Space, rebuilt: Callable[[Tensor], Tensor], held_out: Collection, ruler: Ruler) -> Ceiling:
    """What is lost of held-out examples by encoding and decoding them.

    Args:
        space: what lies between data and autoencoder, in which errors are counted.
        rebuilt: data (N, ...) encoded and decoded, as data.
        held_out: N of them.
        ruler: of the training examples.
    """
    data = torch.from_numpy(np.ascontiguousarray(held_out.items))
    with torch.no_grad():
        again = rebuilt(data)
    x, made = space.encode(data).double(), space.encode(again).double()
    quality = {"psnr": psnr(made, x)} if space.bounded else {}
    if space.bounded and x.ndim == 4:
        quality["ssim"] = float(ssim(made, x, PEAK).mean())
    quality["snr"] = snr(made, x)
    copies = replace(held_out, items=again.numpy(), source="reconstructions")
    return Ceiling(len(x), quality, ruler(copies), ruler(held_out))
