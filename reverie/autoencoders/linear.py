"""The linear autoencoder: all about it is known, and with the principal components it is the best of its kind.

Letters in shapes: B batch, N numbers of an example, Z numbers of its latents, `shape` that of one example.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reverie.autoencoders.base import AutoencoderConfig, AutoencoderNet, Rebuilt
from reverie.nets.base import at_least_one
from reverie.tensors import Noise, count


@dataclass(frozen=True)
class LinearConfig(AutoencoderConfig, kind="linear"):
    """Settings of a `LinearNet`, for examples of any shape."""

    channels: int = 16
    """Z, numbers of the latents of an example; at most as many as it has itself."""

    def __post_init__(self) -> None:
        """Refuse latents without numbers."""
        at_least_one(self.kind, "autoencoder", channels=self.channels)

    def latent(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.channels > count(shape):
            raise ValueError(
                f"channels of autoencoder 'linear' must be at most {count(shape)}, the numbers of an example of "
                f"{tuple(shape)}; given {self.channels}"
            )
        return (self.channels,)

    def build(self, shape: tuple[int, ...]) -> LinearNet:
        return LinearNet(self, shape)


class LinearNet(AutoencoderNet):
    """z = W^T (x - mean), x = W z + mean, with x as N numbers in a row, W (N, Z) and the mean learned freely.

    The columns of W begin orthonormal. There is no penalty.
    """

    def __init__(self, config: LinearConfig, shape: tuple[int, ...]) -> None:
        """`shape` is that of an example."""
        (channels,) = config.latent(shape)
        super().__init__()
        self.shape = tuple(shape)
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(count(shape), channels)))
        self.mean = nn.Parameter(torch.zeros(count(shape)))

    def encode(self, x: Tensor) -> Tensor:
        """(B, Z), the latents."""
        return (x.flatten(1) - self.mean) @ self.weight

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T + self.mean).unflatten(1, self.shape)

    def rebuilt(self, x: Tensor, noise: Noise = torch.randn_like) -> Rebuilt:
        """The pass of training; `noise` is not drawn."""
        z = self.encode(x)
        return Rebuilt(self.decode(z), z, z.new_zeros(len(z)))


def fitted(data: Tensor, channels: int) -> dict[str, Tensor]:
    """The weights of a `LinearNet` that rebuilds data (B, ...) with the least squared error: principal components.

    W holds the eigenvectors of the covariance with the largest eigenvalues (Pearson, 1901; Hotelling, 1933).

    Raises:
        ValueError: there are fewer examples, or numbers in one, than `channels`.
    """
    flat = data.flatten(1).to(torch.float64)
    if channels > min(flat.shape):
        raise ValueError(f"{channels} components need as many examples and numbers; given {tuple(data.shape)}")
    mean = flat.mean(0)
    components = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:channels]
    kept = {"weight": components.T.contiguous(), "mean": mean}
    return {name: value.to(torch.promote_types(data.dtype, torch.float32)) for name, value in kept.items()}
