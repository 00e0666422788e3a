"""A second-order sampler of one's own, the midpoint rule, and a check that its order is 2.

From t to s the midpoint rule takes the direction of the flow ODE, dx = x0 d alpha + eps d sigma, half
way: an Euler (DDIM) step to m = (t + s) / 2, then the whole step with what the denoiser says there.

    python examples/own_sampler.py [--toy]
"""

import argparse
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import reverie
from reverie.samplers import State
from reverie.tensors import Noise


@dataclass(frozen=True)
class OwnMidpoint(reverie.Sampler, kind="own_midpoint"):
    """x_s = x + (alpha_s - alpha_t) x0_m + (sigma_s - sigma_t) eps_m, with m = (t + s) / 2."""

    order: ClassVar[int] = 2
    deterministic: ClassVar[bool] = True

    def step(
        self, f: reverie.Denoises, x: Tensor, t: Tensor, s: Tensor, cond: reverie.Cond | None, noise: Noise,
        state: State,
    ) -> tuple[Tensor, State]:  # fmt: skip
        q, m = f(x, t, cond), f.schedule.at((t + s) / 2, like=x)
        r = f(m.alpha * q.x0 + m.sigma * q.eps, (t + s) / 2, cond)
        a, b = q.level, f.schedule.at(s, like=x)
        return x + (b.alpha - a.alpha) * r.x0 + (b.sigma - a.sigma) * r.eps, state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--toy", action="store_true", help="fewer steps")
    finest = 64 if parser.parse_args().toy else 256
    like = torch.empty(1, 3, dtype=torch.float64)
    # Not Flow or Cosine: there a Gaussian's paths happen to be ones that the midpoint rule follows with order 3.
    for schedule in (reverie.VE(), reverie.LinearVP()):
        f = reverie.Gaussian(schedule, mean=torch.tensor([0.7, -0.4, 1.1], dtype=torch.float64), std=0.8)
        x = reverie.prior(schedule, 1.0, like, reverie.streams([0]))
        exact, before = f.solution(x, 1.0, 0.0), None
        for steps in (finest // 4, finest // 2, finest):
            times = reverie.Uniform(steps)(schedule) ** 2  # denser near the data, where sigma ~ sqrt(t) on LinearVP
            error = float((reverie.generate(f, OwnMidpoint(), times, x) - exact).abs().max())
            order = "" if before is None else f", order {math.log2(before / error):.2f}"
            print(f"{type(schedule).__name__:9}{steps:4} steps: error {error:.2e}{order}")
            before = error


if __name__ == "__main__":
    main()
