"""What all linear multistep methods have in common.

Letters in shapes: B batch, k values remembered, N steps, ... the shape of one example or of the times.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from reverie.brownian import increment
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.prediction import Prediction
from reverie.samplers.base import Sampler, State
from reverie.schedules import Level, Schedule
from reverie.tensors import Noise, Number, combined, host, number, right

PURE = 1000.0
"""The sigma / alpha beyond which x is as good as pure noise: a signal of a millionth of the variance."""
NOISY = 1.0
"""The sigma / alpha down to which `Multistep.crossing` goes from there."""


@dataclass(frozen=True)
class Weights:
    """x_s = x x_t + sum_j m_j (value j) + z (noise), for times of shape (...)."""

    x: Tensor
    """(...)"""
    m: Tensor
    """(k, ...), newest first."""
    z: Tensor | None = None
    """(...), the standard deviation of the noise; None for none."""


@dataclass(frozen=True)
class Planned:
    """What a step needs to know of its times."""

    value: tuple[float, float]
    x: float
    m: tuple[float, ...]
    z: float | None
    crossing: bool = False
    """Whether the step is that of `Multistep.crossing`, with its values."""


@dataclass(frozen=True)
class Remembered:
    """A value m = scale * tensor that the denoiser gave at t."""

    t: Tensor
    scale: float
    tensor: Tensor
    told: Prediction | None = None
    """All that the denoiser said, kept where any other value may yet be wanted."""


@dataclass(frozen=True)
class Rows:
    """The weights of one step for R rows of times: x_s = x x_t + sum_j m_j (a_j x0_j + b_j eps_j) + z (noise)."""

    x: Tensor
    """(R,)"""
    m: Tensor
    """(k, R), newest first, as are a and b."""
    a: Tensor
    b: Tensor
    z: Tensor | None = None
    """(R,)"""


@dataclass(frozen=True)
class History:
    """The values remembered, newest first, how many steps are done, and the plan of all, if there is one."""

    values: tuple[Remembered, ...] = ()
    done: int = 0
    plan: tuple[Planned | None, ...] | None = None
    began: Tensor | None = None
    """The first time of the run, () or (B,); None before it is known."""


class Multistep(Sampler):
    r"""x_s = w x + sum_j w_j m_j (+ w_z z) with what the denoiser said at the last k times, one evaluation a step.

    m_j = a_j x0_j + b_j eps_j at t_j, where t_0 is the present time. A method says what it remembers
    (`value`) and how much each counts (`predictor`, in float64, for many steps at once).

    A `corrector` takes the step from t_1 to t_0 again when m_0 is known. Its x is not computed: as

        corrected x = predicted x + sum_j (corrector - predictor)_j m_j,

    the difference goes into the weights of the step after (in the manner of UniC: Zhao et al., 2023),
    so it costs neither an evaluation nor a copy of x. Both weigh x and the noise alike.

    Where alpha = 0, log-SNR and sigma / alpha are infinite, and the steps from there do not shrink in them however
    many there are: a method in them would be of order 2 at most. Unless it is defined there (`from_noise`), a
    deterministic method that begins at sigma / alpha > 1000 leaves the steps that begin above 1 to `crossing`,
    and has all its values where it takes over. One with noise takes the step from alpha = 0 by DDIM, and remembers
    nothing of it.
    """

    from_noise: bool = False
    """Whether `value` and `predictor` are defined where alpha = 0."""

    @property
    def memory(self) -> int:
        """How many values the predictor uses at most."""
        return self.order

    @property
    def crossing(self) -> Multistep | None:
        """What takes the noisy steps of a run that begins in pure noise; None for nothing.

        Adams' method in the angle, of one order more, as the last of its steps is not corrected.
        """
        from reverie.samplers.adams import Adams

        return Adams(min(self.order + 1, 6)) if self.deterministic and not self.from_noise else None

    @abc.abstractmethod
    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        """(a, b) at levels in float64 of any shape: what is remembered is a x0 + b eps."""

    @abc.abstractmethod
    def predictor(self, nodes: Level, s: Level) -> Weights:
        """The weights of the step from the first of `nodes` (k, ...) to s (...), k = 1 ... memory.

        No node has sigma = 0; s.sigma is positive throughout, or 0 throughout: the last step.
        """

    def corrector(self, nodes: Level) -> Weights | None:
        """The weights of the step from the second of `nodes` (k, ...) to the first, k = 2 ... memory + 1.

        None where nothing is corrected. A method of order 3 that has no corrector otherwise needs one
        for k = 2, as its first step, with one value known, has a local error of order 2.
        """
        return None

    def init(self) -> State:
        return History()

    def start(self, schedule: Schedule, times: Tensor) -> State:
        times = host(times)
        return History(plan=_plan(self, schedule, tuple(times.tolist())), began=times[0])

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        q = f(x, t, cond)
        if state.plan is None:
            return self._unplanned(f.schedule, q, t, s, noise, state)
        plan, values, memory = state.plan[state.done], state.values, self.memory
        if plan is None:
            b = f.schedule.at(s, like=x)
            return q.mix(number(b.alpha), number(b.sigma)), replace(state, done=state.done + 1)
        if plan.crossing:
            memory = max(memory, len(plan.m))
        elif values and values[0].told is not None:
            values = self._own(f.schedule, values)
        new = _remembered(*q.linear(*plan.value), x, t)
        values = (replace(new, told=q) if plan.crossing else new, *values[:memory])
        terms = [(plan.x, x), *((w * v.scale, v.tensor) for w, v in zip(plan.m, values, strict=False))]
        if plan.z is not None:
            terms.append((plan.z, increment(noise, x, t, s)))
        return combined(terms), replace(state, values=values, done=state.done + 1)

    def plan(self, schedule: Schedule, times: Tensor, cross: bool = True) -> tuple[Planned | None, ...]:
        """Every step along times (N + 1,), all those with as many values behind them at once.

        Without `cross` none is one of `crossing`, and the step from where alpha = 0 is None, which is DDIM's.
        """
        n = len(times) - 1
        silent = not self.from_noise and float(schedule.alpha(times[0])) == 0
        oldest = first = int(silent)  # the first of which the value is known, the first with weights of its own
        plan: list[Planned | None] = [None] * n
        if cross and self.crossing is not None and bool(beyond(PURE, schedule, times[0])):
            first = int(beyond(NOISY, schedule, times[:-1]).sum())
            crossed = self.crossing.plan(schedule, times[: first + 1])
            plan[:first] = [None if p is None else replace(p, crossing=True) for p in crossed]
        groups: dict[tuple[int, bool], list[int]] = {}
        for i in range(first, n):
            again = i > first  # whether the step before was of these weights too
            groups.setdefault((min(i - oldest + 1, self.memory + again), again), []).append(i)
        for (k, again), group in groups.items():
            steps = torch.tensor(group)
            nodes = times[steps - torch.arange(k)[:, None]]
            w = self._weights(schedule, nodes, times[steps + 1], again)
            a, b = self.value(levels(schedule, nodes[0]))
            zs = [None] * len(steps) if w.z is None else [z or None for z in w.z.tolist()]  # none in the last
            columns = zip(group, a.tolist(), b.tolist(), w.x.tolist(), w.m.T.tolist(), zs, strict=True)
            for i, a_i, b_i, x, m, z in columns:
                plan[i] = Planned((a_i, b_i), x, tuple(m), z)
        return tuple(plan)

    def rows(self, schedule: Schedule, nodes: Tensor, s: Tensor, began: Tensor) -> Rows:
        """The step of many examples, each with times of its own, from the first of nodes (k, R) to s (R,).

        `began` (R,): the first time of the run. All those of one kind are weighed at once: whether they and the
        steps before are those of `crossing`, how many values are usable, and how many are known.
        """
        silent = (schedule.alpha(nodes) == 0) & (not self.from_noise)
        crossed = beyond(NOISY, schedule, nodes) & beyond(PURE, schedule, began) & (self.crossing is not None)
        kinds, kind = torch.unique(torch.stack([silent, crossed]), dim=-1, return_inverse=True)
        m, a, b = nodes.new_zeros(3, *nodes.shape)
        found, some = Rows(torch.zeros_like(s), m, a, b, torch.zeros_like(s)), False
        for i, (hidden, over) in enumerate(kinds.movedim(-1, 0).tolist()):
            where = kind == i
            known, ahead = nodes[:, where], s[where]
            if hidden[0] and not over[0]:  # DDIM's step, x_s = alpha_s x0 + sigma_s eps
                found.a[0, where], found.b[0, where] = schedule.alpha(ahead), schedule.sigma(ahead)
                found.m[0, where] = 1
                continue
            method: Multistep = self.crossing or self if over[0] else self
            usable = len(known) if over[0] or True not in hidden else hidden.index(True)
            again = usable > 1 and over[0] == over[1]  # whether the step before was of these weights too
            known = known[: min(usable, method.memory + again)]
            w = method._weights(schedule, known, ahead, again)
            k = len(w.m)
            found.x[where], found.m[:k, where] = w.x, w.m
            found.a[: len(known), where], found.b[: len(known), where] = method.value(levels(schedule, known))
            if w.z is not None and found.z is not None:
                found.z[where], some = w.z, True
        return found if some else replace(found, z=None)

    def _unplanned(
        self, schedule: Schedule, q: Prediction, t: Tensor, s: Tensor, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        """A step of times () or (B,) of which nothing was known ahead."""
        began = host(t) if state.began is None else state.began
        values = (Remembered(host(t), 1.0, q.x, told=q), *state.values)
        *nodes, end, first = torch.broadcast_tensors(*(v.t for v in values), host(s), began)
        w = self.rows(schedule, torch.stack(nodes).reshape(len(nodes), -1), end.reshape(-1), first.reshape(-1))

        def each(a: Tensor) -> Number:
            return number(right(a.reshape(end.shape), q.x))

        terms = [(each(w.x), q.x)]
        for v, m, a, b in zip(values, w.m, w.a, w.b, strict=True):
            if v.told is not None and bool(m.any()):
                terms += v.told.terms(each(m * a), each(m * b))
        if w.z is not None and bool(w.z.any()):
            terms.append((each(w.z), increment(noise, q.x, t, s)))
        deepest = self.memory if self.crossing is None else max(self.memory, self.crossing.memory)
        return combined(terms), History(values[: deepest + 1], state.done + 1, None, began)

    def _own(self, schedule: Schedule, values: tuple[Remembered, ...]) -> tuple[Remembered, ...]:
        """Values of `crossing` as values of this method, those from before a time where alpha = 0 left out."""
        made = []
        for v in values[: self.memory]:
            level = levels(schedule, v.t)
            if v.told is None or not float(level.alpha):
                break
            a, b = self.value(level)
            made.append(_remembered(*v.told.linear(a.item(), b.item()), v.told.x, v.t))
        return tuple(made)

    def _weights(self, schedule: Schedule, nodes: Tensor, s: Tensor, again: bool = True) -> Weights:
        """Nodes (k, ...), s (...), of at most one axis.

        `again`: with the corrector of the step before, if there was one, folded in.
        """
        last = s == 0
        if bool(last.any()) and not bool(last.all()):
            found = [self._weights(schedule, nodes[:, where], s[where], again) for where in (~last, last)]
            x, m = s.clone(), nodes.new_zeros(nodes.shape)
            z = None if all(w.z is None for w in found) else torch.zeros_like(s)
            for where, w in zip((~last, last), found, strict=True):
                x[where] = w.x
                m[: len(w.m), where] = w.m
                if z is not None and w.z is not None:
                    z[where] = w.z
            return Weights(x, m, z)
        known, k = levels(schedule, nodes), self.memory
        w = self.predictor(_first(known, 0, k), levels(schedule, s))
        corrected = self.corrector(known) if again and len(nodes) > 1 else None
        if corrected is None:
            return w
        before = self.predictor(_first(known, 1, k), _first(known, 0, None))
        assert torch.allclose(corrected.x, before.x, rtol=1e-9), "predictor and corrector weigh x differently"
        m = nodes.new_zeros(nodes.shape)
        m[: len(corrected.m)] += corrected.m
        m[1 : 1 + len(before.m)] -= before.m
        m *= w.x
        m[: len(w.m)] += w.m
        return Weights(w.x, m, w.z)


@lru_cache(maxsize=64)
def _plan(sampler: Multistep, schedule: Schedule, times: tuple[float, ...]) -> tuple[Planned | None, ...]:
    """Batch after batch follows the same plan."""
    return sampler.plan(schedule, host(times))


def beyond(ratio: float, schedule: Schedule, t: Tensor) -> Tensor:
    """Whether sigma / alpha > ratio."""
    return schedule.sigma(t) > ratio * schedule.alpha(t)


def levels(schedule: Schedule, t: Tensor) -> Level:
    """The levels at times of any shape, all in float64."""
    return Level(t, schedule.alpha(t), schedule.sigma(t))


def _first(nodes: Level, start: int, count: int | None) -> Level:
    """`count` of the nodes from `start` on; without a count that one alone, without its axis."""
    at = start if count is None else slice(start, start + count)
    return Level(nodes.t[at], nodes.alpha[at], nodes.sigma[at])


def _remembered(c: Number, d: Number, value: Tensor, x: Tensor, t: Tensor) -> Remembered:
    """c x + d value as d times a tensor."""
    assert isinstance(c, float) and isinstance(d, float), "a plan has one time for all examples"
    return Remembered(t, d, value if c == 0 else torch.add(value, x, alpha=c / d))


def extrapolated_data(nodes: Level) -> Weights:
    r"""The last step, to sigma = 0, of a method that remembers x0: x0 extrapolated, where others take the last one.

    With rho = sigma / alpha, d x / alpha = eps d rho along the flow, so x0'(rho) = -rho eps'(rho): x0
    has no linear term at 0. The function of 1, rho^2, ..., rho^k through k values is taken to rho = 0;
    its error is of order k + 1, and 2 for k = 1, where it is x0 itself.
    """
    rho = nodes.sigma / nodes.alpha
    k = len(rho)
    powers = torch.tensor([0, *range(2, k + 1)], dtype=rho.dtype)
    scaled = (rho / rho[0]).movedim(0, -1)  # (..., k)
    basis = scaled[..., None, :] ** powers[:, None]  # (..., power, node)
    value = torch.zeros(k, dtype=rho.dtype)
    value[0] = 1
    m = torch.linalg.solve(basis, value.expand(basis.shape[:-1])).movedim(-1, 0)
    return Weights(torch.zeros_like(rho[0]), m)
