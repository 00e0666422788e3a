"""Encode real digits to noise and back, and walk between two of them through the noise.

A deterministic sampler run backwards gives the noise that it would turn into an image. Between two such
noises lies an arc; points on it are decoded, the first half under the first digit's label, the rest under
the second's.

    python examples/quickstart.py && python examples/invert_and_interpolate.py
    python examples/invert_and_interpolate.py --run runs/digits --toy
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import reverie
from reverie import pictures


def between(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """The point of the arc from a to b (B, ...), whose length changes evenly (spherical interpolation)."""
    u, v = a.flatten(1), b.flatten(1)
    angle = torch.acos(torch.nn.functional.cosine_similarity(u, v).clamp(-1, 1))[:, None]
    return (((1 - fraction) * angle).sin() * u + (fraction * angle).sin() * v).div(angle.sin()).reshape(a.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--toy", action="store_true", help="few steps")
    told = parser.parse_args()
    run = reverie.load(told.run)
    examples = run.recipe.data.load()
    held_out = run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed).validation

    n, sampler = 8, reverie.Heun()
    times = reverie.Uniform(4 if told.toy else 50)(run.schedule)
    real = torch.from_numpy(examples.items[held_out[: 2 * n]])
    cond = reverie.Cond(label=torch.from_numpy(examples.labels[held_out[: 2 * n]]))
    x0 = run.space.encode(real)
    noise = reverie.invert(run.denoiser, sampler, times, x0, cond)
    back = reverie.generate(run.denoiser, sampler, times, noise, cond)
    print(f"noise: mean {noise.mean():.3f}, standard deviation {noise.std():.3f}")
    print(f"there and back: root mean square error {(back - x0).square().mean().sqrt():.4f} of a range of 2")

    frames = []
    for fraction in torch.linspace(0, 1, 9).tolist():
        z = between(noise[:n], noise[n:], fraction)
        frames.append(reverie.generate(run.denoiser, sampler, times, z, cond[:n] if fraction < 0.5 else cond[n:]))
    rows = torch.stack([real[:n], *(run.space.decode(x) for x in frames), real[n:]], 1)
    path = told.run / "interpolation.png"
    pictures.save_png(pictures.sheet(list(rows.numpy())), path)
    print(f"wrote {path}: real, decoded, ..., decoded, real")


if __name__ == "__main__":
    main()
