"""Muon: steps of matrices whose every direction is equally long."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reverie.faster import computes_bf16

MOMENTUM = 0.95
SIDE = 16
"""Matrices with a shorter side are those that read the data or write it."""
RMS = 0.2
"""Root of the mean square of a step over the learning rate, about that of AdamW (Liu et al., 2025, section 2.2)."""
_A, _B, _C = 3.4445, -4.7750, 2.0315
_TINY = 1e-7


def orthogonal(matrices: Tensor, steps: int = 5, dtype: torch.dtype | None = None) -> Tensor:
    """About U V^T of each matrix (k, m, n) = U S V^T: its directions kept, its singular values brought near 1.

    Newton and Schulz's iteration of fifth order, X <- a X + (b A + c A^2) X with A = X X^T, from the matrix over
    its norm. Its a, b, c are those of Jordan et al. (2024), which lift small singular values fastest and leave
    those above a thousandth of the norm between 0.6 and 1.3, not at 1. A matrix of zeros stays one.

    Args:
        matrices: (k, m, n).
        steps: of the iteration.
        dtype: of the products; that of the matrices unless given. bf16 is enough for a step.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).contiguous()  # the product of the shorter sides is the cheaper one
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + _TINY)
    x = x.to(dtype or x.dtype)
    for _ in range(steps):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if tall else x).to(matrices.dtype)


_computes_bf16 = functools.cache(computes_bf16)


def is_hidden_matrix(p: Tensor) -> bool:
    """Whether a weight, with all axes but the first as one, has `SIDE` rows and columns or more."""
    return p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= SIDE


class Muon(torch.optim.AdamW):
    """Muon for the matrices inside a network, AdamW for all else (Jordan et al., 2024; Liu et al., 2025).

    With the gradient g of a matrix (m, n), the learning rate r and the decay w,

        m <- 0.95 m + 0.05 g,    u = 0.95 m + 0.05 g,    W <- (1 - r w) W - 0.2 r sqrt(max(m, n)) U V^T of u,

    so a step changes a weight by about 0.2 r, as one of AdamW does, and both take the same learning rate. A
    convolution's weight is the matrix of its outputs by all else. Biases, gains, the tables of embeddings, and
    matrices with a side below 16, which read the data or write it, are AdamW's.

    Args:
        model: whose parameters these are.
        lr: learning rate of all.
        betas: of AdamW.
        weight_decay: of all, decoupled.
        fused: whether AdamW is one kernel.
    """

    def __init__(
        self, model: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float, fused: bool | None
    ) -> None:
        tables = {p for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
        kinds: dict[bool, list[Tensor]] = {True: [], False: []}
        for p in model.parameters():
            kinds[is_hidden_matrix(p) and p not in tables].append(p)
        groups = [{"params": ps, "orthogonal": kind} for kind, ps in kinds.items() if ps]
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused)
        self._step_supports_amp_scaling = False  # whoever scales the loss unscales, and skips steps, for both

    def __setstate__(self, state: dict[str, Any]) -> None:
        torch.optim.Optimizer.__setstate__(self, state)  # AdamW's own looks for its state of every parameter

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; returns what `closure`, if given, returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group["orthogonal"]:
                self._step_matrices(group["params"], group["lr"], group["weight_decay"])
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _step_matrices(self, parameters: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p in parameters:
            if p.grad is None:
                continue
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
            momentum = self.state[p]["momentum"]
            self._set(momentum, momentum.lerp(p.grad, 1 - MOMENTUM))
            alike[tuple(p.flatten(1).shape)].append((p, p.grad.lerp(momentum, MOMENTUM).flatten(1)))
        for shape, pairs in alike.items():
            length = RMS * max(shape) ** 0.5 * lr
            matrices = torch.stack([u for _, u in pairs])
            half = matrices.dtype == torch.float32 and _computes_bf16(matrices.device)
            directions = orthogonal(matrices, dtype=torch.bfloat16 if half else None)
            for (p, _), direction in zip(pairs, directions, strict=True):
                self._set(p, (p * (1 - lr * weight_decay)).sub_(direction.reshape(p.shape), alpha=length))

    def _set(self, old: Tensor, new: Tensor) -> None:
        """Replace old by new, unless this step is one to skip: `found_inf`, if there is one, says so on the device."""
        found = getattr(self, "found_inf", None)
        old.copy_(new if found is None else torch.where(found.bool(), old, new))
