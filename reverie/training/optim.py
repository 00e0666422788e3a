"""The optimizer and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from reverie.recipe import Train
from reverie.training.muon import Muon


def learning_rate(step: int, train: Train) -> float:
    """The rate of step number `step` from 0: a linear rise over `warmup` steps times the decay."""
    rise = min(1.0, (step + 1) / max(train.warmup, 1))
    done = min(step / max(train.steps, 1), 1.0)
    fall = {"none": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[train.decay]
    return train.lr * rise * fall


def optimizer(model: nn.Module, train: Train, device: torch.device | str = "cpu") -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019) over all parameters, or over those that `Muon` leaves to it.

    It is one kernel on a CPU and on CUDA. On a CPU too that takes a half to a quarter of the time of one
    operation after the other.
    """
    fused = torch.device(device).type in ("cpu", "cuda") or None
    if train.optimizer == "muon":
        return Muon(model, train.lr, train.betas, train.weight_decay, fused)
    settings = {"lr": train.lr, "betas": train.betas, "weight_decay": train.weight_decay}
    return torch.optim.AdamW(model.parameters(), fused=fused, **settings)  # type: ignore[arg-type]


@torch.no_grad()
def settle(optimizer: torch.optim.Optimizer) -> None:
    """Bring a state that was read from files where the optimizer wants it.

    The moments take the layout of their parameter, and one kernel for all counts its steps on their device.
    """
    for group in optimizer.param_groups:
        for p in group["params"]:
            for key, value in optimizer.state.get(p, {}).items():
                if value.ndim:
                    optimizer.state[p][key] = torch.empty_like(p).copy_(value)
                elif group["fused"]:
                    optimizer.state[p][key] = value.to(p.device)
