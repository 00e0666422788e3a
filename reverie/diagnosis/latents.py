"""Whether held-out latents are what the sampler of a latent model begins with: of mean 0 and standard deviation 1.

Letters in shapes: N examples, Z channels, ... axes of space, M numbers of a channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from reverie.diagnosis.found import Found, Row

OFF = 0.1
"""What mean and standard deviation may be off. A standard deviation off by a tenth moves the log SNR of every noise
level by 0.2, a third of what one of 20 sampler steps goes through; training at other levels than sampling is seen
beyond that."""
CHANCE = 4
"""Standard errors that are taken for chance: 1 in 16,000."""
FAR = 4
"""Standard deviations, beyond which there are 6.3e-5 of a normal law."""


@dataclass(frozen=True)
class Latents(Found):
    """Statistics of N standardized latents, of each of Z channels; numbers of one example are not independent."""

    n: int
    mean: tuple[float, ...]
    mean_error: tuple[float, ...]
    std: tuple[float, ...]
    std_error: tuple[float, ...]
    kurtosis: tuple[float, ...]
    """In excess of the 3 of a normal law."""
    beyond: tuple[float, ...]
    """Share of numbers beyond `FAR`."""
    correlation: float
    """Between two channels at the same place, the largest by size; 0 of a single channel."""
    pair: tuple[int, int] | None
    """Which two, numbered from 0."""

    @property
    def wrong(self) -> tuple[int, ...]:
        """Channels, from 0, of a mean far from 0 or a standard deviation far from 1."""
        parts = zip(self.mean, self.mean_error, self.std, self.std_error, strict=True)
        return tuple(i for i, (m, dm, s, ds) in enumerate(parts) if _far(m, dm) or _far(s - 1, ds))

    @property
    def faulty(self) -> bool:
        return bool(self.wrong)

    @property
    def seen(self) -> str:
        std = f"{min(self.std):.3g} to {max(self.std):.3g}"
        mean, kurtosis = max(map(abs, self.mean)), max(self.kurtosis)
        told = f"mean within {mean:.2g} of 0, std {std}, excess kurtosis up to {kurtosis:.2g}"
        return told if self.pair is None else f"{told}, correlation up to {self.correlation:.2g}"

    @property
    def words(self) -> str:
        if not self.faulty:
            return f"the latents are standardized as the sampler takes them to be, by {self.n} held-out examples"
        shown = ", ".join(f"{i} (mean {self.mean[i]:.2g}, std {self.std[i]:.3g})" for i in self.wrong[:4])
        more = f" and {len(self.wrong) - 4} more" if len(self.wrong) > 4 else ""
        some = f"channel{'s' if len(self.wrong) > 1 else ''} {shown}{more}"
        return (
            f"the latents are at fault: {some} of held-out examples, and samples begin with mean 0 and std 1; "
            f"the autoencoder, or the data, are not those that were standardized: begin the run anew"
        )

    def rows(self) -> tuple[Row, ...]:
        found = []
        for i, (m, s, k, b) in enumerate(zip(self.mean, self.std, self.kurtosis, self.beyond, strict=True)):
            told = f"mean {m:.3g}, std {s:.3g}, excess kurtosis {k:.2g}, beyond {FAR} {b:.2g}"
            found.append((f"latent channel {i}", told, "0, 1, 0, 6.3e-05"))
        if self.pair is not None:
            found.append((f"correlation of channels {self.pair[0]} and {self.pair[1]}", f"{self.correlation:.2g}", "0"))
        return tuple(found)


def _far(off: float, error: float) -> bool:
    return abs(off) > OFF + CHANCE * error


def latents(x: Tensor) -> Latents:
    """Statistics of standardized latents x (N, Z, ...), of 2 examples or more.

    Standard errors are those of N independent examples, whatever the numbers of one have to do with each other.

    Raises:
        ValueError: fewer than 2 examples.
    """
    if len(x) < 2:
        raise ValueError(f"statistics of latents need at least 2 examples; given {len(x)}")
    by_example = x.double().flatten(2) if x.ndim > 2 else x.double()[..., None]  # (N, Z, M)
    n = len(by_example)
    mean = by_example.mean((0, 2))
    off = by_example - mean[:, None]
    variance = off.square().mean((0, 2))
    std = variance.sqrt()
    safe = std.clamp_min(1e-12)
    flat = (off / safe[:, None]).transpose(0, 1).flatten(1)  # (Z, N M)
    value, pair = _correlation(flat)
    return Latents(
        n,
        tuple(mean.tolist()),
        tuple((by_example.mean(2).std(0) / math.sqrt(n)).tolist()),
        tuple(std.tolist()),
        tuple((off.square().mean(2).std(0) / (2 * safe * math.sqrt(n))).tolist()),
        tuple((flat.pow(4).mean(1) - 3).tolist()),
        tuple((by_example.abs() > FAR).double().mean((0, 2)).tolist()),
        value,
        pair,
    )


def _correlation(flat: Tensor) -> tuple[float, tuple[int, int] | None]:
    """The largest by size between two rows of standardized numbers (Z, M), and which."""
    if len(flat) < 2:
        return 0.0, None
    found = (flat @ flat.T / flat.shape[1]).triu(1)
    i, j = divmod(int(found.abs().argmax()), len(flat))
    return float(found[i, j]), (min(i, j), max(i, j)) if i != j else (0, 1)
