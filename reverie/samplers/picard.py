"""Picard iteration: the steps of a solver done all at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.angle import between, polar, slope
from reverie.samplers.base import Sampler, State
from reverie.tensors import Noise, host, right


@dataclass(frozen=True)
class Picard(Sampler, kind="picard", aliases={"paradigms": {}}):
    r"""u_j = u_0 + sum_{i < j} w_ji g(u_i, theta_i), for all points of a step at once, until they stand still.

    Shih et al. (2023), ParaDiGMS, algorithm 1, with the midpoint rule. A step is divided into `steps` parts equal in
    the angle (`reverie.samplers.angle`), each a step of `Midpoint`, which asks the denoiser at two points. One after
    the other they would take 2 steps calls. Here all points are guessed, all slopes g are found in one call of the
    denoiser with (2 steps - 1) B rows, and the sums give better guesses. After i calls the first i points are those of
    the midpoint rule exactly, so after all 2 steps calls every one is. An example stands still, and is left as it
    is, once none of its points moves by more than `tolerance` in the root mean square of u, which is of unit size.

    It pays where the device is idle at B rows: all steps of Picard's together must take less time than those of
    `Midpoint`, whose samples they are. On a mixture in the plane 4 steps of 8 parts took about 25 calls, not 64, to
    a tolerance of 1e-5: a call with 15 B rows may then take 2.5 times as long as one with B. One step of 8 parts took
    about 12 instead of 16: long steps save little. On a machine that B rows keep busy it only costs. A step of the grid
    is the paper's window, and all of it is held in memory.

    The denoiser sees more rows than x has, repeated whole: example j, example j + B, ... A wrapper that holds a
    tensor of B rows, other than `cond`, does not fit.

    Raises:
        ValueError: unless steps >= 1 and tolerance >= 0; 0 makes all the calls.
    """

    steps: int = 8
    tolerance: float = 1e-5

    order = 2

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and self.tolerance >= 0):
            raise ValueError(
                f"Picard needs steps >= 1 and tolerance >= 0; given steps={self.steps}, tolerance={self.tolerance}"
            )

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def adaptive(self) -> bool:
        return self.tolerance > 0

    @property
    def invertible(self) -> bool:
        return True

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        t, s = (host(a).expand(len(x)) for a in (t, s))
        (start, r_t), (end, r_s) = polar(f.schedule, t), polar(f.schedule, s)
        half = (end - start) / (2 * self.steps)  # of a part
        count = 2 * self.steps - 1
        theta = start + torch.arange(1, count + 1, dtype=torch.float64)[:, None] * half  # (count, B)
        times = between(f.schedule, theta, t, s).flatten()
        told = None if cond is None else cond.map(lambda v: torch.cat([v] * count))
        u, sin, cos = x / right(r_t, x), right(half.sin(), x), right(half.cos(), x)

        def sums(slopes: Tensor) -> Tensor:
            """u (2 steps, B, ...) at all points but the first, and at the end, from the slopes at all points."""
            ends = torch.cat([u[None], u + 2 * sin * slopes[1::2].cumsum(0)])
            halves = cos * ends[:-1] + sin * slopes[::2]
            return torch.stack([halves, ends[1:]], 1).flatten(0, 1)

        first = slope(f, u, t, cond)[None]
        guess = sums(first.expand((count + 1, *x.shape)))
        moving = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for _ in range(count):
            found = slope(f, guess[:-1].flatten(0, 1), times, told).reshape(guess[:-1].shape)
            better = sums(torch.cat([first, found]))
            change = (better - guess).flatten(2).square().mean(2).sqrt().amax(0)  # (B,)
            guess = torch.where(right(moving, x).to(torch.bool), better, guess)
            moving = moving & ~(change <= self.tolerance)
            if not bool(moving.any()):
                break
        return right(r_s, x) * guess[-1], state
