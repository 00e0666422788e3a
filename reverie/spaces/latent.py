"""What an autoencoder makes of data.

Letters in shapes: B batch, N examples, Z channels of latents, `...` one to three axes of space or time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from reverie.spaces.base import Space, Stage
from reverie.spaces.standardized import Standardized
from reverie.spaces.tiles import tiled
from reverie.tensors import count, sent

AUTOENCODER = "autoencoder"
"""The name of the stage."""
ROWS, PLACES = 16, 2**12
"""Examples that the autoencoder sees at a time, at the most, and places of all their latents together. They are always
as many for latents of one size: kernels round otherwise for another number of them."""


@dataclass(frozen=True)
class Latent(Space, kind="latent"):
    """Latents of an autoencoder, to zero mean and unit variance by channel (Rombach et al., 2022, section 3.3).

        x0 = (E(data) - mean) / std,    data = D(std x + mean)

    E and D are those of the stage `autoencoder` of the run, whose own space lies between it and the data. `mean` and
    `std` are measured on the latents of the training split, and stand in the place of one published number for all.

    Raises:
        ValueError: a tile too small to have a border.
    """

    learns: ClassVar[bool] = True

    autoencoder: str = ""
    """A run of kind=autoencoder, copied into the folder of the run as its stage; or weights of another project, a
    folder with an AutoencoderKL of diffusers, or with TAESD's or TAEF's encoder and decoder."""
    latent: tuple[int, ...] = ()
    """(Z, ...) of an example; filled in."""
    mean: tuple[float, ...] = ()
    """By channel; filled in."""
    std: tuple[float, ...] = ()
    """By channel; filled in."""
    tile: int = 64
    """Latents of a longer side than this are decoded in tiles of it, which fade into one another."""

    def __post_init__(self) -> None:
        if self.tile < 8:
            raise ValueError(f"tile is a side in latent pixels, at least 8; given {self.tile}")

    def check(self, image: bool) -> None:
        """Nothing to refuse: the autoencoder has a space of its own."""

    def bound(self, stage: Stage, shape: tuple[int, ...]) -> Self:
        found = stage(AUTOENCODER)
        latent = found.autoencoder.latent(shape)
        with torch.device("meta"):
            wanted = {name: t.shape for name, t in found.autoencoder.config.build(shape).state_dict().items()}
        if wanted != {name: t.shape for name, t in found.autoencoder.net.state_dict().items()}:
            raise ValueError(
                f"{found.path} is an autoencoder of examples of {found.facts.shape}, and its weights fit none of "
                f"{tuple(shape)}; train one on these data"
            )
        return replace(self, latent=latent)

    def opened(self, stage: Stage) -> OpenedLatent:
        found = stage(AUTOENCODER)
        return OpenedLatent(self, found.space, found.autoencoder)

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """`latent`.

        Raises:
            ValueError: the autoencoder is not known yet.
        """
        if not self.latent:
            raise ValueError("space.kind=latent needs an autoencoder: give space.autoencoder=RUN")
        return self.latent

    def encode(self, data: Tensor) -> Tensor:
        """Not before it is `opened`."""
        raise ValueError("a space of latents has to be opened with its autoencoder first; a run does: run.space")

    def decode(self, x: Tensor) -> Tensor:
        """Not before it is `opened`."""
        return self.encode(x)


class OpenedLatent(Space):
    """A `Latent` with its autoencoder.

    Attributes:
        settings: the `Latent`.
        inner: what lies between data and autoencoder.
        model: the autoencoder, on any device; what comes and goes stays where it is.
    """

    kind: ClassVar[str] = "latent"
    learns: ClassVar[bool] = True

    def __init__(self, settings: Latent, inner: Space, model: Any) -> None:  # noqa: ANN401  # an `Autoencoder`
        self.settings, self.inner, self.model = settings, inner, model
        self.standard = Standardized(settings.mean, settings.std)

    def check(self, image: bool) -> None:
        self.inner.check(image)

    def fitted(self, raw: Tensor) -> Latent:
        """The settings with mean and standard deviation of raw latents (N, Z, ...)."""
        standard = Standardized().fit(raw)
        return replace(self.settings, mean=standard.mean, std=standard.std)

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.settings.shape(shape)

    def raw(self, data: Tensor) -> Tensor:
        """(B, Z, ...), latents as the autoencoder makes them, float32."""
        return self._by_rows(self.model.encode, self.inner.encode(data))

    def encode(self, data: Tensor) -> Tensor:
        return self.standard.encode(self.raw(data))

    def decode(self, x: Tensor) -> Tensor:
        return self.inner.decode(self._by_rows(self._decoded, self.standard.decode(x)))

    def rebuilt(self, data: Tensor) -> Tensor:
        """Data encoded and decoded again: the best that a model of these latents can do."""
        return self.decode(self.encode(data))

    def _decoded(self, z: Tensor) -> Tensor:
        made: Tensor = tiled(self.model.decode, z, self.settings.tile)
        return made

    def _by_rows(self, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """f of so many examples at a time, the last ones filled up, on the device of the model."""
        like = next(iter(self.model.parameters()), x)
        parts, rows = [], max(1, min(ROWS, PLACES // count(self.settings.latent[1:])))
        with torch.no_grad():
            for part in x.split(rows):
                filled = part if len(part) == rows else part[torch.arange(rows, device=x.device) % len(part)]
                parts.append(sent(f(sent(filled, like, torch.float32))[: len(part)], x, torch.float32))
        return torch.cat(parts)
