"""What a backbone costs: parameters, floating-point operations and memory, found without computing anything.

Letters in shapes: B batch, C channels, C' channels of a conditioning image, L tokens, E width, `...` axes of space.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond, Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig
from reverie.nets.kernels.choice import faked
from reverie.nets.saved import Saved, Storages, going_through, kind_of, saved, saving

TOKENS = 77
"""L, where nothing else is said: that of CLIP's text encoder (Radford et al., 2021)."""

BATCHES = (2, 4)
"""Examples of the two forward passes whose difference says what each example takes."""


@dataclass(frozen=True)
class Cost:
    """What one network costs, by example and altogether."""

    parameters: int
    """Numbers that are trained."""
    weights: int
    """Bytes of parameters and buffers."""
    flops: int
    """Floating-point operations of a forward pass for one example; a multiplication and its addition count 2.

    Matrix products, convolutions and attention are counted, nothing else. A training step takes three
    times as many for each example of its batch: the gradients of inputs and of weights cost a pass each.
    """
    kept: int
    """Bytes for each example that the forward pass keeps for the backward pass, weights aside."""
    checkpointed: int
    """The same with gradient checkpointing: the inputs of all blocks, and the inside of the largest."""
    shared: int
    """Bytes kept whatever the batch, such as the weights in bf16 that autocast makes."""

    def training(self, batch: int, averages: int = 1, checkpointing: bool = False) -> int:
        """Bytes that training with AdamW holds at its peak, about.

            weights (2 + averages) + 12 parameters + shared + batch (kept or checkpointed)

        Weights, their gradients and averages stand in float32 whatever the precision, and so do the two
        moments of AdamW. Measured on U-Nets and transformers at a batch of 32, the peak lies within 22 %
        of it: buffers of convolutions come on top, and gradients are made while activations are freed.

        Args:
            batch: B of one forward pass, accumulated ones not counted.
            averages: copies of the weights that are averages of them.
            checkpointing: whether blocks forget their inside.
        """
        each = self.checkpointed if checkpointing else self.kept
        return self.weights * (1 + averages) + 12 * self.parameters + self.shared + batch * each


@lru_cache(maxsize=64)
def cost(
    config: NetConfig,
    shape: tuple[int, ...],
    conditions: Conditions = NOTHING,
    inputs: int = 1,
    outputs: int = 1,
    *,
    device: torch.device | str = "cpu",
    precision: str = "no",
    tokens: int = TOKENS,
) -> Cost:
    """What the network costs that `config.build` would make of the same arguments.

    Operations are counted on the meta device. Memory is counted over the storages that autograd saves,
    each once, as a fake run on `device` under autocast to `precision` saves them; where there can be no
    such run, as the meta device saves them, in float32.

    Args:
        config: of the network.
        shape: of one example, (C, ...).
        conditions: all are given.
        inputs: tensors like an example that come in.
        outputs: that go out.
        device: on which it is trained.
        precision: no, bf16 or fp16, of mixed precision.
        tokens: L of the conditions, if they have any.

    Raises:
        ValueError: as `config.build`.
    """

    def build() -> Backbone:
        return config.build(shape, conditions, inputs, outputs).train()

    with torch.device("meta"):
        net = build()
        one, *batches = (given(net, batch, tokens) for batch in (1, *BATCHES))
    try:
        fewer, more = _saved_as_on(build, torch.device(device), precision, tokens)
    except Exception:  # whatever a kernel that knows no fake tensors, or torch without the device, may raise
        fewer, more = (saved(net, *told) for told in batches)
    return Cost(
        parameters=sum(p.numel() for p in net.parameters() if p.requires_grad),
        weights=sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers())),
        flops=_flops(net, *one),
        kept=(more.whole - fewer.whole) // 2,
        checkpointed=(more.checkpointed - fewer.checkpointed) // 2,
        shared=max(0, 2 * fewer.whole - more.whole),
    )


def cost_of(net: nn.Module, call: Callable[[int], object]) -> Cost:
    """What a network that is no backbone costs, by what `call` does with it; without checkpointing.

    Args:
        net: the network, on the meta device.
        call: is given the number of examples and passes as many through the network, on the meta device.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted, torch.no_grad():
        call(1)
    saved = []
    for batch in BATCHES:
        storages = Storages.beside(net)
        with saving(storages):
            call(batch)
        saved.append(storages.bytes())
    fewer, more = saved
    return Cost(
        parameters=sum(p.numel() for p in net.parameters() if p.requires_grad),
        weights=sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers())),
        flops=int(counted.get_total_flops()),
        kept=(more - fewer) // 2,
        checkpointed=(more - fewer) // 2,
        shared=max(0, 2 * fewer - more),
    )


def given(net: Backbone, batch: int, tokens: int = TOKENS) -> tuple[Tensor, Tensor, Cond]:
    """Arguments of a call of `net` for B = `batch` examples, on the default device: nothing but shapes is in them."""
    wanted, space = net.conditions, net.shape[1:]
    if wanted.reader is not None:
        tokens = min(tokens, wanted.reader.length)
    own = wanted.tokens if wanted.reader is None else 0
    cond = Cond(
        label=torch.zeros(batch, dtype=torch.int64) if wanted.classes else None,
        vector=torch.zeros(batch, wanted.vector) if wanted.vector else None,
        tokens=torch.zeros(batch, tokens, own) if own else None,
        words=torch.zeros(batch, tokens, dtype=torch.int64) if wanted.reader else None,
        pooled=torch.zeros(batch, wanted.pooled) if wanted.pooled else None,
        mask=torch.ones(batch, tokens, dtype=torch.bool) if wanted.tokens else None,
        image=torch.zeros(batch, wanted.image, *space) if wanted.image else None,
        level=torch.zeros(batch) if wanted.level else None,
    )
    return torch.zeros(batch, net.inputs * net.shape[0], *space), torch.zeros(batch), cond


def _flops(net: Backbone, *told: Any) -> int:  # noqa: ANN401  # as the network
    """Of a forward pass, without what the backward one needs."""
    from torch.utils.flop_counter import FlopCounterMode

    known: dict[Hashable, tuple[int, Tensor]] = {}
    again = 0

    def through(block: Callable[..., Tensor], *told: Tensor | None) -> Tensor:
        nonlocal again
        kind = kind_of(block, told)
        if kind in known:
            flops, made = known[kind]
            again += flops
            return torch.empty_like(made)
        before = counted.get_total_flops()
        made = block(*told)
        known[kind] = counted.get_total_flops() - before, made
        return made

    with FlopCounterMode(display=False) as counted, torch.no_grad(), going_through(net, through):
        net(*told)
    return int(counted.get_total_flops()) + again


def _saved_as_on(build: Callable[[], Backbone], device: torch.device, precision: str, tokens: int) -> list[Saved]:
    """What is saved on `device` of `BATCHES`, by a network of fake tensors, which have all but their numbers."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with FakeTensorMode():
        with device:
            net = build()
            batches = [given(net, batch, tokens) for batch in BATCHES]
        made = []
        for told in batches:
            with torch.autocast(device.type, half) if half else nullcontext(), faked():
                made.append(saved(net, *told))
    return made
