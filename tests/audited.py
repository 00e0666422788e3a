"""Sets of examples of a law that is known, and samples of honest and of copying models."""

import numpy as np

from reverie.evaluation.collection import Collection

CENTRES = np.random.default_rng(7).standard_normal((6, 32)) * 2


def law(n, seed, width=8):
    """A mixture of normal laws of several widths, (n, width) float32."""
    random = np.random.default_rng((seed, n, width))
    which = random.integers(0, len(CENTRES), n)
    spread = 0.2 + 0.3 * which[:, None]
    return (CENTRES[which, :width] + spread * random.standard_normal((n, width))).astype(np.float32)


def pictures(n, seed, side=8):
    """Smooth random pictures, (n, 1, side, side) uint8."""
    random = np.random.default_rng((seed, n, side))
    waves = np.cos(np.outer(np.arange(side) + 0.5, np.arange(4)) * np.pi / side)
    weights = random.standard_normal((n, 4, 4)) / (1 + np.add.outer(np.arange(4), np.arange(4)))
    found = 128 + 45 * np.einsum("yi,xj,nij->nyx", waves, waves, weights)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)[:, None]


def arrays(items, source="arrays"):
    return Collection(np.asarray(items, np.float32), False, source)


def images(items, source="images"):
    return Collection(items, True, source)


def copying(honest, training, share, noise, seed=0):
    """Samples of which a share are training examples with noise."""
    random = np.random.default_rng(seed)
    number = round(share * len(honest))
    chosen = training[random.integers(0, len(training), number)]
    jitter = noise * random.standard_normal(chosen.shape)
    copied = chosen + jitter
    if honest.dtype == np.uint8:
        copied = np.clip(np.rint(copied), 0, 255)
    return np.concatenate([copied.astype(honest.dtype), honest[number:]])
