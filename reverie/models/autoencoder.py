"""An autoencoder as a run trains it.

Letters in shapes: B batch, C channels of data, Z channels of latents, ... one example.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.autoencoders import AutoencoderConfig, AutoencoderNet, Rebuilt
from reverie.tensors import Noise


class Autoencoder(nn.Module):
    """An encoder and a decoder, x0 (B, C, ...) -> z (B, Z, ...) -> x0, whose latents a denoiser can be trained on.

    Trained by `reverie.losses.Reconstruction`. It computes in the dtype of its weights; what comes out has that of
    what went in.

    Args:
        config: its settings.
        shape: (C, ...) of the examples it is built for; convolutional ones take others as well.
    """

    net: AutoencoderNet

    def __init__(self, config: AutoencoderConfig, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.net = config, config.build(shape)

    def latent(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(Z, ...), of an example of `shape`.

        Raises:
            ValueError: it has no use for such examples.
        """
        return self.config.latent(shape)

    def encode(self, x: Tensor) -> Tensor:
        """(B, Z, ...) of x (B, C, ...)."""
        return self.net.encode(x.to(self._dtype)).to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """(B, C, ...) of z (B, Z, ...)."""
        return self.net.decode(z.to(self._dtype)).to(z.dtype)

    def rebuilt(self, x: Tensor, noise: Noise = torch.randn_like) -> Rebuilt:
        """The pass of training: see `AutoencoderNet.rebuilt`."""
        made = self.net.rebuilt(x.to(self._dtype), noise)
        return Rebuilt(made.x.to(x.dtype), made.z.to(x.dtype), made.penalty.to(x.dtype))

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.net.parameters()).dtype
