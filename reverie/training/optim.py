"""The optimizer and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from reverie.recipe import Train


def learning_rate(step: int, train: Train) -> float:
    """The rate of step number `step` from 0: a linear rise over `warmup` steps times the decay."""
    rise = min(1.0, (step + 1) / max(train.warmup, 1))
    done = min(step / max(train.steps, 1), 1.0)
    fall = {"none": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[train.decay]
    return train.lr * rise * fall


def optimizer(model: nn.Module, train: Train) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019) over all parameters."""
    return torch.optim.AdamW(model.parameters(), lr=train.lr, betas=train.betas, weight_decay=train.weight_decay)
