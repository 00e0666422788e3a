"""RefineNet, the network of NCSN: dilated residual blocks whose results are refined from coarse to fine.

Letters in shapes: B batch, C channels, `...` one to three axes of space, E width of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig, at_least_one, over, spatial
from reverie.nets.embeddings import Embedded
from reverie.nets.layers import Linear, conv, zeroed

AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class RefineNetConfig(NetConfig, kind="refinenet", aliases={"ncsn": {}}):
    """Settings of a `RefineNet`; the defaults are those of NCSN for CIFAR-10 (Song & Ermon, 2019, appendix A)."""

    width: int = 128
    """Channels of the first stage; all others have twice as many."""
    blocks: int = 2
    """Residual blocks of a stage."""
    halvings: int = 1
    """Stages behind the first that halve the resolution."""
    dilations: tuple[int, ...] = (2, 4)
    """Stages behind those, which look further instead: the dilation of their convolutions."""
    embedding: int = 128
    """E, even: the embedding of time and conditions, which every norm reads."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        at_least_one(self.kind, width=self.width, blocks=self.blocks, dilations=min((1, *self.dilations)))
        if self.embedding < 2 or self.embedding % 2:
            raise ValueError(f"embedding of net 'refinenet' must be even and at least 2, given {self.embedding}")
        if self.halvings < 0:
            raise ValueError(f"halvings of net 'refinenet' must be a number of stages or 0, given {self.halvings}")

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Anything with one to three axes of space."""
        return spatial(shape)

    def build(
        self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1
    ) -> RefineNet:
        """A `RefineNet` for examples of `shape` (C, ...)."""
        self.require(shape)
        return RefineNet(self, shape, conditions, inputs, outputs)


class RefineNet(Backbone):
    """Residual blocks at falling resolution, then rising dilation; refined back to the top (Song & Ermon, 2019).

        down:  d_1 = blocks(conv(x)),  d_k = blocks(d_{k-1})          halved, or dilated
        up:    r_K = refine(d_K),      r_k = refine(d_k, r_{k+1})     (Lin et al., 2017)

    Every norm is the paper's conditional instance norm++ with one change: its three numbers a channel are
    linear in the embedding of time and conditions, where the paper has a table with a row for each of its
    levels of noise. So it reads any time, between the paper's levels as well.
    """

    def __init__(
        self, config: RefineNetConfig, shape: tuple[int, ...], conditions: Conditions, inputs: int, outputs: int
    ) -> None:
        """`shape` is (C, ...), of which the axes of space may have any sizes."""
        super().__init__(shape, conditions, config.embedding, inputs, outputs, multiple=2**config.halvings)
        rank, width, embedding = self.rank, config.width, config.embedding
        steps = [(1, False), *[(1, True)] * config.halvings, *[(d, False) for d in config.dilations]]
        widths = [width, *[2 * width] * (len(steps) - 1)]
        self.enter = conv(rank, self.channels_in, width)
        self.down = nn.ModuleList()
        for i, (dilation, halve) in enumerate(steps):
            entering = [widths[max(0, i - 1)], *[widths[i]] * (config.blocks - 1)]
            self.down.append(
                nn.ModuleList(
                    DilatedBlock(rank, n, widths[i], embedding, dilation, halve and j == 0)
                    for j, n in enumerate(entering)
                )
            )
        self.up = nn.ModuleList()
        for i, n in enumerate(widths):
            last = i == len(widths) - 1
            entering = [n] if last else [n, widths[i]]
            self.up.append(Refine(rank, entering, n if i == 0 else widths[i - 1], embedding, final=i == 0))
        self.norm = InstanceNormPlus(width, embedding)
        self.out = zeroed(conv(rank, width, self.channels_out))

    def body(self, h: Tensor, told: Embedded) -> Tensor:
        h, stages = self.enter(h), []
        for blocks in self.down:
            for block in blocks:  # type: ignore[attr-defined]
                h = self.through(block, h, told.e)
            stages.append(h)
        refined: tuple[Tensor, ...] = ()
        for refine, stage in zip(reversed(self.up), reversed(stages), strict=True):
            refined = (self.through(refine, told.e, stage, *refined),)
        return self.out(F.elu(self.norm(refined[0], told.e)))


class InstanceNormPlus(nn.Module):
    """Conditional instance norm++ (Song & Ermon, 2019, equation 7 and appendix A), (B, C, ...) -> same.

        gamma (h - mu) / sigma + beta + alpha (mu - m) / v,   (gamma, alpha, beta) = (1, 1, 0) + Linear(e)

    mu and sigma are mean and standard deviation of a channel over space, m and v those of mu over channels:
    what the instance norm removes, the difference of the channels' means, comes back weighed by alpha.

    It starts as published, with beta 0, and gamma and alpha near 1: the weights that tell these two start with a
    standard deviation of 0.02.
    """

    def __init__(self, channels: int, embedding: int, eps: float = 1e-5) -> None:
        """`channels` is C, `embedding` E; `eps` is added to both variances."""
        super().__init__()
        self.eps = eps
        self.told = zeroed(Linear(embedding, 3 * channels))
        nn.init.normal_(self.told.weight[: 2 * channels], std=0.02)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, C, ...), `e` (B, E)."""
        gamma, alpha, beta = self.told(e).chunk(3, dim=1)
        wide = h.to(torch.promote_types(h.dtype, torch.float32))  # half precision has too few bits for a variance
        var, mu = torch.var_mean(wide.flatten(2), dim=2, correction=0)
        v, m = torch.var_mean(mu, dim=1, correction=0, keepdim=True)
        scale = (1 + gamma) * (var + self.eps).rsqrt()
        shift = beta + (1 + alpha) * (mu - m) * (v + self.eps).rsqrt()
        return ((wide - over(mu, h)) * over(scale, h) + over(shift, h)).to(h.dtype)


class Units(nn.Module):
    """Residual units one after the other, h <- h + conv(ELU(norm(conv(ELU(norm(h)))))), (B, C, ...) -> same."""

    def __init__(self, rank: int, channels: int, embedding: int, count: int) -> None:
        """`count` units; the other sizes as in `DilatedBlock`."""
        super().__init__()
        self.units = nn.ModuleList(DilatedBlock(rank, channels, channels, embedding) for _ in range(count))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, C, ...), `e` (B, E)."""
        for unit in self.units:
            h = unit(h, e)
        return h


class DilatedBlock(nn.Module):
    """skip(h) + conv(ELU(norm(conv(ELU(norm(h)))))), its convolutions dilated, or its result halved by averaging.

    (B, C, ...) and an embedding (B, E) -> (B, C', ...) or (B, C', .../2).
    """

    def __init__(
        self, rank: int, channels: int, out: int, embedding: int, dilation: int = 1, halve: bool = False
    ) -> None:
        """`channels` is C, `out` C', `embedding` E; `halve`: all sizes are even."""
        super().__init__()
        self.rank, self.halve = rank, halve
        self.norm_in = InstanceNormPlus(channels, embedding)
        self.conv_in = conv(rank, channels, channels, dilation=dilation)
        self.norm_out = InstanceNormPlus(channels, embedding)
        self.conv_out = conv(rank, channels, out, dilation=dilation)
        self.skip = conv(rank, channels, out, 1) if channels != out else nn.Identity()

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, C, ...), `e` (B, E)."""
        inner = self.conv_in(F.elu(self.norm_in(h, e)))
        out: Tensor = self.skip(h) + self.conv_out(F.elu(self.norm_out(inner, e)))
        return AVERAGE[self.rank](out, 2) if self.halve else out


class Refine(nn.Module):
    """A RefineNet block (Lin et al., 2017, section 3.2, with averages for maxima as in Song & Ermon, 2019).

    Residual units on every input; each through a convolution and up to the size of the first, and the sum of
    them; pooling in a chain; residual units. (B, C_i, .../s_i) of each input -> (B, C', ...).
    """

    def __init__(self, rank: int, entering: list[int], out: int, embedding: int, final: bool) -> None:
        """`entering` are the channels of the inputs, `out` is C'; `final`: three units at the end, not one."""
        super().__init__()
        self.rank = rank
        self.adapt = nn.ModuleList(Units(rank, n, embedding, 2) for n in entering)
        fused = len(entering) > 1 or entering[0] != out
        self.fuse = nn.ModuleList(conv(rank, n, out) if fused else nn.Identity() for n in entering)
        self.pool_norms = nn.ModuleList(InstanceNormPlus(out, embedding) for _ in range(2))
        self.pool_convs = nn.ModuleList(conv(rank, out, out, bias=False) for _ in range(2))
        self.leave = Units(rank, out, embedding, 3 if final else 1)

    def forward(self, e: Tensor, *given: Tensor) -> Tensor:
        """`e` is (B, E), `given` the inputs, the finest first."""
        size = given[0].shape[2:]
        made = [fuse(adapt(h, e)) for h, adapt, fuse in zip(given, self.adapt, self.fuse, strict=True)]
        made = [h if h.shape[2:] == size else self._raised(h, size) for h in made]
        return self.leave(self._pooled(sum(made[1:], made[0]), e), e)

    def _raised(self, h: Tensor, size: torch.Size) -> Tensor:
        """Linear interpolation up to `size`."""
        return F.interpolate(h, size=tuple(size), mode=LINEAR[self.rank], align_corners=False)

    def _pooled(self, h: Tensor, e: Tensor) -> Tensor:
        """Chained residual pooling: h + p_1 + p_2, p_k = conv(mean over 5 of norm(p_{k-1})), p_0 = h = ELU(h)."""
        h = path = F.elu(h)
        for norm, convolve in zip(self.pool_norms, self.pool_convs, strict=True):
            bordered = F.pad(norm(path, e), (2,) * 2 * self.rank)  # by hand: avg_pool3d takes no side below 5
            path = convolve(AVERAGE[self.rank](bordered, 5, 1))
            h = h + path
        return h
