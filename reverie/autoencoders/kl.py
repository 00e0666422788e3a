"""The variational autoencoder: latents are drawn from a Gaussian, held near a standard normal.

Letters in shapes: B batch, C channels of data, Z channels of latents, `...` one to three axes of space or time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.autoencoders.base import Rebuilt
from reverie.autoencoders.convolutional import ConvolutionalConfig, ConvolutionalNet
from reverie.tensors import Noise

BOUNDS = (-30.0, 20.0)
"""Between which log variances are held, so that neither they nor their exponentials overflow."""


@dataclass(frozen=True)
class KLConfig(ConvolutionalConfig, kind="kl"):
    """Settings of a `KLNet`."""

    def build(self, shape: tuple[int, ...]) -> KLNet:
        return KLNet(self, shape)


class KLNet(ConvolutionalNet):
    """q(z | x) = N(mean(x), exp(log variance(x))) number by number, x rebuilt from a draw (Kingma & Welling, 2014).

    The penalty is the divergence of q from a standard normal, in nats, summed over the numbers of z:

        sum 1/2 (mean^2 + variance - 1 - log variance)
    """

    def __init__(self, config: KLConfig, shape: tuple[int, ...]) -> None:
        """`shape` is (C, ...) of an example."""
        super().__init__(config, shape, 2 * config.channels)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), (B, Z, ...) each."""
        mean, log_variance = self.encoded(x).chunk(2, dim=1)
        return mean, log_variance.clamp(*BOUNDS)

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.decoded(z)

    def rebuilt(self, x: Tensor, noise: Noise = torch.randn_like) -> Rebuilt:
        mean, log_variance = self.posterior(x)
        z = mean + (0.5 * log_variance).exp() * noise(mean)
        return Rebuilt(self.decode(z), z, divergence(mean, log_variance))

    @torch.no_grad()
    def told(self, x: Tensor) -> dict[str, float]:
        mean, log_variance = self.posterior(x)
        return {"kl": float(divergence(mean, log_variance).sum() / mean.numel())}


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, (B, ...) each -> (B,), summed (Kingma & Welling, 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)
