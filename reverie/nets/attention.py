"""Attention of tokens to each other and to those of a condition.

Letters in shapes: B batch, L tokens of an example, S sequences that these fall into, E width, D width of a head,
L' tokens of a condition, of width E'.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.nets import kernels
from reverie.nets.layers import Linear
from reverie.nets.positions import rotated


class SelfAttention(nn.Module):
    """Multi-head attention of tokens to each other, (B, L, E) -> same (Vaswani et al., 2017).

    With rotary positions, norms of queries and keys, and in separate sequences, if wanted.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool = False) -> None:
        """`width` is E, of which `heads` is a divisor."""
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.norm = QKNorm(width // heads) if qk_norm else None

    def forward(self, h: Tensor, turn: Tensor | None = None, sequences: int = 1) -> Tensor:
        """Every sequence attends to itself alone.

        Args:
            h: (B, L, E).
            turn: (2, L, D), rotary positions (`reverie.nets.positions.rotary`).
            sequences: S, all of the same length, one behind the other along L.
        """
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (B, L, heads, D) each, no copy
        if self.norm is not None:
            q, k = self.norm(q, k)
        if turn is not None:
            q, k = rotated(q, turn), rotated(k, turn)
        q, k, v = (part.unflatten(1, (sequences, -1)).flatten(0, 1).transpose(1, 2) for part in (q, k, v))
        made = kernels.attention(q, k, v).transpose(1, 2)  # (B S, L / S, heads, D)
        return self.out(made.reshape(h.shape))


class CrossAttention(nn.Module):
    """Multi-head attention of (B, L, E) to the tokens of a condition, (B, L', E'), with norms if wanted."""

    def __init__(self, width: int, heads: int, context: int, qk_norm: bool = False) -> None:
        """`width` is E, of which `heads` is a divisor, `context` E'."""
        super().__init__()
        self.heads = heads
        self.q, self.kv = Linear(width, width), Linear(context, 2 * width)
        self.out = Linear(width, width)
        self.norm = QKNorm(width // heads) if qk_norm else None

    def forward(self, h: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """`h` is (B, L, E), `tokens` (B, L', E'), `mask` (B, L') bool, True where one may be looked at."""
        q = self.q(h).unflatten(-1, (self.heads, -1))  # (B, L, heads, D)
        k, v = self.kv(tokens).unflatten(-1, (2, self.heads, -1)).unbind(2)  # (B, L', heads, D)
        if self.norm is not None:
            q, k = self.norm(q, k)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return self.out(kernels.attention(q, k, v, mask).transpose(1, 2).flatten(2))


class QKNorm(nn.Module):
    """Queries and keys of length sqrt(D) times a learned scale each (Henry et al., 2020; Esser et al., 2024).

    While the scales are 1, no logit of attention is larger than sqrt(D).
    """

    def __init__(self, width: int) -> None:
        """`width` is D."""
        super().__init__()
        self.q = nn.Parameter(torch.ones(width))
        self.k = nn.Parameter(torch.ones(width))

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Both (..., D)."""
        return rms_norm(q, self.q), rms_norm(k, self.k)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang & Sennrich, 2019), in the dtype of `x`.

    Spelt out, for on a CPU PyTorch's own takes 1.5 to 3 times as long.
    """
    size = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps)
    return x * size.to(x.dtype) * weight.to(x.dtype)
