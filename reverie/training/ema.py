"""Exponential moving average of the weights."""

from __future__ import annotations

import torch
from torch import nn


def ema_decay(step: int, decay: float) -> float:
    """min(decay, (1 + step) / (10 + step)): a short memory while little has been learned."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def ema_update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average = decay average + (1 - decay) model, for every parameter; buffers are copied."""
    ours = [p.detach() for p in average.parameters()]
    theirs = [p.detach() for p in model.parameters()]
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for a, b in zip(average.buffers(), model.buffers(), strict=True):
        a.copy_(b)
