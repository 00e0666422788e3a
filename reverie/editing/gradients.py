"""Products with the Jacobian of a denoiser.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Remembering, Wrapper
from reverie.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Traced:
    """A prediction that knows how its x0 depends on x."""

    q: Prediction
    """As the denoiser said it, without a gradient."""
    _x: Tensor
    _x0: Tensor

    def pulled(self, v: Tensor, again: bool = False) -> Tensor:
        """J^T v, (B, ...), of v (B, ...), J = d x0 / d x; for the last time unless told that it is wanted `again`."""
        return torch.autograd.grad(self._x0, self._x, v, retain_graph=again)[0]


def traced(f: Denoises, x: Tensor, t: Tensor, cond: Cond | None) -> Traced:
    """f(x, t, cond), once, also where gradients are switched off around it."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        q = f(leaf, t, cond)
        x0, eps = q.x0, q.eps
    if isinstance(f, Remembering) and f.estimate is not None:
        f.estimate = f.estimate.detach()  # else each step would hold on to all before it
    var = None if q.var is None else q.var.detach()
    return Traced(Prediction(x, f.schedule.at(t, like=x), x0.detach(), eps.detach(), var), leaf, x0)


class Foretold(Wrapper):
    """The denoiser with its answer for one x and t already there, so that a sampler's first question costs nothing."""

    def __init__(self, denoiser: Denoises, q: Prediction) -> None:
        super().__init__(denoiser)
        self._q = q

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        level = self._q.level
        if x is self._q.x and torch.equal(self.schedule.at(t, like=x).t, level.t):
            return self._q
        return self.denoiser(x, t, cond)
