"""Train on points in the plane, then ask how many bits they cost: by the bound, and by the flow ODE.

The law of the points is known, so is the least that any model can reach: -E log2 p(x) / 2, by a sum over the roll.

    python examples/likelihood.py          # about two minutes on one core; a second time there is nothing left to train
    python examples/likelihood.py --toy
"""

import argparse
import math

import torch

import reverie
from reverie.config import read_file
from reverie.evaluation.likelihood import Settings
from reverie.recipe import compose, library
from reverie.runs import begin


def least(x: torch.Tensor, noise: float = 0.5) -> float:
    """-E log2 p(x) / 2 for points x (N, 2) of `reverie.data.points.SwissRoll`."""
    angle = torch.linspace(1.5 * math.pi, 4.5 * math.pi, 2001, dtype=x.dtype)
    curve = angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    log_p = -torch.cdist(x, curve).square() / (2 * noise**2) - math.log(2 * math.pi * noise**2)
    return -float((log_p.logsumexp(1) - math.log(len(angle))).mean()) / (2 * math.log(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--toy", action="store_true", help="a few steps of training, few examples")
    toy = parser.parse_args().toy

    recipe = compose([read_file(library()["swissroll"]), {"train": {"steps": 20}} if toy else {}])
    examples = recipe.data.load()
    run = begin("runs/roll", recipe, examples)
    for _ in reverie.Trainer(run, examples):
        pass

    run = reverie.load("runs/roll")  # from here on what `reverie likelihood runs/roll -n N` does
    found = run.likelihood(Settings(n=50, ode_steps=16) if toy else Settings(n=1000))
    print(f"bound     {found.bound.bits_per_dim:.4f} ± {found.bound.standard_error:.4f} bits per dimension")
    print(f"flow ODE  {found.ode.bits_per_dim:.4f} ± {found.ode.standard_error:.4f}")
    print(f"least     {least(torch.from_numpy(examples.items[:5000]).double()):.4f}")


if __name__ == "__main__":
    main()
