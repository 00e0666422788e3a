"""What is optimised: the model through its loss, with what the loss learns or remembers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.losses import Loss
from reverie.models import Model
from reverie.tensor_files import misfits
from reverie.training.batches import Batch
from reverie.training.state import Tensors, optimizer_tensors, restore_optimizer


class Objective(nn.Module):
    """The model, its loss and the loss's memory, so that data parallel wraps them together."""

    def __init__(self, model: Model, loss: Loss, memory: nn.Module | None = None) -> None:
        super().__init__()
        self.model, self.loss, self.memory = model, loss, memory

    def forward(self, batch: Batch) -> Tensor:
        """The loss (B,) of each example. A `Batch` comes through data parallel as it is, its u on the host."""
        return self.loss(self.model, batch.x0, batch.u, batch.cond, batch.noise(), self.memory)


_OWN, _OPTIMIZER = "memory/", "optimizer/"


def memory_tensors(memory: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """A loss's memory as `memory/<name>`, and the optimizer's of its parameters as `optimizer/<name>/<quantity>`."""
    own = {f"{_OWN}{name}": t for name, t in memory.state_dict().items()}
    return {**own, **{f"{_OPTIMIZER}{name}": t for name, t in optimizer_tensors(memory, optimizer).items()}}


def restore_memory(memory: nn.Module, optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what `memory_tensors` gave.

    Raises:
        ValueError: it is another loss's.
    """
    own = {name.removeprefix(_OWN): t for name, t in tensors.items() if name.startswith(_OWN)}
    if wrong := misfits(memory.state_dict(), own):
        raise ValueError(f"the saved state has another memory than the loss: {'; '.join(wrong[:3])}")
    memory.load_state_dict(own)
    of_optimizer = {name.removeprefix(_OPTIMIZER): t for name, t in tensors.items() if name.startswith(_OPTIMIZER)}
    restore_optimizer(memory, optimizer, of_optimizer)
