"""How well an autoencoder gives back held-out examples, and what its latents are like.

Letters in shapes: N rows, C channels of data, Z channels of latents, ... the axes of space of one example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from reverie.data import Examples
from reverie.models.autoencoder import Autoencoder
from reverie.tensors import count
from reverie.training.batches import VALIDATION, encoded
from reverie.training.ssim import ssim

if TYPE_CHECKING:
    from reverie.runs import Run

MOST = 512
"""Examples that are looked at."""
AT_ONCE = 2**22
"""Numbers of data at a time, about: all of `MOST` images of 52 x 52."""
PEAK = 2.0
"""The range of data in [-1, 1]."""
BEST_DB = 100.0
"""What a faultless reconstruction counts as, which would be infinitely good."""


@dataclass(frozen=True)
class Rebuilding:
    """What was measured of decode(encode(x)), held to the range of the data where they have one."""

    quality: dict[str, float]
    """`psnr` in dB, the mean over examples of 10 log10(2^2 / mean square error), of data in [-1, 1]; `snr` in dB,
    10 log10(variance / mean square error), of others; `ssim` for images in [-1, 1] (Wang et al., 2004)."""
    told: dict[str, float]
    """What the network tells of its latents: `kl` in nats a latent number, `codes` used, their `perplexity`."""
    latent_mean: tuple[float, ...]
    """By channel of the latents."""
    latent_std: tuple[float, ...]

    def line(self) -> dict[str, object]:
        """As it stands in metrics.jsonl."""
        latents = {"latent_mean": list(self.latent_mean), "latent_std": list(self.latent_std)}
        return {**self.quality, **self.told, **latents}


def reconstruction(
    run: Run, f: Autoencoder, examples: Examples, rows: np.ndarray, device: torch.device | str
) -> Rebuilding:
    """What `f` makes of up to `MOST` held-out rows, of which there is one at least, the same rows every time.

    What the network tells is of all of them; of large examples, of as many as go through it at a time.
    """
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence((run.recipe.train.seed, VALIDATION))))
    chosen = draw.permutation(rows)[:MOST]
    size = max(1, AT_ONCE // count(run.facts.shape))
    bounded = run.space.bounded
    told: dict[str, float] = {}
    latents: list[Tensor] = []
    alike: list[Tensor] = []
    true, made = [], []
    for first in range(0, len(chosen), size):
        x, _ = encoded(examples, run.space, chosen[first : first + size], device)
        with torch.no_grad():
            z = f.encode(x)
            again = f.decode(z)
            told = told or f.net.told(x)
        again = again.clamp(-1, 1) if bounded else again
        if bounded and x.ndim == 4:
            alike.append(ssim(again, x, PEAK).cpu())
        latents.append(z.double().cpu())
        true.append(x.double().cpu())
        made.append(again.double().cpu())
    x, again, z = torch.cat(true), torch.cat(made), torch.cat(latents).transpose(0, 1).flatten(1)
    quality = {"psnr": psnr(again, x)} if bounded else {"snr": snr(again, x)}
    if alike:
        quality["ssim"] = float(torch.cat(alike).mean())
    return Rebuilding(quality, told, tuple(z.mean(1).tolist()), tuple(z.std(1, correction=0).tolist()))


def psnr(made: Tensor, true: Tensor) -> float:
    """In dB, of data (N, ...) in [-1, 1]: the mean over examples of 10 log10(4 / mean square error)."""
    error = (made - true).flatten(1).square().mean(1)
    return float((10 * (PEAK**2 / error).log10()).clamp(max=BEST_DB).mean())


def snr(made: Tensor, true: Tensor) -> float:
    """In dB, of data (N, C, ...): 10 log10 of their variance over the mean square error, both over all numbers.

    The variance is that around the mean of each channel, so that 0 dB is what knowing nothing else would give.
    """
    channels = true.transpose(0, 1).flatten(1)
    variance = channels.var(1, correction=0).mean()
    return float((10 * (variance / (made - true).square().mean()).log10()).clamp(max=BEST_DB))


NAMES = {"psnr": "PSNR {:.1f} dB", "snr": "SNR {:.1f} dB", "ssim": "SSIM {:.3g}", "kl": "kl {:.3g} nats"}
NAMES |= {"codes": "{:.0f} codes", "perplexity": "perplexity {:.3g}"}


def in_words(line: Mapping[str, object]) -> str:
    """What a line of metrics.jsonl says of reconstructions, in words; empty where it says nothing.

    >>> in_words({"step": 500, "psnr": 28.31, "ssim": 0.931, "kl": 1.234, "latent_mean": [0.1], "latent_std": [1.0]})
    'PSNR 28.3 dB, SSIM 0.931, kl 1.23 nats'
    >>> in_words({"snr": 12.0, "codes": 410.0, "perplexity": 305.21})
    'SNR 12.0 dB, 410 codes, perplexity 305'
    """
    if "psnr" not in line and "snr" not in line:
        return ""
    return ", ".join(words.format(line[name]) for name, words in NAMES.items() if name in line)


def newest(run: Run) -> str:
    """The last that training has measured of reconstructions, in words; empty where there is nothing."""
    from reverie.runs import METRICS
    from reverie.training import log

    told = [said for line in log.lines(run.path / METRICS) if (said := in_words(line))]
    return told[-1] if told else ""
