"""What an autoencoder is: settings that build a network for one shape of example.

Letters in shapes: B batch, C channels of data, Z channels of latents, `...` the axes of space or time of one example
(one, two or three of them), `shape` that of one example, (C, ...).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from reverie.config import Part
from reverie.tensors import Noise


class AutoencoderConfig(Part, abc.ABC, family="autoencoder"):
    """Settings of an autoencoder, a frozen dataclass. A new one is a file in this folder."""

    usual: ClassVar[str] = "kl"

    @abc.abstractmethod
    def latent(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(Z, ...), the shape of the latents of an example of `shape`.

        Raises:
            ValueError: this kind has no use for such examples, with what would fit.
        """

    @abc.abstractmethod
    def build(self, shape: tuple[int, ...]) -> AutoencoderNet:
        """A new network for examples of `shape`, initialised from torch's global generator.

        Raises:
            ValueError: as `latent`.
        """


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """What a pass of training gives."""

    x: Tensor
    """(B, C, ...), the examples rebuilt."""
    z: Tensor
    """(B, Z, ...), the latents that they were rebuilt from, with the way of the gradient to the encoder."""
    penalty: Tensor
    """(B,), what keeps the latents in bounds: the divergence from a standard normal in nats, summed over all numbers of
    a latent, or the commitment to a codebook, their mean."""


class AutoencoderNet(nn.Module, abc.ABC):
    """x (B, C, ...) to latents (B, Z, ...) and back; data are of about unit size, as `reverie.spaces` makes them.

    Attributes:
        checkpointing: whether blocks forget their inside until the backward pass; may be set.
        divergence: whether the penalty of `rebuilt` is a divergence in nats, which a loss weighs; if not, it has its
            weight already.
    """

    checkpointing: bool = False
    divergence: bool = True

    @abc.abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """(B, Z, ...), the latents that another model sees: the mean of a posterior, or those before a codebook."""

    @abc.abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """(B, C, ...) of latents; where there is a codebook, of their nearest codes."""

    @abc.abstractmethod
    def rebuilt(self, x: Tensor, noise: Noise = torch.randn_like) -> Rebuilt:
        """The pass of training: encode, draw from the posterior or quantise, decode."""

    def constrain(self) -> None:
        """After a step of the optimizer, bring weights where the network wants them; most want nothing."""

    def told(self, x: Tensor) -> dict[str, float]:
        """Numbers on the latents of x, by name: `kl` in nats a latent number, `codes` used of those there are."""
        return {}
