"""Denoisers: (x, t, cond) to a `Prediction`. Wrappers of a denoiser are denoisers.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond, Conditions
from reverie.parameterizations import Parameterization
from reverie.prediction import Prediction
from reverie.schedules import Level, Schedule
from reverie.tensors import Number, host, sent
from reverie.time_labels import LogSNR, TimeLabel


class Denoises(Protocol):
    """All that samplers, guidance, losses and evaluation know of a denoiser."""

    @property
    def schedule(self) -> Schedule:
        """The process that x belongs to."""
        ...

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        """x (B, ...) at t, (B,) or (), with t > 0."""
        ...


class Denoiser(nn.Module):
    """A network read through a schedule, a parameterization and a time label.

        prediction = decode(net(scale(level) x, label(level), cond), x, level)

    The network is called as `net(x, label, cond)` with x (B, ...) and label (B,), in its own dtype
    under whatever autocast is on; x and the prediction keep the dtype they came with. With
    `self_conditioned`, the scaled x and `cond.estimate`, 0 where there is none, are stacked along the
    axis after the batch (Chen et al., 2023).

    Raises:
        ValueError: the parameterization divides by alpha and the schedule ends with alpha = 0.
    """

    def __init__(
        self,
        net: nn.Module,
        schedule: Schedule,
        parameterization: Parameterization,
        label: TimeLabel | None = None,
        self_conditioned: bool = False,
    ) -> None:
        super().__init__()
        parameterization.check(schedule)
        self.net, self.schedule, self.parameterization = net, schedule, parameterization
        self.label = LogSNR() if label is None else label
        self.self_conditioned = self_conditioned

    def forward(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        """The prediction for x (B, ...) at t, (B,) or ()."""
        level = self.schedule.at(t, like=x)
        first = next(self.net.parameters(), x)
        scale = self.parameterization.scale(level)
        seen = x if isinstance(scale, float) and scale == 1 else scale * x
        if self.self_conditioned:
            estimate = torch.zeros_like(x) if cond is None or cond.estimate is None else cond.estimate
            seen = torch.cat([seen, estimate], dim=1)
        out = self.net(seen.to(first.dtype), self._label(level, x, first.dtype), self._told(cond, x, first.dtype))
        return self.parameterization.decode(out.to(x.dtype), x, level, self.schedule)

    @property
    def conditions(self) -> Conditions:
        """What the network is built to read."""
        made: Conditions = getattr(self.net, "conditions", None) or Conditions()
        return made

    def _told(self, cond: Cond | None, x: Tensor, dtype: torch.dtype) -> Cond | None:
        """What the network is told: the label of where the step leads to, in the place of its time."""
        if cond is None or cond.until is None:
            return cond
        until = self._label(self.schedule.at(cond.until, like=x), x, dtype) if self.conditions.until else None
        return replace(cond, until=until)

    def _label(self, level: Level, x: Tensor, dtype: torch.dtype) -> Tensor:
        """The label (B,); nothing waits for it, whether it is made on the device or sent there."""
        exact = torch.promote_types(dtype, torch.float32)  # half precision would round large labels
        label = self.label(level)
        if label.ndim == 0:
            return torch.full((len(x),), label.item(), dtype=exact, device=x.device)
        return sent(label.flatten(), x, exact).expand(len(x))


def self_conditioned(f: Denoises) -> bool:
    """Whether a denoiser wants to be told what it last thought x0 to be."""
    return bool(getattr(f, "self_conditioned", False))


def reads_scale(f: Denoises) -> bool:
    """Whether a denoiser has learned to be guided: it is told the scale, and does by itself what guidance would."""
    known = getattr(f, "conditions", None)
    return bool(getattr(f, "reads_scale", known is not None and known.scale))


def by_row(f: Denoises) -> bool:
    """Whether a denoiser holds something of each example of its batch, given to it or remembered by it.

    Row r of a call is then that of example r % B: it may see the batch filled up with its first examples, or
    several times whole, but no part of it.
    """
    return bool(getattr(f, "by_row", False))


class Rescheduled:
    """The same denoiser under another schedule: match the SNR, then rescale x.

    x / alpha has the same law wherever sigma / alpha agrees, so x0 and eps carry over as they are.
    Levels beyond what the denoiser knows are read at its own noisiest level.
    """

    def __init__(self, denoiser: Denoises, schedule: Schedule) -> None:
        self.denoiser, self.schedule = denoiser, schedule
        self.self_conditioned, self.by_row = self_conditioned(denoiser), by_row(denoiser)
        self.reads_scale = reads_scale(denoiser)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        t, own_schedule = host(t), self.denoiser.schedule
        log_snr = self.schedule.log_snr(t)
        own_t = own_schedule.time(log_snr)
        level, own = self.schedule.at(t, like=x), own_schedule.at(own_t, like=x)
        ratio = ((own.alpha**2 + own.sigma**2) / (level.alpha**2 + level.sigma**2)).sqrt()
        if cond is not None and cond.until is not None:
            cond = replace(cond, until=own_schedule.time(self.schedule.log_snr(host(cond.until))))
        q = self.denoiser(ratio * x, own_t, cond)
        if bool((log_snr >= own_schedule.log_snr(host(1.0))).all()):
            return Prediction(x, level, q.x0, q.eps, q.var)
        return Prediction.from_x0(q.x0, x, level, q.var)


class Wrapper:
    """A denoiser around another one of the same process."""

    def __init__(self, denoiser: Denoises) -> None:
        self.denoiser = denoiser

    @property
    def schedule(self) -> Schedule:
        """That of the denoiser inside."""
        return self.denoiser.schedule

    @property
    def self_conditioned(self) -> bool:
        """As the denoiser inside."""
        return self_conditioned(self.denoiser)

    @property
    def by_row(self) -> bool:
        """As the denoiser inside."""
        return by_row(self.denoiser)

    @property
    def reads_scale(self) -> bool:
        """As the denoiser inside."""
        return reads_scale(self.denoiser)


class Remembering(Wrapper):
    """The denoiser, told at every call what it thought x0 to be at the one before (Chen et al., 2023).

    It remembers, so each trajectory has one of its own. A call with another number of rows is told nothing.
    """

    by_row = True

    def __init__(self, denoiser: Denoises) -> None:
        super().__init__(denoiser)
        self.estimate: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        fits = self.estimate is not None and len(self.estimate) == len(x)
        q = self.denoiser(x, t, replace(cond or Cond(), estimate=self.estimate if fits else None))
        self.estimate = q.x0
        return q


class ToldScale(Wrapper):
    """A denoiser that has learned to be guided, told the scale: one evaluation does what guidance did with two."""

    def __init__(self, denoiser: Denoises, scale: float | Tensor) -> None:
        super().__init__(denoiser)
        self.scale = scale

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        scale = self.scale.to(x) if isinstance(self.scale, Tensor) else x.new_full((len(x),), self.scale)
        return self.denoiser(x, t, replace(cond or Cond(), scale=scale))


class Clipped(Wrapper):
    """The denoiser with x0 held inside [low, high]; eps follows (Ho et al., 2020, released code).

    Raises:
        ValueError: unless low < high.
    """

    def __init__(self, denoiser: Denoises, low: float = -1.0, high: float = 1.0) -> None:
        if not low < high:
            raise ValueError(f"Clipped needs low < high; given low={low}, high={high}")
        super().__init__(denoiser)
        self.low, self.high = low, high

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        q = self.denoiser(x, t, cond)
        return q.with_x0(torch.clamp(q.x0, self.low, self.high))


class FixedRows(Wrapper):
    """The denoiser, always evaluated on the same number of rows at a time, the last ones padded.

    Kernels round differently for different batch sizes, by about 1e-6, which is enough to turn a
    pixel. With a fixed number of rows a sample is the same, bit for bit, in any batch.

    Raises:
        ValueError: a batch that would be taken in parts by a denoiser that goes `by_row`.
    """

    def __init__(self, denoiser: Denoises, rows: int) -> None:
        super().__init__(denoiser)
        self.rows = rows

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        if len(x) > self.rows and self.by_row:
            raise ValueError(
                f"{type(self.denoiser).__name__} holds something of each example and cannot see {len(x)} of them "
                f"{self.rows} at a time; put FixedRows inside it"
            )
        parts = [self.denoiser(*part) for part in self._parts(x, t, cond)]
        var = None if parts[0].var is None else _joined([q.var for q in parts if q.var is not None], x)
        level, told = self.schedule.at(t, like=x), [q.told for q in parts]
        known = [said for said in told if said is not None]
        if len(known) < len(parts):
            return Prediction(x, level, _joined([q.x0 for q in parts], x), _joined([q.eps for q in parts], x), var)
        x0, eps = (
            (_coefficient([h[0] for h in half], x, t), _coefficient([h[1] for h in half], x, t))
            for half in ([said.x0 for said in known], [said.eps for said in known])
        )
        return Prediction.from_linear(_joined([said.value for said in known], x), x, level, x0, eps, var)

    def _parts(self, x: Tensor, t: Tensor, cond: Cond | None) -> Iterator[tuple[Tensor, Tensor, Cond | None]]:
        """`rows` at a time; the first ones again where too few are left."""
        n, several = len(x), _several(x, t)
        if n == self.rows:
            yield x, t, cond
            return
        for first in range(0, n, self.rows):
            index: slice | Tensor = slice(first, first + self.rows)
            own: slice | Tensor = index
            if first + self.rows > n:  # made where they are used: an index from the host would wait for the device
                index = torch.arange(first, first + self.rows, device=x.device) % n
                own = torch.arange(first, first + self.rows, device=t.device) % n
            yield x[index], t[own] if several else t, None if cond is None else cond[index]


def _joined(parts: list[Tensor], x: Tensor) -> Tensor:
    """The rows of all parts, as many as x has."""
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[: len(x)]


def _several(x: Tensor, t: Tensor) -> bool:
    """Whether every example has a time of its own."""
    return t.ndim > 0 and len(t) == len(x)


def _coefficient(parts: list[Number], x: Tensor, t: Tensor) -> Number:
    """A coefficient of all rows: that of any part, where the batch shares it."""
    by_example = [c for c in parts if isinstance(c, Tensor)]
    return _joined(by_example, x) if by_example and _several(x, t) else parts[0]
