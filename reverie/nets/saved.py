"""What autograd saves in a forward pass, with blocks that are alike gone through once.

Blocks are alike that are of one class with equal settings and sizes, and are given tensors of equal sizes: all of
them save and compute the same. So the second one is not computed; what it would save is taken from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reverie.nets.base import Backbone


@dataclass(frozen=True)
class Saved:
    """Bytes saved for the backward pass of a batch."""

    whole: int
    checkpointed: int


def saved(net: Backbone, *told: Any) -> Saved:  # noqa: ANN401  # as the network
    """Storages that autograd saves in a forward pass: all of them, and those there would be with checkpointing.

    A block that is checkpointed leaves its arguments, and its inside comes back once, alone, in the
    backward pass. So saved tensors are sorted by the block in which they were saved.
    """
    empty = Storages.beside(net)
    args, own = empty.new(), empty.new()
    inside: list[Storages] = []
    known: dict[Hashable, _Block] = {}

    def through(block: Callable[..., Tensor], *told: Tensor | None) -> Tensor:
        args.add(*told)
        inside.append(empty.new())
        kind = kind_of(block, told)
        if kind in known:
            return known[kind].again(told, inside[-1])
        with saving(inside[-1]):
            made = block(*told)
        if _apart(made, told):
            known[kind] = _Block(made, told, inside[-1])
        return made

    with going_through(net, through), saving(own):
        net(*told)
    between, seen = empty.new(), empty.new()
    between.update(own, args)
    seen.update(own, *inside)
    largest = max((block.beyond(between) for block in inside), default=0)
    return Saved(seen.bytes(), between.bytes() + largest)


class _Block:
    """What a block made, and of which storages the tensors were that it saved."""

    def __init__(self, made: Tensor, told: tuple[Tensor | None, ...], inside: Storages) -> None:
        keys = [None if t is None else _key(t) for t in told]
        self._made = made
        self._told = [i for i, key in enumerate(keys) if key in inside.held]
        self._made_is_saved = _key(made) in inside.held
        others = inside.held.keys() - {*keys, _key(made)}
        self._others = sum(inside.held[key].nbytes() for key in others)

    def again(self, told: tuple[Tensor | None, ...], inside: Storages) -> Tensor:
        """What one like it makes of other arguments, and what it saves, into `inside`."""
        # a clone, for the casts of leaves are kept by autocast
        made = torch.empty_like(self._made, requires_grad=self._made.requires_grad).clone()
        others = made.new_empty(self._others, dtype=torch.uint8)
        inside.add(*(told[i] for i in self._told), others, made if self._made_is_saved else None)
        return made


def _apart(made: Tensor, told: tuple[Tensor | None, ...]) -> bool:
    """Whether what a block made fills a storage of its own, as an empty tensor like it does."""
    fills = made.untyped_storage().nbytes() == made.numel() * made.element_size()
    return fills and all(t is None or _key(t) != _key(made) for t in told)


@contextmanager
def going_through(net: Backbone, through: Callable[..., Tensor]) -> Iterator[None]:
    """Inside, blocks of `net` are called by another function."""
    net.through = through  # type: ignore[method-assign]  # stands before the method, until it is deleted
    try:
        yield
    finally:
        del net.through


def kind_of(block: object, told: tuple[Tensor | None, ...]) -> Hashable:
    """Equal for calls that save and compute the same: of blocks whose settings and sizes are equal, given alike."""
    keys = [None if t is None else _key(t) for t in told]
    return _settings(block), tuple(map(_settings, told)), tuple(map(keys.index, keys))


def _settings(part: object) -> Hashable:
    """Of a block or what is in it, equal for two that differ by the numbers in their tensors alone."""
    if isinstance(part, Tensor):
        return part.shape, part.stride(), part.dtype, part.requires_grad
    if isinstance(part, nn.Module):
        return type(part), _settings(vars(part))
    if isinstance(part, partial):
        return _settings(part.func), _settings(part.args), _settings(part.keywords)
    if isinstance(part, Mapping):
        return tuple((name, _settings(value)) for name, value in part.items())
    if isinstance(part, list | tuple):
        return tuple(map(_settings, part))
    if isinstance(part, set):
        return frozenset(part)
    return part if isinstance(part, Hashable) else object()  # which is like nothing else


def _key(tensor: Tensor) -> int:
    """By which storages are told apart, while they are held."""
    return tensor.untyped_storage()._cdata


class Storages:
    """Storages of tensors, each once, but for those of a network's own tensors.

    They are held, so that none is freed and its place taken by another one.
    """

    def __init__(self, left_out: frozenset[int]) -> None:
        self._left_out = left_out
        self.held: dict[int, torch.UntypedStorage] = {}

    @classmethod
    def beside(cls, net: nn.Module) -> Storages:
        """None yet; those of the parameters and buffers of `net` are left out."""
        return cls(frozenset(_key(t) for t in (*net.parameters(), *net.buffers())))

    def new(self) -> Storages:
        """None yet, with the same left out."""
        return Storages(self._left_out)

    def add(self, *tensors: Tensor | None) -> None:
        """Take in those of some tensors."""
        for tensor in tensors:
            if tensor is not None and _key(tensor) not in self._left_out:
                self.held[_key(tensor)] = tensor.untyped_storage()

    def update(self, *others: Storages) -> None:
        """Take in those of others."""
        for other in others:
            self.held |= other.held

    def bytes(self) -> int:
        """Of all."""
        return sum(storage.nbytes() for storage in self.held.values())

    def beyond(self, other: Storages) -> int:
        """Bytes of those that are not in another."""
        return sum(storage.nbytes() for key, storage in self.held.items() if key not in other.held)


@contextmanager
def saving(into: Storages) -> Iterator[None]:
    """Inside, the tensors that autograd saves are counted into `into`."""

    def pack(saved: Tensor) -> Tensor:
        into.add(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        yield
