"""What a backbone costs: parameters, floating-point operations and memory, found without computing anything.

Letters in shapes: B batch, C channels, C' channels of a conditioning image, L tokens, E width, `...` axes of space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond, Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig
from reverie.nets.kernels.choice import faked

TOKENS = 77
"""L, where nothing else is said: that of CLIP's text encoder (Radford et al., 2021)."""


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


@lru_cache(maxsize=16)
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
        flops = _flops(net, tokens)
    try:
        fewer, more = (_saved_as_on(build, batch, torch.device(device), precision, tokens) for batch in (2, 4))
    except Exception:  # whatever a kernel that knows no fake tensors, or torch without the device, may raise
        with torch.device("meta"):
            fewer, more = (_saved(net, batch, tokens) for batch in (2, 4))
    return Cost(
        parameters=sum(p.numel() for p in net.parameters() if p.requires_grad),
        weights=sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers())),
        flops=flops,
        kept=(more.whole - fewer.whole) // 2,
        checkpointed=(more.checkpointed - fewer.checkpointed) // 2,
        shared=max(0, 2 * fewer.whole - more.whole),
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


def _flops(net: Backbone, tokens: int) -> int:
    """Of a forward pass for one example."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted, torch.no_grad():
        net(*given(net, 1, tokens))
    return int(counted.get_total_flops())


@dataclass(frozen=True)
class _Saved:
    """Bytes saved for the backward pass of a batch."""

    whole: int
    checkpointed: int


def _saved_as_on(
    build: Callable[[], Backbone], batch: int, device: torch.device, precision: str, tokens: int
) -> _Saved:
    """What is saved on `device`, by a network of fake tensors, which have all but their numbers."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with FakeTensorMode(), device:
        net = build()
        with torch.autocast(device.type, half) if half else nullcontext(), faked():
            return _saved(net, batch, tokens)


def _saved(net: Backbone, batch: int, tokens: int) -> _Saved:
    """Storages that autograd saves in a forward pass: all of them, and those there would be with checkpointing.

    A block that is checkpointed leaves its arguments, and its inside comes back once, alone, in the
    backward pass. So saved tensors are sorted by the block in which they were saved.
    """
    seen, args, own = _Storages(net), _Storages(net), _Storages(net)
    inside: list[_Storages] = []

    def through(block: Callable[..., Any], *told: Tensor | None) -> Any:  # noqa: ANN401  # as the block
        args.add(*told)
        inside.append(_Storages(net))
        with _saving(inside[-1]):
            made = block(*told)
        return made

    net.through = through  # type: ignore[method-assign]  # stands before the method, until it is deleted
    try:
        with _saving(own):
            net(*given(net, batch, tokens))
    finally:
        del net.through
    seen.update(own, *inside)
    between = _Storages(net)
    between.update(own, args)
    largest = max((block.beyond(between) for block in inside), default=0)
    return _Saved(seen.bytes(), between.bytes() + largest)


class _Storages:
    """Storages of tensors, each once; those of a network's parameters and buffers are left out.

    They are held, so that none is freed and its place taken by another one.
    """

    def __init__(self, net: nn.Module) -> None:
        self._left_out = {t.untyped_storage()._cdata for t in (*net.parameters(), *net.buffers())}
        self._held: dict[int, torch.UntypedStorage] = {}

    def add(self, *tensors: Tensor | None) -> None:
        """Take in those of some tensors."""
        for storage in (t.untyped_storage() for t in tensors if t is not None):
            if storage._cdata not in self._left_out:
                self._held[storage._cdata] = storage

    def update(self, *others: _Storages) -> None:
        """Take in those of others."""
        for other in others:
            self._held |= other._held

    def bytes(self) -> int:
        """Of all."""
        return sum(storage.nbytes() for storage in self._held.values())

    def beyond(self, other: _Storages) -> int:
        """Bytes of those that are not in another."""
        return sum(storage.nbytes() for key, storage in self._held.items() if key not in other._held)


@contextmanager
def _saving(into: _Storages) -> Iterator[None]:
    """Inside, the tensors that autograd saves are counted into `into`."""

    def pack(saved: Tensor) -> Tensor:
        into.add(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        yield
