"""From an image to another one, through its noise.

Letters in shapes: B batch, K images between two, ... the shape of one example.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reverie.brownian import paths
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.editing.noising import noised
from reverie.grids import checked_times
from reverie.samplers import Sampler
from reverie.sampling import generate, invert, prior
from reverie.tensors import Noise


def taken(times: Tensor, strength: float) -> Tensor:
    """The last of `times` (N + 1,): as many steps as `strength` is a share of N, rounded, at least one.

    Raises:
        ValueError: a strength outside (0, 1], or times that cannot be followed.
    """
    times = checked_times(times)
    if not 0 < strength <= 1:
        raise ValueError(f"strength is the share of the steps that are taken, above 0 and up to 1; given {strength}")
    steps = len(times) - 1
    return times[steps - max(1, round(strength * steps)) :]


def image_to_image(
    f: Denoises, sampler: Sampler, times: Tensor, x0: Tensor, cond: Cond | None = None,
    noise: Noise = torch.randn_like, strength: float = 0.6,
) -> Tensor:  # fmt: skip
    """The image noised to a level of the grid, and sampled from there (SDEdit; Meng et al., 2022, algorithm 1).

    At strength 1 it begins with `prior`: the sample that the same noise gives without an image.

    Args:
        f: the denoiser.
        sampler: any.
        times: (N + 1,), the whole grid.
        x0: (B, ...), images in the model's space.
        cond: what the result should be.
        noise: where the noise of the start is drawn from first, then that of the sampler.
        strength: the share of the steps that are taken, in (0, 1].

    Raises:
        ValueError: a strength outside (0, 1], or times that cannot be followed.
    """
    ahead = taken(times, strength)
    if len(ahead) == len(times):
        x = prior(f.schedule, ahead[0], x0, noise)
    else:
        x = noised(f.schedule.at(ahead[0], like=x0), x0, noise)
    return generate(f, sampler, ahead, x, cond, noise)


def variations(
    f: Denoises, sampler: Sampler, times: Tensor, x0: Tensor, cond: Cond | None = None,
    seeds: Sequence[tuple[int, int]] = ((0, 0),), strength: float = 0.6,
) -> Tensor:  # fmt: skip
    """(K, ...), other images like one: `image_to_image` with the noise of each of K seeds.

    Args:
        f: the denoiser.
        sampler: any.
        times: (N + 1,), the whole grid.
        x0: (1, ...), one image in the model's space.
        cond: of one row, or of K.
        seeds: (seed, number) of each, as those of a sample in `reverie.synthesis`.
        strength: how far they go from it, in (0, 1].

    Raises:
        ValueError: more than one image; and as for `image_to_image`.
    """
    if len(x0) != 1:
        raise ValueError(f"variations are of one image (1, ...); given {len(x0)}")
    n = len(seeds)
    told = None if cond is None else cond.map(lambda v: v.expand(n, *v.shape[1:]))
    return image_to_image(f, sampler, times, x0.expand(n, *x0.shape[1:]), told, paths(seeds), strength)


def edited(
    f: Denoises, sampler: Sampler, times: Tensor, x0: Tensor, source: Cond | None, target: Cond | None,
    strength: float = 1.0,
) -> Tensor:  # fmt: skip
    """The image that the noise of x0 makes under another condition: `invert` under `source`, `generate` under `target`.

    Song et al. (2021), section 4.3; under conditions as in Hertz et al. (2022). With the same condition it is x0, up
    to the error of the solver.

    Args:
        f: the denoiser, guided little or not at all: inversion under strong guidance does not return.
        sampler: a one-step solver of the flow ODE, such as DDIM() or Heun().
        times: (N + 1,), the whole grid.
        x0: (B, ...), images in the model's space.
        source: what is in the images.
        target: what should be.
        strength: how far up the grid the images are taken; less keeps more of them.

    Raises:
        ValueError: a sampler that cannot be inverted, a strength outside (0, 1], or times that cannot be followed.
    """
    ahead = taken(times, strength)
    return generate(f, sampler, ahead, invert(f, sampler, ahead, x0, source), target)


def slerp(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """The point of the arc from a to b (B, ...), whose length changes evenly; of the line, where they are parallel.

    Shoemake (1985). Noises of many numbers lie on a sphere, all but exactly; so do the points of the arc, while those
    of the line come nearer to 0 than noise does.
    """
    u, v = a.flatten(1).double(), b.flatten(1).double()
    angle = torch.acos(torch.nn.functional.cosine_similarity(u, v).clamp(-1, 1))[:, None]
    flat = angle.sin() < 1e-6
    size = angle.sin().where(~flat, 1.0)
    left = torch.where(flat, 1 - fraction, ((1 - fraction) * angle).sin() / size)
    rest = torch.where(flat, fraction, (fraction * angle).sin() / size)
    return (left * u + rest * v).to(a.dtype).reshape(a.shape)


def interpolated(
    f: Denoises, sampler: Sampler, times: Tensor, ends: tuple[Tensor, Tensor], fractions: Sequence[float],
    conds: tuple[Cond | None, Cond | None] = (None, None),
) -> Tensor:  # fmt: skip
    """(K, B, ...), from the first of `ends` to the second: both inverted, and the arc between their noises generated.

    Song et al. (2021), appendix D.5. At fractions 0 and 1 it is what the solver returns of the images themselves.

    Args:
        f: the denoiser.
        sampler: a one-step solver of the flow ODE.
        times: (N + 1,).
        ends: two batches (B, ...) of images in the model's space.
        fractions: K of them, in [0, 1].
        conds: of each end; below one half the first's is told, from there on the second's.

    Raises:
        ValueError: a sampler that cannot be inverted, or times that cannot be followed.
    """
    a, b = (invert(f, sampler, times, x, cond) for x, cond in zip(ends, conds, strict=True))
    made = [generate(f, sampler, times, slerp(a, b, w), conds[0] if w < 0.5 else conds[1]) for w in fractions]
    return torch.stack(made)
