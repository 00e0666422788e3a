"""The encoder and decoder that the kinds "kl" and "vq" share: residual blocks at several resolutions.

Letters in shapes: B batch, C channels of data, Z channels of latents, E channels inside, `...` one to three axes of
space or time.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from reverie.autoencoders.base import AutoencoderConfig, AutoencoderNet
from reverie.autoencoders.shared import chained, lowered, require_space, wide
from reverie.nets.base import at_least_one
from reverie.nets.blocks import BlockStyle, SpatialAttention
from reverie.nets.layers import CONVOLUTIONS, conv
from reverie.nets.resampling import Downsample, Resampling, Upsample

TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@dataclass(frozen=True)
class ConvolutionalConfig(AutoencoderConfig):
    """Settings of an encoder and a decoder as in latent diffusion (Rombach et al., 2022), for small data by default."""

    width: int = 32
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of each level, in units of `width`; a level has half the resolution of the one before, so that sides of
    latents are f = 2^(levels - 1) times smaller than those of data."""
    blocks: int = 1
    """Residual blocks a level of the encoder; the decoder has one more."""
    channels: int = 4
    """Z, those of latents."""
    attention: bool = True
    """Whether there is self-attention between the two blocks at the lowest resolution."""
    groups: int = 32
    """Groups of channels in a norm, or the next smaller number that divides them, ..."""
    group_width: int = 4
    """... of at least so many channels each."""
    eps: float = 1e-6
    """Added to variances in norms."""
    straight: bool = True
    """Whether a linear map of each patch of f values a side is added to what leaves the encoder, and one of each vector
    of latents to what leaves the decoder: what is lost then falls faster from the first steps on (as with the shortcuts
    of Chen et al., 2025, DC-AE, section 3.2, which have no weights). With Z no less than the numbers of a patch, these
    two alone may lose nothing."""
    halved: tuple[bool, ...] = ()
    """Which axes of space have half the size in the next level, such as [false, true, true] for short videos; all."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        sizes = ("width", "blocks", "channels", "groups", "group_width")
        at_least_one(self.kind, "autoencoder", **{name: getattr(self, name) for name in sizes})
        if not self.multipliers:
            raise ValueError(f"multipliers of autoencoder {self.kind!r} need at least one level, such as (1, 2, 4)")
        at_least_one(self.kind, "autoencoder", multipliers=min(self.multipliers))
        if not self.eps > 0:
            raise ValueError(f"eps of autoencoder {self.kind!r} must be above 0, given {self.eps}")

    def latent(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        require_space(self.kind, shape)
        rank, last = len(shape) - 1, len(self.multipliers) - 1
        if self.halved and len(self.halved) != rank:
            raise ValueError(
                f"halved of autoencoder {self.kind!r} must be a list of {rank} for examples of {tuple(shape)}, one "
                f"for each axis of space; given {list(self.halved)}"
            )
        factors = tuple(factor**last for factor in self.factors(rank))
        return (self.channels, *lowered(self.kind, shape, factors, "fewer multipliers"))

    def factors(self, rank: int) -> tuple[int, ...]:
        """For each axis of space, 2 where it is halved from level to level, else 1."""
        return tuple(1 + h for h in self.halved or (True,) * rank)

    def style(self, rank: int) -> BlockStyle:
        """What all blocks have in common; there is no embedding, and one head of attention."""
        return BlockStyle(
            embedding=0,
            resampling=Resampling(self.factors(rank)),
            heads=1,
            groups=self.groups,
            group_width=self.group_width,
            eps=self.eps,
        )


class Residual(nn.Module):
    """skip(h) + conv(SiLU(norm(conv(SiLU(norm(h)))))), (B, E, ...) -> (B, E', ...); the skip of kernel 1 if E != E'."""

    def __init__(self, style: BlockStyle, channels: int, out: int) -> None:
        """`channels` is E, `out` E'."""
        super().__init__()
        self.norm_in = style.norm(channels, silu=True)
        self.conv_in = conv(style.rank, channels, out)
        self.norm_out = style.norm(out, silu=True)
        self.conv_out = conv(style.rank, out, out)
        self.skip = conv(style.rank, channels, out, 1) if channels != out else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, E, ...)."""
        inner = self.conv_out(self.norm_out(self.conv_in(self.norm_in(h))))
        return self.skip(h) + inner


class ConvolutionalNet(AutoencoderNet):
    """The encoder's layers and the decoder's, in the order that examples pass them.

    - encoder: a convolution; at each level, blocks, and what halves: a convolution of stride 2 with zeros behind the
      last value; block, attention, block; norm, SiLU, convolution; a convolution with a kernel of 1;
    - decoder: the same in reverse, with one block more a level, doubling by repeating each value and a convolution;
    - with `straight`, a convolution beside either, with kernel and stride f, and its transpose

    (Esser et al., 2021; Rombach et al., 2022). Weights begin as torch's, but for the projections of attention, at 0.
    """

    def __init__(self, config: ConvolutionalConfig, shape: tuple[int, ...], encoded: int) -> None:
        """`shape` is (C, ...) of an example; `encoded` channels leave the encoder."""
        config.latent(shape)
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(*_encoder(config, shape, encoded))
        self.decoder = nn.Sequential(*_decoder(config, shape))
        if config.straight:
            f = tuple(factor ** (len(config.multipliers) - 1) for factor in config.factors(len(shape) - 1))
            self.straight_in = CONVOLUTIONS[len(f)](shape[0], encoded, f, f)
            self.straight_out = TRANSPOSED[len(f)](config.channels, shape[0], f, f)  # type: ignore[arg-type]

    def encoded(self, x: Tensor) -> Tensor:
        """What leaves the encoder, (B, encoded, ...) of x (B, C, ...).

        Raises:
            ValueError: f does not divide the sides of x.
        """
        self.config.latent(tuple(x.shape[1:]))
        h = wide(chained(self.encoder, x, self.checkpointing))
        return h + self.straight_in(x) if self.config.straight else h

    def decoded(self, z: Tensor) -> Tensor:
        """What leaves the decoder, (B, C, ...) of z (B, Z, ...)."""
        x = wide(chained(self.decoder, z, self.checkpointing))
        return x + self.straight_out(z) if self.config.straight else x


def _encoder(config: ConvolutionalConfig, shape: tuple[int, ...], encoded: int) -> list[nn.Module]:
    rank, widths = len(shape) - 1, [config.width * m for m in config.multipliers]
    style, coming, deepest = config.style(rank), widths[0], widths[-1]
    layers: list[nn.Module] = [conv(rank, shape[0], coming)]
    for depth, width in enumerate(widths):
        if depth > 0:
            layers.append(Downsample(style.resampling, coming, coming, "behind"))
        for _ in range(config.blocks):
            layers.append(Residual(style, coming, width))
            coming = width
    layers += _middle(style, deepest, config.attention)
    return [*layers, style.norm(deepest, silu=True), conv(rank, deepest, encoded), conv(rank, encoded, encoded, 1)]


def _decoder(config: ConvolutionalConfig, shape: tuple[int, ...]) -> list[nn.Module]:
    rank, widths = len(shape) - 1, [config.width * m for m in config.multipliers]
    style, coming = config.style(rank), widths[-1]
    layers: list[nn.Module] = [conv(rank, config.channels, config.channels, 1), conv(rank, config.channels, coming)]
    layers += _middle(style, coming, config.attention)
    for depth in range(len(widths) - 1, -1, -1):
        for _ in range(config.blocks + 1):
            layers.append(Residual(style, coming, widths[depth]))
            coming = widths[depth]
        if depth > 0:
            layers.append(Upsample(style.resampling, coming, coming))
    return [*layers, style.norm(coming, silu=True), conv(rank, coming, shape[0])]


def _middle(style: BlockStyle, width: int, attention: bool) -> list[nn.Module]:
    between: list[nn.Module] = [SpatialAttention(style, width)] if attention else []
    return [Residual(style, width, width), *between, Residual(style, width, width)]
