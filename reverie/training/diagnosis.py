"""Where a loss stopped being a finite number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from reverie.losses import Loss
from reverie.models import Autoencoder, Model
from reverie.tensors import non_finite
from reverie.training.batches import Batch


class NonFiniteError(RuntimeError):
    """The loss or the gradient is not finite; the message says where it began."""


def first_non_finite(model: Model, loss: Loss, batch: Batch, memory: nn.Module | None = None) -> tuple[str, str]:
    """The noise levels of the examples concerned and the first tensor that is not finite, in words.

    The batch is evaluated again with a hook on every module: weights are looked at first, then the
    data, then each module's output in the order of computation, then the loss, then the gradients.
    What the loss learns counts as weights.
    """
    whole = nn.ModuleDict({"net": model.net} if memory is None else {"net": model.net, "loss": memory})
    for name, p in whole.named_parameters():
        if found := non_finite(p.detach()):
            return _levels(model, loss, batch, batch.u), f"the weight {name} ({found})"
    if found := non_finite(batch.x0):
        return _levels(model, loss, batch, batch.x0.flatten(1).sum(1)), f"the data ({found})"
    seen: list[str] = []

    def hook(name: str) -> Callable[..., None]:
        def look(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not seen and (found := non_finite(output.detach())):
                seen.append(f"the output of {name}, a {type(module).__name__} ({found})")

        return look

    handles = [m.register_forward_hook(hook(name)) for name, m in whole.named_modules() if name]
    try:
        with torch.enable_grad():
            values = loss(model, batch.x0, batch.u, batch.cond, batch.noise(), memory)
    finally:
        for handle in handles:
            handle.remove()
    levels = _levels(model, loss, batch, values.detach())
    if seen:
        return levels, seen[0]
    if found := non_finite(values.detach()):
        return levels, f"the loss itself ({found})"
    whole.zero_grad()
    values.mean().backward()
    for name, p in whole.named_parameters():
        if p.grad is not None and (found := non_finite(p.grad)):
            return levels, f"the gradient of {name} ({found})"
    grads = {name: p.grad for name, p in whole.named_parameters() if p.grad is not None}
    largest = max(grads, key=lambda name: float(grads[name].abs().max()))
    if torch.stack([grad.norm() for grad in grads.values()]).norm().isfinite():
        return levels, "nothing when the batch is evaluated again"
    return levels, f"the norm of the gradients; the largest is {float(grads[largest].abs().max()):.3g}, of {largest}"


def _levels(model: Model, loss: Loss, batch: Batch, values: Tensor) -> str:
    """Those of the examples whose `values` (B,) are not finite, or of all; an autoencoder has none."""
    if isinstance(model, Autoencoder):
        return "none"
    t = loss.times_at(batch.u, model.schedule)
    bad = ~torch.isfinite(values).cpu()
    t = (t[bad] if bool(bad.any()) else t).sort().values
    sigma = model.schedule.sigma(t)
    shown = ", ".join(f"{float(a):.3g} (sigma {float(b):.3g})" for a, b in zip(t[:4], sigma[:4], strict=True))
    return f"t = {shown}" + (f" and {len(t) - 4} more" if len(t) > 4 else "")
