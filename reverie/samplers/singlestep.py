r"""Methods that ask the denoiser several times within a step and remember nothing of the steps before.

A step is a list of `Stage`s, each a sum of x and of what the stages before it found:

    x_i = w x + sum_{j < i} w_j k_j,    k_j = a_j x0_j + b_j eps_j at t_j,    the last being x_s.

Letters in shapes: n steps, S stages, B batch, ... the shape of one example.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State
from reverie.schedules import Schedule
from reverie.tensors import Noise, Number, combined, host, right


@dataclass(frozen=True)
class Stage:
    """One point of a step. In float64 of shape (n,) when planned; floats, or (B, 1, ...), when followed."""

    t: Tensor
    """Where the denoiser is asked; for the last stage, s."""
    x: Number
    """w, the weight of x."""
    k: tuple[Number, ...]
    """w_j, one for each stage before."""
    x0: Number
    """a, the weight of x0 in this stage's own k."""
    eps: Number
    """b, that of eps."""
    z: Number = 0.0
    """The standard deviation of the noise that is added, at the last stage."""

    def numbers(self) -> tuple[Number, ...]:
        """All but t."""
        return (self.x, *self.k, self.x0, self.eps, self.z)


Plan = tuple[Stage, ...]


def _stage(t: Tensor, values: list[Number]) -> Stage:
    """A stage of the `numbers` given."""
    return Stage(t, values[0], tuple(values[1:-3]), *values[-3:])


class Singlestep(Sampler):
    """A method given by its stages. All that it computes ahead is its state, which no step changes."""

    @abc.abstractmethod
    def stages(self, schedule: Schedule, t: Tensor, s: Tensor) -> Plan:
        """The stages of n steps from t to s, both (n,) in float64.

        A step does not depend on the others, but that a stage which none of them needs may be left out.
        """

    def start(self, schedule: Schedule, times: Tensor) -> State:
        return _plans(self, schedule, tuple(times.tolist()))

    def planned(self, schedule: Schedule, t: Tensor, s: Tensor) -> Iterator[tuple[tuple[float, float], Plan]]:
        """The plan of each step (n,) by its two times, in floats."""
        for chosen in (s == 0, s != 0):
            ends = torch.stack([t[chosen], s[chosen]], 1).tolist()
            if not ends:
                continue
            stages = self.stages(schedule, t[chosen], s[chosen])
            columns = [
                torch.stack([torch.as_tensor(v, dtype=torch.float64).expand(len(ends)) for v in stage.numbers()], 1)
                for stage in stages
            ]
            values = [column.tolist() for column in columns]
            for i, (high, low) in enumerate(ends):
                steps = zip(stages, values, strict=True)
                yield (high, low), tuple(_stage(stage.t[i], rows[i]) for stage, rows in steps)

    def plan(
        self, schedule: Schedule, x: Tensor, t: Tensor, s: Tensor, known: Mapping[tuple[float, float], Plan]
    ) -> Plan:
        """The stages of the step from t to s, each () or (B,), for x (B, ...)."""
        if t.ndim == s.ndim == 0:
            ends = (t.item(), s.item())
            if ends in known:
                return known[ends]
            return dict(self.planned(schedule, host(t)[None], host(s)[None]))[ends]
        t, s = (host(a).expand(len(x)) for a in (t, s))
        stages = self.stages(schedule, t, s)
        return tuple(
            _stage(stage.t, [v if isinstance(v, float) else right(v, x) for v in stage.numbers()]) for stage in stages
        )

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        *inner, last = self.plan(f.schedule, x, t, s, state or {})
        found: list[list[tuple[Number, Tensor]]] = []
        for stage in inner:
            x_i = _total(stage, x, found) if found else x  # the first is x itself
            found.append(f(x_i, stage.t, cond).terms(stage.x0, stage.eps))
        x_s = _total(last, x, found)
        if isinstance(last.z, float) and last.z == 0:
            return x_s, state
        return combined([(1.0, x_s), (last.z, noise(x))]), state


@lru_cache(maxsize=64)
def _plans(sampler: Singlestep, schedule: Schedule, times: tuple[float, ...]) -> Mapping[tuple[float, float], Plan]:
    """Batch after batch follows the same plans."""
    at = host(times)
    return MappingProxyType(dict(sampler.planned(schedule, at[:-1], at[1:])))


def _total(stage: Stage, x: Tensor, found: list[list[tuple[Number, Tensor]]]) -> Tensor:
    """w x + sum_j w_j k_j, each tensor weighed once."""
    weights: dict[int, tuple[Number, Tensor]] = {id(x): (stage.x, x)}
    for w, k in zip(stage.k, found, strict=True):
        if isinstance(w, float) and w == 0:
            continue
        for c, value in k:
            before = weights.get(id(value))
            weights[id(value)] = (w * c, value) if before is None else (before[0] + w * c, value)
    return combined(list(weights.values()))
