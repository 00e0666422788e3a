"""Which noise each example is mixed with."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.config import Part


class Pairing(Part, abc.ABC, family="pairing"):
    """Noise (B, ...) to the same rows in an order of its choice."""

    @abc.abstractmethod
    def __call__(self, x0: Tensor, eps: Tensor, cond: Cond | None) -> Tensor:
        """(B, ...), for data x0 (B, ...) and noise eps (B, ...)."""


@dataclass(frozen=True)
class Independent(Pairing, kind="independent"):
    """As it was drawn."""

    def __call__(self, x0: Tensor, eps: Tensor, cond: Cond | None) -> Tensor:
        return eps


@dataclass(frozen=True)
class OptimalTransport(Pairing, kind="optimal_transport"):
    """The order that makes sum_i |x0_i - eps_i|^2 least over the batch (Tong et al., 2024; Pooladian et al., 2023).

    Examples are matched within their class, those without one among themselves: given a class, the
    noise is then still standard normal, which is what sampling starts from. The batch is that of one
    process; its matching costs about B^3 operations on the host.
    """

    def __call__(self, x0: Tensor, eps: Tensor, cond: Cond | None) -> Tensor:
        from scipy.optimize import linear_sum_assignment

        rows = torch.arange(len(x0))
        cost = torch.cdist(x0.flatten(1).cpu().double(), eps.flatten(1).cpu().double()) ** 2
        for group in _groups(len(x0), cond):
            inside = rows[group]
            _, place = linear_sum_assignment(cost[inside][:, inside].numpy())
            rows[inside] = inside[torch.from_numpy(place)]
        return eps[rows.to(eps.device)]


def _groups(n: int, cond: Cond | None) -> list[Tensor]:
    """Masks (n,) of the examples that are told the same class."""
    if cond is None or cond.label is None:
        return [torch.ones(n, dtype=torch.bool)]
    label = cond.label.cpu()
    hidden = cond.hidden("label")
    if hidden is not None:
        label = label.masked_fill(hidden.cpu(), -1)
    return [label == value for value in label.unique()]
