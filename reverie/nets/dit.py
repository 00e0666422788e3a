"""Diffusion transformer: an image, a video or a series as a sequence of patches.

Letters in shapes: B batch, C channels, `...` one to three axes, L tokens (registers and patches), E width, D width of
a head, L' tokens of a condition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Conditions
from reverie.nets.attention import CrossAttention, SelfAttention
from reverie.nets.base import NOTHING, Backbone, NetConfig, a_fraction, at_least_one, known_words, spatial
from reverie.nets.embeddings import Embedded
from reverie.nets.kernels import layer_norm
from reverie.nets.layers import Linear, zeroed
from reverie.nets.patches import join, split
from reverie.nets.positions import rotary, sinusoidal_positions

SIZES = {
    "dit-s": {"depth": 12, "width": 384, "heads": 6},
    "dit-b": {"depth": 12, "width": 768, "heads": 12},
    "dit-l": {"depth": 24, "width": 1024, "heads": 16},
    "dit-xl": {"depth": 28, "width": 1152, "heads": 16},
}
"""The published sizes (Peebles & Xie, 2023, table 1), all with patches of 2."""


@dataclass(frozen=True)
class DiTConfig(NetConfig, kind="dit", aliases=SIZES):
    """Settings of a `DiT` (Peebles & Xie, 2023); `dit-s`, `dit-b`, `dit-l` and `dit-xl` are the published sizes."""

    patch: int | tuple[int, ...] = 2
    """Side of a patch, one number for all axes or one for each; halving it in all of d axes makes 2^d tokens of one."""
    width: int = 128
    """E, a multiple of 4 and of `heads`."""
    depth: int = 6
    """Blocks."""
    heads: int = 4
    """Attention heads a block."""
    mlp_ratio: int = 4
    """Hidden units of a block's MLP, in units of `width`."""
    positions: Literal["sinusoidal", "rotary"] = "sinusoidal"
    """How tokens know their place: sines and cosines added once, as published, or rotary in every block (`rotary`)."""
    qk_norm: bool = False
    """Whether queries and keys are normalised, which keeps large models stable (`QKNorm`)."""
    registers: int = 0
    """Learned tokens beside the patches, thrown away at the end (Darcet et al., 2024)."""
    long_skips: bool = False
    """Whether early blocks are joined to late ones (Bao et al., 2023, U-ViT)."""
    factorised: bool = False
    """Whether blocks attend by turns within a frame and across frames, the first axis being time."""
    dropout: float = 0.0
    """On what a block's attention and MLP add."""
    period: float = 10_000.0
    """The longest period of the 256 sines and cosines of the time label, in units of 2 pi."""
    mlp_eps: float = 1e-6
    """Added to the variance in the norm before a block's MLP; 1e-6 as published, diffusers has 1e-5."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        known_words(self)
        at_least_one(self.kind, width=self.width, depth=self.depth, heads=self.heads, mlp_ratio=self.mlp_ratio)
        for side in (self.patch,) if isinstance(self.patch, int) else self.patch:
            at_least_one(self.kind, patch=side)
        a_fraction(self.kind, self.dropout)
        if self.width % 4 or self.width % self.heads:
            raise ValueError(
                f"width of net 'dit' must be a multiple of 4 and of heads={self.heads}, given {self.width}"
            )
        if self.registers < 0:
            raise ValueError(f"registers of net 'dit' must be at least 0, which is none; given {self.registers}")
        if self.period <= 1 or self.mlp_eps <= 0:
            given = f"{self.period} and {self.mlp_eps}"
            raise ValueError(f"period of net 'dit' must be above 1 and mlp_eps above 0, given {given}")

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """(C, ...) with one to three axes."""
        return spatial(shape)

    def build(self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1) -> DiT:
        """A `DiT` for examples of `shape`, (C, ...) with one to three axes.

        Raises:
            ValueError: there are other axes than these, or than the settings are for; or more than fit the width.
        """
        self.require(shape)
        axes = len(shape) - 1
        if not isinstance(self.patch, int) and len(self.patch) != axes:
            raise ValueError(
                f"patch={self.patch} of net 'dit' is for {len(self.patch)} axes, and examples of shape {tuple(shape)} "
                f"have {axes}; give one number, or one for each"
            )
        if self.factorised and axes < 2:
            raise ValueError(
                "factorised=true of net 'dit' needs an axis of time and one of space at least; "
                f"examples of shape {tuple(shape)} have one axis: leave it false"
            )
        if self.positions == "rotary":
            rotary((1,) * axes, self.width // self.heads, torch.device("meta"))
        else:
            sinusoidal_positions((1,) * axes, self.width, torch.device("meta"))
        return DiT(self, shape, conditions, inputs, outputs)


class DiT(Backbone):
    """A transformer over patches, its blocks modulated by time and conditions (adaLN-zero).

        h = patches W + positions                       (B, L, E), behind registers if there are any
        h = block_i(h, e, tokens)                       i = 0..depth - 1
        out = join((LN(h) (1 + scale(e)) + shift(e)) W')

    - Positions are functions of the grid of patches, so that any size may come in, whatever was built for.
    - Tokens of the condition are attended to in every block, and pooled into e as for every backbone.
    - With long skips, block i of the first ones is joined to block depth - 1 - i, leaving one or two in the
      middle: h <- h + [h, h_i] W''. This is the concatenation of Bao et al. (2023), which they found the best of
      five, but for starting at 0 and so at the network without.
    - Factorised, blocks 0, 2, ... attend within each frame, blocks 1, 3, ... along time at each place (Ma et al.,
      2024, variant 1, of a video). Each frame has registers of its own, the same at the start, which take part as
      if they were places.

    Weights start as published: Xavier-uniform with biases of 0 in all linear maps, standard deviation 0.02 in
    those of the time and in the table of classes, 0 in what modulates and in the output.
    """

    def __init__(
        self, config: DiTConfig, shape: tuple[int, ...], conditions: Conditions, inputs: int, outputs: int
    ) -> None:
        """`shape` is (C, ...); examples of other sizes may come in."""
        super().__init__(
            shape, conditions, config.width, inputs, outputs, features=256, period=config.period, multiple=config.patch
        )
        self.config, self.patch = config, self.multiple
        width, area = config.width, math.prod(self.patch)
        self.enter = Linear(self.channels_in * area, width)
        self.registers = nn.Parameter(0.02 * torch.randn(config.registers, width)) if config.registers else None
        self.blocks = nn.ModuleList(DiTBlock(config, bool(conditions.tokens)) for _ in range(config.depth))
        self.joins = (config.depth - 1) // 2 if config.long_skips else 0
        self.skips = nn.ModuleList(Linear(2 * width, width) for _ in range(self.joins))
        self.modulation = Linear(width, 2 * width)
        self.out = Linear(width, self.channels_out * area)
        self._initialise()

    def _initialise(self) -> None:
        """As the class says."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        small = [self.conditioning.time_in, self.conditioning.time_out, self.conditioning.table]
        for layer in small:
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
        for layer in (self.modulation, self.out, *self.skips, *(block.modulation for block in self.blocks)):
            zeroed(layer)

    def body(self, h: Tensor, told: Embedded) -> Tensor:
        grid = tuple(n // p for n, p in zip(h.shape[2:], self.patch, strict=True))
        frames = grid[0] if self.config.factorised else 1
        h, turns = self._placed(self.enter(split(h, self.patch)), grid, frames)
        kept: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i >= self.config.depth - self.joins:
                h = h + self.skips[len(kept) - 1](torch.cat([h, kept.pop()], dim=-1))
            across = self.config.factorised and i % 2 == 1
            sequences = h.shape[1] // frames if across else frames
            h = exchanged(h, frames) if across else h
            h = self.through(partial(block, sequences=sequences), h, told.e, told.tokens, told.mask, turns[i % 2])
            h = exchanged(h, sequences) if across else h
            if i < self.joins:
                kept.append(h)
        shift, scale = self.modulation(told.e).chunk(2, dim=1)
        return join(self.out(layer_norm(self._patches(h, frames), scale, shift)), self.patch, grid)

    def _placed(
        self, h: Tensor, grid: tuple[int, ...], frames: int
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        """Patches with their positions, behind the registers of their frame, and the rotations of even and odd blocks.

        Registers have no sines and cosines; rotations take them to be at the first place of their frame.
        """
        device, dtype = h.device, self.enter.weight.dtype
        h, turn = h.to(dtype), None  # under autocast, sums over the blocks are in the dtype of the weights
        if self.config.positions == "rotary":
            turn = rotary(grid, self.config.width // self.config.heads, device, dtype)
        else:
            h = h + sinusoidal_positions(grid, self.config.width, device, dtype)
        if self.registers is not None:
            own = self.registers.to(h.dtype).expand(len(h), frames, -1, -1)
            h = torch.cat([own, h.unflatten(1, (frames, -1))], dim=2).flatten(1, 2)
            if turn is not None:
                turn = turn.unflatten(1, (frames, -1))
                turn = torch.cat([turn[:, :, :1].expand(-1, -1, len(self.registers), -1), turn], dim=2).flatten(1, 2)
        return h, (turn, exchanged(turn, frames) if turn is not None and self.config.factorised else turn)

    def _patches(self, h: Tensor, frames: int) -> Tensor:
        """`h` without the registers of its frames."""
        if self.registers is None:
            return h
        return h.unflatten(1, (frames, -1))[:, :, len(self.registers) :].flatten(1, 2)


class DiTBlock(nn.Module):
    """adaLN-zero (Peebles & Xie, 2023, section 3.2): (B, L, E) and an embedding (B, E) -> (B, L, E).

        h <- h + gate * attention(LN(h) * (1 + scale) + shift)
        h <- h + gate'' * attention(LN(h) * (1 + scale'') + shift'', tokens)     if there are tokens
        h <- h + gate' * MLP(LN(h) * (1 + scale') + shift')

    All shifts, scales and gates come from one linear map of the embedding that starts at 0: the block starts
    as the identity. Attention to tokens stands where Chen et al. (2023, PixArt-alpha) have it; they leave it
    without modulation and gate, here it is treated as the others are, its three last in the map.
    """

    def __init__(self, config: DiTConfig, crosses: bool = False) -> None:
        """`crosses`: whether there are tokens to attend to, of width E = `config.width`."""
        super().__init__()
        width, hidden = config.width, config.width * config.mlp_ratio
        self.mlp_eps = config.mlp_eps
        self.modulation = zeroed(Linear(width, (9 if crosses else 6) * width))
        self.attention = SelfAttention(width, config.heads, config.qk_norm)
        self.cross = CrossAttention(width, config.heads, width, config.qk_norm) if crosses else None
        self.inner = Linear(width, hidden)
        self.outer = Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        h: Tensor,
        e: Tensor,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        turn: Tensor | None = None,
        sequences: int = 1,
    ) -> Tensor:
        """One block.

        Args:
            h: (B, L, E).
            e: (B, E).
            tokens: (B, L', E), given if the block was built for them.
            mask: (B, L') bool, True where a token may be looked at; None: everywhere.
            turn: (2, L, D), rotary positions.
            sequences: into how many of equal length L falls, one behind the other, each attending to itself alone.
        """
        shift, scale, gate, shift2, scale2, gate2, *rest = self.modulation(e).chunk(6 if self.cross is None else 9, 1)
        h = gated(h, gate, self.dropout(self.attention(layer_norm(h, scale, shift), turn, sequences)))
        if self.cross is not None:
            assert tokens is not None  # it was built for them
            shift3, scale3, gate3 = rest
            h = gated(h, gate3, self.dropout(self.cross(layer_norm(h, scale3, shift3), tokens, mask)))
        inner = F.gelu(self.inner(layer_norm(h, scale2, shift2, self.mlp_eps)), approximate="tanh")
        return gated(h, gate2, self.dropout(self.outer(inner)))


def exchanged(h: Tensor, sequences: int) -> Tensor:
    """Tokens (..., L, E) of so many sequences, one behind the other, with the two axes of L exchanged."""
    return h.unflatten(-2, (sequences, -1)).transpose(-3, -2).flatten(-3, -2)


def gated(h: Tensor, gate: Tensor, made: Tensor) -> Tensor:
    """h + gate * made for (B, L, E), (B, E) and (B, L, E)."""
    return h + gate[:, None] * made
