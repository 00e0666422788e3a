"""What training a run needs, said before it begins: operations, memory, and what would fit where it does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from reverie import memory
from reverie.models import Autoencoder
from reverie.models.pooled import stacked
from reverie.nets.cost import Cost, cost, cost_of
from reverie.recipe import Recipe, Train
from reverie.runs import Facts, new_model, shape_seen, vocabulary


@dataclass(frozen=True)
class Needs:
    """The cost of a completed recipe's network, and of training it.

    Args:
        recipe: completed.
        facts: of its data.
        device: to train on.
    """

    recipe: Recipe
    facts: Facts
    device: torch.device

    @cached_property
    def network(self) -> Cost:
        """Of the network as it is trained."""
        return self._network(self.recipe.train.precision)

    def _network(self, precision: str) -> Cost:
        recipe, facts = self.recipe, self.facts
        if recipe.kind == "autoencoder":
            return self._autoencoder()
        assert recipe.net is not None
        if recipe.kind != "denoiser":
            return self._guide(precision)
        return cost(
            recipe.net,
            shape_seen(recipe, facts),
            vocabulary(recipe, facts).conditions,
            inputs=2 if recipe.loss.self_conditions else 1,
            outputs=recipe.parameterization.outputs,
            device=self.device,
            precision=precision,
        )

    def _guide(self, precision: str) -> Cost:
        """Of a model that guides: its backbone's, but for the weights; what is behind it takes next to nothing."""
        recipe, shape = self.recipe, shape_seen(self.recipe, self.facts)
        assert recipe.net is not None
        backbone = cost(recipe.net, shape, outputs=stacked(shape), device=self.device, precision=precision)
        with torch.device("meta"):
            net = new_model(recipe, self.facts).net
        weights = sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
        return replace(backbone, parameters=sum(p.numel() for p in net.parameters()), weights=weights)

    def _autoencoder(self) -> Cost:
        """Of an autoencoder: a pass through both halves, as the meta device tells of it, in float32."""
        with torch.device("meta"):
            model = new_model(self.recipe, self.facts)
            assert isinstance(model, Autoencoder)
            return cost_of(model.net, lambda n: model.rebuilt(torch.zeros(n, *self.facts.shape)))

    @property
    def bytes(self) -> int:
        """What a process that trains holds at its peak, about: see `held`."""
        return self._bytes(self.recipe.train)

    def _bytes(self, train: Train) -> int:
        network = self.network if train.precision == self.recipe.train.precision else self._network(train.precision)
        return held(network.training(train.batch, 1 + len(train.ema_lengths), train.checkpointing), self.device)

    @property
    def flops(self) -> int:
        """Of a step of one process: forward and backward, and forward again with checkpointing."""
        train = self.recipe.train
        return (4 if train.checkpointing else 3) * self.network.flops * train.batch * train.accumulate

    def told(self) -> str:
        """A line: network, size, operations, memory."""
        kind = getattr(self.recipe.autoencoder or self.recipe.net, "kind", "")
        free = memory.available(self.device)
        room = "" if free is None else f" of {size(free)} free"
        return (
            f"network: {kind}, {counted(self.network.parameters)} parameters, "
            f"{operations(self.network.flops)} an example; training needs about {size(self.bytes)}{room}"
        )

    def warning(self) -> str:
        """In words, that memory is short and what would fit; empty where it suffices or nobody tells."""
        free = memory.available(self.device)
        if free is None or self.bytes <= free:
            return ""
        fitting = [f"{words} ({size(self._bytes(train))})" for words, train in self._fitting(free)]
        remedy = f"what fits: {', or '.join(fitting)}" if fitting else "not even a batch of 1 fits; take a smaller net"
        where = "" if self.device.type == "cpu" else f" on {self.device}"
        return f"training needs about {size(self.bytes)}, and {size(free)} are free{where}; {remedy}"

    def _fitting(self, free: int) -> list[tuple[str, Train]]:
        """Settings that need no more than `free`, in words: each remedy alone; all together where none is enough."""
        train = self.recipe.train
        checkpointed, half = replace(train, checkpointing=True), replace(train, precision="bf16")
        alone = [checkpointed] * (not train.checkpointing) + [half] * (train.precision == "no")
        found = [made for made in (*alone, *_divided(train)) if self._bytes(made) <= free]
        every = replace(checkpointed, precision="bf16" if train.precision == "no" else train.precision)
        found = found or [made for made in (every, *_divided(every)) if self._bytes(made) <= free][:1]
        first_divided = next((made for made in found if made.batch < train.batch), None)
        return [
            (_difference(train, made), made) for made in found if made.batch == train.batch or made is first_divided
        ]


def _divided(train: Train) -> list[Train]:
    """The same step in 2, 3, 4, ... equal parts, down to batches of 1."""
    parts = [n for n in range(2, train.batch + 1) if train.batch % n == 0]
    return [replace(train, batch=train.batch // n, accumulate=train.accumulate * n) for n in parts]


def _difference(train: Train, made: Train) -> str:
    """The settings in which `made` is another, as words of the command line."""
    names = ("batch", "accumulate", "precision", "checkpointing")
    changed = {name: getattr(made, name) for name in names if getattr(made, name) != getattr(train, name)}
    return " ".join(f"train.{name}={str(value).lower()}" for name, value in changed.items())


def held(tensors: int, device: torch.device) -> int:
    """Bytes that a process grows by to hold so many bytes of tensors at its peak, about.

    On the host 1.3 times as many and 0.2 GB: a heap is not packed without gaps, and convolutions and
    products have buffers of their own. Twelve runs of U-Nets and transformers from 0.25 to 2 GB, in float32
    and bf16, checkpointed or not, all lie within 17 % of it.
    """
    return int(1.3 * tensors + 2e8) if device.type == "cpu" else tensors


def counted(n: int) -> str:
    """A number in millions or thousands.

    >>> counted(7_123_456), counted(950), counted(12_345)
    ('7.1 M', '950', '12.3 k')
    """
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.1f} k" if n >= 1e3 else str(n)


def operations(n: int) -> str:
    """Floating-point operations in thousands of millions, or less.

    >>> operations(1_234_000_000), operations(2_400_000)
    ('1.23 GFLOP', '2.4 MFLOP')
    """
    return f"{n / 1e12:.3g} TFLOP" if n >= 1e12 else f"{n / 1e9:.3g} GFLOP" if n >= 1e9 else f"{n / 1e6:.3g} MFLOP"


def size(n: int) -> str:
    """Bytes.

    >>> size(1_340_000_000), size(25_000_000)
    ('1.3 GB', '25 MB')
    """
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
