"""What reading another project's autoencoder gives, and what takes its weights one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.autoencoders import AutoencoderConfig, AutoencoderNet


@dataclass(frozen=True, kw_only=True)
class ConvertedAutoencoder:
    """An autoencoder of images of another project as ours: its settings, and what to load into it."""

    config: AutoencoderConfig
    """Its settings."""
    channels: int
    """C, of images."""
    state: dict[str, Tensor]
    """Its weights, under our names."""

    def build(self, shape: tuple[int, ...]) -> AutoencoderNet:
        """The network for images of `shape` (C, H, W), in the dtype of the weights, which it has copies of.

        Raises:
            ValueError: these are no such images, or their sides do not fit.
        """
        if len(shape) != 3 or shape[0] != self.channels:
            raise ValueError(f"these weights are for images of ({self.channels}, H, W), given {tuple(shape)}")
        with torch.device("meta"):
            net = self.config.build(shape)
        net.load_state_dict({name: value.clone() for name, value in self.state.items()}, assign=True)
        return net


@dataclass
class Weights:
    """Takes weights out of `theirs` and puts them into `ours`, layer by layer."""

    what: str
    """Whose they are, for messages."""
    theirs: dict[str, Tensor]
    """Weights by their names; empty when all have been taken."""
    ours: dict[str, Tensor] = field(default_factory=dict)
    """Weights by our names."""

    def take(self, name: str) -> Tensor:
        """A weight of theirs.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.theirs:
            raise ValueError(f"the weight {name} of {self.what} is missing")
        return self.theirs.pop(name)

    def layer(self, our: str, their: str) -> None:
        """Weight and bias of one layer."""
        for part in ("weight", "bias"):
            self.ours[f"{our}.{part}"] = self.take(f"{their}.{part}")

    def finish(self) -> None:
        """Refuse weights that nothing took.

        Raises:
            ValueError: there are some; the message names the first.
        """
        if self.theirs:
            raise ValueError(f"weights of {self.what} without a place: {', '.join(sorted(self.theirs)[:5])}")
