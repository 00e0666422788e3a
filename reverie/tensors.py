"""Broadcasting, noise that belongs to the sample, and checks for non-finite numbers.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

Noise = Callable[[Tensor], Tensor]
"""Given a tensor, draws standard normal noise of its shape, dtype and device.

`torch.randn_like` is one; `streams(seeds)` is another, whose noise belongs to the sample."""

Seed = int | tuple[int, ...]


def right(a: Tensor, like: Tensor) -> Tensor:
    """Append singleton axes to `a`, (B,) or (), until it broadcasts against `like`, (B, ...).

    A scalar stays as it is, a float64 number on the host that enters kernels as such; a vector
    takes the dtype and device of `like`.

    Raises:
        ValueError: `a` has more than one axis, or B elements for a batch of another size.
    """
    if a.ndim == 0:
        return a
    if a.ndim != 1 or a.shape[0] not in (1, like.shape[0]):
        raise ValueError(
            f"one number an example: expected shape () or ({like.shape[0]},) for a batch of shape "
            f"{tuple(like.shape)}, given {tuple(a.shape)}"
        )
    return sent(a.reshape(a.shape + (1,) * (like.ndim - 1)), like)


Number = float | Tensor
"""A coefficient: a float, or a tensor that broadcasts against x where it differs by example."""


def number(a: Tensor) -> Number:
    """A tensor without axes as a float, which kernels take cheapest; any other as it is."""
    return a.item() if a.ndim == 0 else a


def combined(terms: Sequence[tuple[Number, Tensor]]) -> Tensor:
    """sum_i c_i x_i for terms (c_i, x_i), at most one kernel a term; a new tensor.

    A first coefficient of 1 saves a kernel.
    """
    (c, x), *rest = terms
    second = rest[0][0] if rest else None
    if isinstance(c, float) and abs(c - 1) < 4e-16 and isinstance(second, float):
        total = torch.add(x, rest[0][1], alpha=second)
        rest = rest[1:]
    else:
        total = x * c
    for c, x in rest:
        if isinstance(c, float):
            total.add_(x, alpha=c)
        else:
            total.addcmul_(x, c.to(x))
    return total


def host(t: Tensor | float | Sequence[float]) -> Tensor:
    """`t` in float64 on the CPU, where schedules are evaluated."""
    return torch.as_tensor(t, dtype=torch.float64, device="cpu")


def _sequence(key: Seed) -> np.random.SeedSequence:
    """Keys that differ give streams that differ, (5,) and (5, 0) too."""
    import numpy as np

    parts = (key,) if isinstance(key, int) else tuple(key)
    return np.random.SeedSequence((len(parts), *parts))


def sent(values: Tensor, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Values on the device of `like`, in its dtype unless told; from the host to a GPU without waiting for it."""
    rounded = values.to(dtype or like.dtype)
    if like.device.type == "cuda" and values.device.type == "cpu":
        return rounded.pin_memory().to(like.device, non_blocking=True)
    return rounded.to(like.device)


class Streams:
    """One stream of standard normal noise a sample, so that a sample's noise is its own.

    Sample i draws from a counter-based generator (Philox; Salmon et al., 2011) keyed by `seeds[i]`,
    in float64, then rounded to the dtype asked for: whatever the batch it is drawn in, whatever the
    device, it gets the same numbers. Each call continues the streams; make a new object to begin
    again.
    """

    def __init__(self, seeds: Sequence[Seed]) -> None:
        import numpy as np

        self.seeds = tuple(seeds)
        self._generators = [np.random.Generator(np.random.Philox(_sequence(s))) for s in self.seeds]

    def __call__(self, like: Tensor) -> Tensor:
        """Noise of the shape, dtype and device of `like`, (B, ...).

        Raises:
            ValueError: B is not the number of seeds.
        """
        import numpy as np

        self.check(like)
        drawn = np.empty((len(self.seeds), count(like.shape[1:])))
        for row, generator in zip(drawn, self._generators, strict=True):
            generator.standard_normal(out=row)
        return sent(torch.from_numpy(drawn).reshape(like.shape), like)

    def check(self, like: Tensor) -> None:
        """Refuse a batch (B, ...) that has not as many examples as there are seeds."""
        if like.shape[0] != len(self.seeds):
            raise ValueError(f"{len(self.seeds)} noise streams for a batch of {like.shape[0]}; give one seed a sample")


def streams(seeds: Sequence[Seed]) -> Streams:
    """Noise that belongs to the sample: see `Streams`.

    >>> like = torch.empty(3, 2)
    >>> bool((streams([5, 6, 7])(like)[1:] == streams([6, 7])(like[1:])).all())
    True
    """
    return Streams(seeds)


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded by a tuple of non-negative integers, such as (seed, step)."""
    import numpy as np

    state = int(_sequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state)


@contextmanager
def global_randomness(*key: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, torch's global generators (dropout uses them) are seeded by `key`; outside, untouched."""
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(generator(*key).initial_seed())
        if device.type == "cuda":
            torch.cuda.manual_seed(generator(*key).initial_seed())
        yield


def non_finite(values: Tensor) -> str:
    """In words, how much of a tensor is not finite; empty when all of it is.

    >>> non_finite(torch.tensor([1.0, float("nan"), float("inf")]))
    '1 nan and 1 infinite of 3 values'
    """
    nan, inf = int(values.isnan().sum()), int(values.isinf().sum())
    if nan == inf == 0:
        return ""
    parts = [f"{nan} nan"] * (nan > 0) + [f"{inf} infinite"] * (inf > 0)
    return f"{' and '.join(parts)} of {values.numel()} values"


def count(shape: Sequence[int]) -> int:
    """How many numbers a tensor of this shape holds."""
    return math.prod(shape)
