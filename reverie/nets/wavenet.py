"""A stack of dilated convolutions, for waveforms.

Letters in shapes: B batch, C channels, L samples of a wave, W width, E width of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig, a_fraction, at_least_one
from reverie.nets.embeddings import Embedded
from reverie.nets.layers import Linear, conv, zeroed


@dataclass(frozen=True)
class WaveNetConfig(NetConfig, kind="wavenet", aliases={"diffwave": {}}):
    """Settings of a `WaveNet`; the defaults are those of DiffWave (Kong et al., 2021, its base model)."""

    width: int = 64
    """W, channels of every layer."""
    depth: int = 30
    """Layers."""
    cycle: int = 10
    """After so many layers, each looking twice as far as the one before, the dilation is 1 again."""
    kernel: int = 3
    """Samples that a convolution looks at, odd."""
    embedding: int = 512
    """E, even: the embedding of time and conditions."""
    dropout: float = 0.0
    """On what a layer's gated units put out."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        at_least_one(self.kind, width=self.width, depth=self.depth, cycle=self.cycle, kernel=self.kernel)
        a_fraction(self.kind, self.dropout)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel of net 'wavenet' must be odd, to look as far back as ahead; given {self.kernel}")
        if self.embedding < 2 or self.embedding % 2:
            raise ValueError(f"embedding of net 'wavenet' must be even and at least 2, given {self.embedding}")

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Waveforms and series, (C, L)."""
        return len(shape) == 2 and min(shape) >= 1

    def build(
        self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1
    ) -> WaveNet:
        """A `WaveNet` for waves of `shape` (C, L)."""
        self.require(shape)
        return WaveNet(self, shape, conditions, inputs, outputs)

    def dilations(self, length: int) -> tuple[int, ...]:
        """Of every layer: 1, 2, 4, ... of a cycle, over and over, those left out that reach beyond `length` samples.

        >>> WaveNetConfig(depth=5, cycle=3).dilations(100), WaveNetConfig(depth=5).dilations(4)
        ((1, 2, 4, 1, 2), (1, 2, 1, 2, 1))
        """
        cycle = min(self.cycle, max(1, (length - 1).bit_length()))
        return tuple(2 ** (i % cycle) for i in range(self.depth))


class WaveNet(Backbone):
    """Dilated convolutions with gates, each adding to what comes out (van den Oord et al., 2016; Kong et al., 2021).

        h <- (h + residual) / sqrt(2),  out = Conv(ReLU(Conv(sum of skips / sqrt(depth))))

    It looks ahead as far as back, and reads waves of any length. An output depends on the
    `receptive_field` samples around it. A spectrogram is told as an image, brought to the wave's length.
    Convolutions are initialised as in DiffWave, after He et al. (2015); the last one is 0.
    """

    def __init__(
        self, config: WaveNetConfig, shape: tuple[int, ...], conditions: Conditions, inputs: int, outputs: int
    ) -> None:
        """`shape` is (C, L); on L only the largest dilation depends."""
        super().__init__(shape, conditions, config.embedding, inputs, outputs, features=min(128, config.embedding))
        width, dilations = config.width, config.dilations(shape[1])
        self.receptive_field = 1 + (config.kernel - 1) * sum(dilations)
        self.enter = conv(1, self.channels_in, width, 1)
        self.layers = nn.ModuleList(
            WaveLayer(config, dilation, last=i == config.depth - 1) for i, dilation in enumerate(dilations)
        )
        self.mix = conv(1, width, width, 1)
        for layer in (self.enter, self.mix):
            nn.init.kaiming_normal_(layer.weight)
        self.out = zeroed(conv(1, width, self.channels_out, 1))

    def body(self, h: Tensor, told: Embedded) -> Tensor:
        h = F.relu(self.enter(h))
        skips: Tensor | None = None
        for layer in self.layers:
            made = self.through(layer, h, told.e)
            skip = made[:, -self.mix.in_channels :]
            skips = skip if skips is None else skips + skip
            if made.shape[1] > skip.shape[1]:
                h = (h + made[:, : self.mix.in_channels]) * 0.5**0.5
        assert skips is not None  # there is at least one layer
        return self.out(F.relu(self.mix(skips * len(self.layers) ** -0.5)))


class WaveLayer(nn.Module):
    """(B, W, L) and an embedding (B, E) -> residual and skip together, (B, 2 W, L); the last layer: skip alone.

        a, b = Conv(h + Linear(e));  residual, skip = Conv(tanh(a) * sigmoid(b))

    (van den Oord et al., 2016, equation 2; the embedding as in Kong et al., 2021, section 3.)
    """

    def __init__(self, config: WaveNetConfig, dilation: int, last: bool) -> None:
        """`last`: nothing follows that could read a residual."""
        super().__init__()
        width = config.width
        self.told = Linear(config.embedding, width)
        self.gated = conv(1, width, 2 * width, config.kernel, dilation=dilation)
        self.dropout = nn.Dropout(config.dropout)
        self.leave = conv(1, width, width if last else 2 * width, 1)
        for layer in (self.gated, self.leave):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, W, L), `e` (B, E)."""
        a, b = self.gated(h + self.told(e)[:, :, None]).chunk(2, dim=1)
        return self.leave(self.dropout(a.tanh() * b.sigmoid()))
