"""U-Net: residual blocks at several resolutions, joined across by skip connections.

Letters in shapes: B batch, C channels, L tokens, `...` one to three axes of space, E width of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reverie.conditioning import Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig, a_fraction, at_least_one, known_words, spatial
from reverie.nets.blocks import BlockStyle, InputPyramid, OutputPyramid, ResidualBlock, Stage, glorot_
from reverie.nets.embeddings import Embedded, Fourier
from reverie.nets.layers import conv, zeroed
from reverie.nets.magnitude import MPBlock, MPConv, forced, may_be_forced, unit
from reverie.nets.resampling import Downsample, Resampling, Upsample
from reverie.nets.unet_sizes import NAMES


@dataclass(frozen=True)
class UNetConfig(NetConfig, kind="unet", aliases=NAMES):
    """Settings of a `UNet`; each family of published U-Nets is a choice of them, and has a name (`unet_sizes`)."""

    width: int = 64
    """Channels at full resolution, even; the embedding has four times as many."""
    multipliers: tuple[int, ...] = (1, 2, 2)
    """Channels of each level, in units of `width`; a level has half the resolution of the one before."""
    blocks: int | tuple[int, ...] = 2
    """Residual blocks a level on the way down; one more on the way up. A list has a number for each level: with few or
    none where the resolution is high, and more where it is low, large pictures take a fraction of the memory and the
    time (Saharia et al., 2022, Imagen, appendix B.1, "Efficient U-Net")."""
    attention: int | tuple[int, ...] = 16
    """Self-attention in levels whose longer side has at most so many pixels; or, for each number of a list, in the
    level that has as many, or comes next below; 0 or an empty list: in the middle alone."""
    attention_up: Literal["every", "last"] = "every"
    """On the way up, attention after every block of such a level, or after its last alone (Song et al., 2021)."""
    head_width: int = 64
    """Channels of an attention head; 64 were best of those that Dhariwal & Nichol (2021, table 2) tried."""
    heads: int = 0
    """Attention heads in every level; 0: one for each `head_width` channels."""
    dropout: float = 0.0
    """Inside residual blocks."""
    scale_shift: bool = True
    """Whether time and conditions scale and shift in residual blocks (Dhariwal & Nichol, 2021), or are added (DDPM)."""
    resample: Literal["conv", "block", "projected"] = "conv"
    """What halves and doubles: a convolution (Ho et al., 2020), a residual block (Dhariwal & Nichol, 2021), or
    one whose skip is a convolution (Song et al., 2021)."""
    zeros: Literal["around", "behind"] = "around"
    """Where a convolution that halves finds zeros: on both sides, or behind the last pixel alone (Ho et al., 2020)."""
    fir: bool = False
    """Whether halving and doubling go through a low-pass filter (Song et al., 2021)."""
    rescale: bool = False
    """Whether sums in blocks are divided by sqrt(2) (Song et al., 2021)."""
    pyramid_in: Literal["none", "skip", "residual"] = "none"
    """How lower levels are told the input: not, halved and added, or by halving convolutions (Song et al., 2021)."""
    pyramid_out: Literal["none", "skip"] = "none"
    """Whether every level adds its part to the output, doubled from level to level (Song et al., 2021)."""
    time: Literal["sinusoidal", "fourier"] = "sinusoidal"
    """Frequencies that embed the time label: geometric, or random, for labels like log sigma (Song et al., 2021)."""
    period: float = 10_000.0
    """Longest period of geometric frequencies, in units of 2 pi."""
    frequency: float = 16.0
    """Standard deviation of random frequencies."""
    groups: int = 32
    """Groups of channels in a norm, or the next smaller number that divides them, ..."""
    group_width: int = 4
    """... of at least so many channels each (Song et al., 2021); DDPM and ADM have 1, and wide enough levels."""
    eps: float = 1e-5
    """Added to variances in norms."""
    initial: Literal["torch", "glorot"] = "torch"
    """Initial weights, but for those that start at 0: torch's (ADM), or Glorot & Bengio's of 2010 (DDPM, NCSN++)."""
    magnitude: bool = False
    """EDM2's blocks, which keep magnitude (Karras et al., 2024); they have nothing that the settings of norms,
    initial weights, `scale_shift`, `resample` and `zeros` could change."""
    halved: tuple[bool, ...] = ()
    """Which axes of space have half the size in the next level, such as [false, true, true] for short videos; all."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        known_words(self)
        sizes = ("width", "head_width", "groups", "group_width")
        at_least_one(self.kind, **{name: getattr(self, name) for name in sizes})
        self._check_blocks()
        a_fraction(self.kind, self.dropout)
        if self.width % 2:
            raise ValueError(f"width of net 'unet' must be even, for pairs of sines and cosines; given {self.width}")
        sides = (self.attention,) if isinstance(self.attention, int) else self.attention
        if min(sides, default=0) < 0:
            raise ValueError(f"attention of net 'unet' must be a side in pixels or 0, or sides; given {self.attention}")
        if not self.multipliers:
            raise ValueError("multipliers of net 'unet' need at least one level, such as (1, 2, 2)")
        at_least_one(self.kind, multipliers=min(self.multipliers))
        if self.heads < 0:
            raise ValueError(f"heads of net 'unet' must be at least 0, given {self.heads}")
        for name in ("eps", "period", "frequency"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of net 'unet' must be above 0, given {getattr(self, name)}")
        pyramids = self.pyramid_in != "none" or self.pyramid_out != "none"
        if self.magnitude and (pyramids or self.rescale):
            raise ValueError("magnitude of net 'unet' has its own sums; leave out pyramid_in, pyramid_out and rescale")

    def _check_blocks(self) -> None:
        if isinstance(self.blocks, int):
            at_least_one(self.kind, blocks=self.blocks)
            return
        given, levels = list(self.blocks), len(self.multipliers)
        if len(given) != levels or min(given) < 0 or given[-1] < 1:
            raise ValueError(
                f"blocks of net 'unet' is a number, or one for each of the {levels} levels, at least 0 and at the last "
                f"at least 1; given {given}"
            )
        if 0 in given and (self.pyramid_in != "none" or self.pyramid_out != "none"):
            raise ValueError(f"a pyramid of net 'unet' needs a block at every level at least; given blocks={given}")

    def blocks_at(self, level: int) -> int:
        """Residual blocks of a level on the way down, 0 being that of the highest resolution."""
        return self.blocks if isinstance(self.blocks, int) else self.blocks[level]

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Anything with one to three axes of space."""
        return spatial(shape)

    def build(
        self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1
    ) -> UNet:
        """A `UNet` for examples of `shape` (C, ...).

        Raises:
            ValueError: it has no axis of space or more than three, or `halved` says nothing of one.
        """
        self.require(shape)
        if self.halved and len(self.halved) != len(shape) - 1:
            raise ValueError(
                f"halved of net 'unet' must be a list of {len(shape) - 1} for examples of {tuple(shape)}, one for "
                f"each axis of space; given {list(self.halved)}"
            )
        return UNet(self, shape, conditions, inputs, outputs)

    def factors(self, rank: int) -> tuple[int, ...]:
        """For each axis of space, 2 where it is halved from level to level, else 1."""
        return tuple(1 + h for h in self.halved or (True,) * rank)

    def attends(self, shape: tuple[int, ...]) -> tuple[bool, ...]:
        """For each level, whether it has attention, for examples of `shape` (C, ...)."""
        last, factors = len(self.multipliers) - 1, self.factors(len(shape) - 1)
        sides = [(n + -n % f**last, f) for n, f in zip(shape[1:], factors, strict=True)]
        longest = [max(n // f**depth for n, f in sides) for depth in range(last + 1)]
        if isinstance(self.attention, int):
            return tuple(side <= self.attention for side in longest)
        nearest = {max((side for side in longest if side <= wanted), default=0) for wanted in self.attention}
        return tuple(side in nearest for side in longest)

    def style(self, rank: int, tokens: bool) -> BlockStyle:
        """What all blocks have in common."""
        return BlockStyle(
            embedding=4 * self.width,
            resampling=Resampling(self.factors(rank), self.fir),
            dropout=self.dropout,
            scale_shift=self.scale_shift,
            rescale=self.rescale,
            heads=self.heads,
            head_width=self.head_width,
            tokens=tokens,
            groups=self.groups,
            group_width=self.group_width,
            eps=self.eps,
        )


class UNet(Backbone):
    """A U-Net of residual blocks, with self-attention where the resolution is low (Ronneberger et al., 2015).

    Down: a convolution, then at each level residual blocks, then what halves. Middle: block, attention,
    block. Up: the levels in reverse, each block taking what is kept of the way down beside its input:
    the results of the first convolution, of every block and of every halving, in reverse
    (Ho et al., 2020; Dhariwal & Nichol, 2021). Time and conditions reach every block by one vector; tokens
    are attended to wherever there is self-attention, after it.

    Examples of any size: zeros are put at the end of every axis that is halved, up to a multiple of
    2^(levels - 1), and what was computed there is cut off.

    What ends a block, and the last convolution, starts at 0.
    """

    def __init__(
        self, config: UNetConfig, shape: tuple[int, ...], conditions: Conditions, inputs: int, outputs: int
    ) -> None:
        """`shape` is (C, ...); of its axes of space only the levels with attention depend."""
        rank, last = len(shape) - 1, len(config.multipliers) - 1
        multiple = tuple(factor**last for factor in config.factors(rank))
        features = config.width * (2 if config.time == "fourier" else 1)
        super().__init__(
            shape, conditions, 4 * config.width, inputs, outputs,
            features=features, period=config.period, multiple=multiple,
        )  # fmt: skip
        if config.time == "fourier":
            self.conditioning.fourier = Fourier(features, config.frequency)
        self.config, self.magnitude = config, config.magnitude
        self.style = config.style(rank, bool(conditions.tokens))
        self._lay_out(config, [config.width * m for m in config.multipliers], config.attends(shape))
        if config.initial == "glorot" and not config.magnitude:
            glorot_(self)
            zeroed(self.out)

    def _lay_out(self, config: UNetConfig, widths: list[int], attends: tuple[bool, ...]) -> None:
        """All levels; lists go from the highest resolution to the lowest."""
        style, last, coming = self.style, len(widths) - 1, widths[0]
        self.enter, kept = self._enter(widths[0]), [widths[0]]
        down, lower = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            blocks = config.blocks_at(i)
            entering = [coming, *[width] * (blocks - 1)] if blocks else []
            down.append(nn.ModuleList(self._stage(n, width, attends[i], descending=True) for n in entering))
            kept += [width] * blocks
            coming = width if blocks else coming
            if i < last:
                lower.append(self._resample(coming, "down"))
                kept.append(coming)
        self.down, self.lower, deepest = down, lower, widths[-1]
        self.middle_in = self._stage(deepest, deepest, True)
        self.middle_out = self._stage(deepest, deepest, False)
        up, higher, coming = [], [], deepest
        for i in range(last, -1, -1):
            stages, blocks = nn.ModuleList(), config.blocks_at(i)
            for j in range(blocks + 1):
                attention = attends[i] and (config.attention_up == "every" or j == blocks)
                stages.append(self._stage(coming + kept.pop(), widths[i], attention))
                coming = widths[i]
            up.append(stages)
            if i > 0:
                higher.append(self._resample(coming, "up"))
        self.up, self.higher = nn.ModuleList(reversed(up)), nn.ModuleList(reversed(higher))
        self._pyramids(config, widths)
        self._leave(style, widths[0])

    def _enter(self, width: int) -> nn.Module:
        if self.magnitude:
            return MPConv(self.rank, self.channels_in + 1, width)  # one more, of ones, for there is no bias
        return conv(self.rank, self.channels_in, width)

    def _stage(self, channels: int, out: int, attention: bool, descending: bool = False) -> nn.Module:
        if self.magnitude:
            return MPBlock(self.style, channels, out, attention, descending=descending)
        return Stage(self.style, channels, out, attention)

    def _resample(self, width: int, way: Literal["down", "up"]) -> nn.Module:
        """What halves or doubles at `width` channels."""
        if self.magnitude:
            return MPBlock(self.style, width, width, resample=way, descending=way == "down")
        if self.config.resample != "conv":
            return ResidualBlock(self.style, width, width, way, projected=self.config.resample == "projected")
        if way == "down":
            return Downsample(self.style.resampling, width, width, self.config.zeros)
        return Upsample(self.style.resampling, width, width)

    def _pyramids(self, config: UNetConfig, widths: list[int]) -> None:
        """For each halving, what tells the input; for each level but the highest, what makes an output."""
        kind, told = config.pyramid_in, nn.ModuleList()
        if kind != "none":
            pyramid = self.channels_in
            for width in widths[:-1]:
                told.append(InputPyramid(self.style, kind, pyramid, width))
                pyramid = width if kind == "residual" else pyramid
        made = widths[1:] if config.pyramid_out == "skip" else []
        self.inputs_told = told
        self.outputs_made = nn.ModuleList(OutputPyramid(self.style, width, self.channels_out) for width in made)

    def _leave(self, style: BlockStyle, width: int) -> None:
        if self.magnitude:
            self.out: nn.Module = MPConv(self.rank, width, self.channels_out)
            self.gain = nn.Parameter(torch.zeros(()))
        else:
            self.norm = style.norm(width, silu=True)
            self.out = zeroed(conv(self.rank, width, self.channels_out))

    def constrain(self) -> None:
        if self.magnitude:
            forced(self)

    def body(self, h: Tensor, told: Embedded) -> Tensor:
        if self.magnitude:
            if may_be_forced(self):
                forced(self)
            h, told = torch.cat([h, torch.ones_like(h[:, :1])], 1), Embedded(unit(told.e), told.tokens, told.mask)
        h, kept = self._descended(h, told)
        for stage in (self.middle_in, self.middle_out):
            h = self.through(stage, h, None, told.e, told.tokens, told.mask)
        image = None
        for i in range(len(self.up) - 1, -1, -1):
            for stage in self.up[i]:  # type: ignore[attr-defined]
                h = self.through(stage, h, kept.pop(), told.e, told.tokens, told.mask)
            if i > 0:
                image = self.outputs_made[i - 1](h, image) if len(self.outputs_made) else None
                h = self._resampled(self.higher[i - 1], h, told)
        if self.magnitude:
            return self.out(h) * self.gain
        out = self.out(self.norm(h))
        return out if image is None else out + self.style.resampling.up(image)

    def _descended(self, h: Tensor, told: Embedded) -> tuple[Tensor, list[Tensor]]:
        """The way down: the result at the lowest resolution, and all that is kept, the first first."""
        pyramid, h = h, self.enter(h)
        kept = [h]
        for i, stages in enumerate(self.down):
            for stage in stages:  # type: ignore[attr-defined]
                h = self.through(stage, h, None, told.e, told.tokens, told.mask)
                kept.append(h)
            if i < len(self.lower):
                h = self._resampled(self.lower[i], h, told)
                if len(self.inputs_told):
                    pyramid, h = self.inputs_told[i](pyramid, h)
                kept.append(h)
        return h, kept

    def _resampled(self, block: nn.Module, h: Tensor, told: Embedded) -> Tensor:
        return self.through(block, h, None, told.e) if self.magnitude else self.through(block, h, told.e)
