"""What reading another project's weights gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Conditions
from reverie.nets.base import Backbone, NetConfig


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A network of another project as ours: how to build it and what to load into it."""

    config: NetConfig
    """Its settings."""
    shape: tuple[int, ...]
    """(C, ...) of an example."""
    conditions: Conditions
    """What it is told."""
    inputs: int = 1
    """Tensors like an example that come in."""
    outputs: int = 1
    """Tensors like an example that go out: 2 with a learned variance behind the prediction."""
    state: dict[str, Tensor]
    """Its weights, under our names."""

    def build(self) -> Backbone:
        """The network, in the dtype of the weights, which it has copies of."""
        with torch.device("meta"):
            net = self.config.build(self.shape, self.conditions, self.inputs, self.outputs)
        net.load_state_dict({name: value.clone() for name, value in self.state.items()}, assign=True)
        return net
