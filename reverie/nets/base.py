"""What a backbone is: settings that build a network for one shape of example.

Letters in shapes: B batch, C channels, `...` the axes of space or time of one example (none, one, two
or three of them), `shape` that of one example, (C, ...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reverie.conditioning import Cond, Conditions
from reverie.config import Part, registered
from reverie.nets.embeddings import Conditioning, Embedded

NOTHING = Conditions()


class NetConfig(Part, ABC, family="net"):
    """Settings of a backbone, a frozen dataclass.

    What `build` returns is called as `net(x, label, cond)`:

    - `x`, (B, inputs C, ...), the input, for examples of shape (C, ...);
    - `label`, (B,), the time label: about 0..1000 or a log-SNR of about -5..5;
    - `cond`, a `reverie.conditioning.Cond` or None.

    It returns a tensor of (B, outputs C, ...) in the dtype of `x`, exactly 0 before any training, and
    treats every example alone: no result depends on the other examples of the batch.
    """

    @abstractmethod
    def build(
        self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1
    ) -> Backbone:
        """A new network, initialised from torch's global generator.

        Args:
            shape: the shape of one example, such as (C, H, W).
            conditions: what it will be told besides the time.
            inputs: how many tensors like an example come in, stacked along their first axis.
            outputs: how many go out.

        Raises:
            ValueError: this kind has no use for such a shape; the message names the kinds that do.
        """

    @classmethod
    @abstractmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Whether this kind takes examples of that shape."""

    def require(self, shape: tuple[int, ...]) -> None:
        """Refuse a shape that does not fit.

        Raises:
            ValueError: as in `build`.
        """
        if not self.fits(shape):
            fitting = [kind for kind, cls in registered(NetConfig).items() if cls.fits(shape)]  # type: ignore[attr-defined]
            raise ValueError(
                f"net {self.kind!r} has no use for examples of shape {tuple(shape)}; "
                f"kinds that fit: {', '.join(fitting) or 'none'}"
            )


class Backbone(nn.Module, ABC):
    """A network `net(x, label, cond)`: all that backbones share, around the `body` of each.

        out = crop(body(pad(concat(x, image)), embed(label, cond)))

    Zeros are put behind the last element of every axis up to a multiple, and what was computed there
    is cut off. A conditioning image is stacked onto x along the channels, zeros where it is dropped.

    Args:
        shape: (C, ...), of one example.
        conditions: what the network is told besides the time.
        width: E, of the embedding of time and conditions.
        inputs: how many tensors like an example come in.
        outputs: how many go out.
        features: sines and cosines of the time label; E unless given.
        period: their longest period, in units of 2 pi.
        multiple: of which each axis of space is padded to a multiple, one number for each axis or for all.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        conditions: Conditions,
        width: int,
        inputs: int = 1,
        outputs: int = 1,
        *,
        features: int | None = None,
        period: float = 10_000.0,
        multiple: int | tuple[int, ...] = 1,
    ) -> None:
        super().__init__()
        self.shape, self.inputs, self.conditions = tuple(shape), inputs, conditions
        self.rank = len(shape) - 1
        self.channels_in = inputs * shape[0] + conditions.image
        self.channels_out = outputs * shape[0]
        self.multiple = (multiple,) * self.rank if isinstance(multiple, int) else multiple
        self.checkpointing = False
        self.conditioning = Conditioning(width, conditions, features or width, period)

    @abstractmethod
    def body(self, h: Tensor, told: Embedded) -> Tensor:
        """`h` is (B, channels_in, ...), padded; the result (B, channels_out, ...) of the same size."""

    def forward(self, x: Tensor, label: Tensor, cond: Cond | None = None) -> Tensor:
        """`x` is (B, inputs C, ...), `label` (B,); the result (B, outputs C, ...) in the dtype of `x`.

        Raises:
            ValueError: x or the image has another number of channels or of axes than the network was built for, or
                there is not one time label for each example; or, on the CPU, a class that there is not.
        """
        if x.ndim != self.rank + 2 or x.shape[1] != self.inputs * self.shape[0]:
            wanted = (self.inputs * self.shape[0], *self.shape[1:])
            raise ValueError(
                f"this {type(self).__name__} was built for examples of {wanted}, given {tuple(x.shape[1:])}"
            )
        if label.shape != x.shape[:1]:
            raise ValueError(f"the time label must be of ({len(x)},), one for each example; given {tuple(label.shape)}")
        told = self.conditioning(label, cond)
        h = x if not self.conditions.image else torch.cat([x, self._image(x, cond)], dim=1)
        out = self.body(padded(h, self.multiple), told)
        return cropped(out, x.shape[2:]).to(x.dtype)

    def constrain(self) -> None:
        """After a step of the optimizer, bring the weights back to where the network wants them; most want nothing."""

    def through(self, block: Callable[..., Any], *args: Tensor | None) -> Tensor:
        """`block(*args)`; with `checkpointing`, its inside is forgotten and computed again in the backward pass.

        It costs a second forward pass, and saves all that blocks keep but their inputs (Chen et al., 2016).
        """
        if self.checkpointing and torch.is_grad_enabled():
            made: Tensor = checkpoint(block, *args, use_reentrant=False, preserve_rng_state=True)
            return made
        return block(*args)

    def _image(self, x: Tensor, cond: Cond | None) -> Tensor:
        """(B, C', ...), zeros where there is none or it is dropped."""
        wanted = (len(x), self.conditions.image, *x.shape[2:])
        if cond is None or cond.image is None:
            return x.new_zeros(wanted)
        if tuple(cond.image.shape) != wanted:
            raise ValueError(
                f"the conditioning image must be of {wanted}, the size of x with {self.conditions.image} channels; "
                f"given {tuple(cond.image.shape)}"
            )
        image = cond.image.to(x.dtype)
        hidden = None if self.conditions.keeps_image else cond.hidden("image")
        return image if hidden is None else torch.where(over(hidden, image), 0.0, image)


def over(value: Tensor, like: Tensor) -> Tensor:
    """(B,) or (B, C) as (B, 1, ...) or (B, C, 1, ...), to meet `like`, (B, C, ...)."""
    return value.reshape(*value.shape, *(1,) * (like.ndim - value.ndim))


def padded(x: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """`x`, (B, C, ...), with zeros at the end of every axis of space up to its multiple."""
    missing = [-n % m for n, m in zip(x.shape[2:], multiple, strict=True)]
    return F.pad(x, [v for n in reversed(missing) for v in (0, n)]) if any(missing) else x


def cropped(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """The first `size` elements of every axis of space of `x`, (B, C, ...)."""
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, 0, n) if x.shape[axis] != n else x
    return x


def spatial(shape: tuple[int, ...]) -> bool:
    """Whether `shape` is (C, ...) with one to three axes of space or time, and at least one of each."""
    return 2 <= len(shape) <= 4 and min(shape) >= 1


def at_least_one(kind: str, part: str = "net", /, **settings: int) -> None:
    """Refuse settings below 1 of a part of a recipe, as it is called there.

    Raises:
        ValueError: one of them is; the message names it.
    """
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"{name} of {part} {kind!r} must be at least 1, given {value}")


def known_words(config: NetConfig) -> None:
    """Refuse a word that a setting of words has not.

    Raises:
        ValueError: there is one; the message names the setting and its words.
    """
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            known = " or ".join(map(repr, get_args(hint)))
            raise ValueError(f"{name} of net {config.kind!r} must be {known}, given {getattr(config, name)!r}")


def a_fraction(kind: str, dropout: float) -> None:
    """Refuse a dropout outside [0, 1).

    Raises:
        ValueError: it is outside.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout of net {kind!r} must be at least 0 and below 1, given {dropout}")
