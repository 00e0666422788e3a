"""Real images, made worse in known ways.

Letters in shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.ndimage import gaussian_filter

from reverie.evaluation.collection import Collection

NOISE = (5, 10, 20, 40)
"""Standard deviations of the noise, in hundredths of the range of a pixel."""
BLUR = (0.5, 1.0, 2.0)
"""Standard deviations of the bell, in pixels."""
SHIFT = (1, 2, 3)
"""Pixels, down and to the right."""
KEPT = 50
"""Images that a model which copies has kept."""

LADDERS: dict[str, tuple[str, ...]] = {
    "noise": tuple(f"noise {s} %" for s in NOISE),
    "blur": tuple(f"blur {r:g} px" for r in BLUR),
    "shift": tuple(f"shift {d} px" for d in SHIFT),
    "mirror": ("mirrored",),
    "classes": ("half the classes", "one class"),
    "copies": (f"{KEPT} copied",),
}
"""Rows that get worse from one to the next; before each comes `REAL`."""
REAL = "real"


def noisy(items: np.ndarray, percent: int) -> np.ndarray:
    """Normal noise on every pixel, clipped to what a pixel can be."""
    draws = np.random.Generator(np.random.Philox(11)).standard_normal(items.shape)
    return np.rint(items + 2.55 * percent * draws).clip(0, 255).astype(np.uint8)


def blurred(items: np.ndarray, radius: float) -> np.ndarray:
    return np.rint(gaussian_filter(items.astype(np.float64), (0, 0, radius, radius))).astype(np.uint8)


def shifted(items: np.ndarray, pixels: int) -> np.ndarray:
    """Down and to the right; what comes in is black."""
    out = np.zeros_like(items)
    out[..., pixels:, pixels:] = items[..., :-pixels, :-pixels]
    return out


def rows(real: Collection, others: Collection, n: int) -> Mapping[str, Callable[[], Collection]]:
    """Every row of the table by its name: N images each, made when they are asked for.

    Args:
        real: the reference, of which a model that copies has kept some.
        others: real images that are not in it, with labels, enough for N of one class.
        n: N.
    """
    base = others.take(slice(0, n))

    def changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Collection]:
        return lambda: Collection(change(base.items), True, "changed", {}, base.labels, base.classes)

    def of_classes(count: int) -> Collection:
        return others.take(np.flatnonzero(others.labels < count)[:n])

    made: dict[str, Callable[[], Collection]] = {REAL: lambda: base}
    made |= {k: changed(lambda x, s=s: noisy(x, s)) for k, s in zip(LADDERS["noise"], NOISE, strict=True)}
    made |= {k: changed(lambda x, r=r: blurred(x, r)) for k, r in zip(LADDERS["blur"], BLUR, strict=True)}
    made |= {k: changed(lambda x, d=d: shifted(x, d)) for k, d in zip(LADDERS["shift"], SHIFT, strict=True)}
    made["mirrored"] = changed(lambda x: x[..., ::-1].copy())
    made["half the classes"] = lambda: of_classes(len(others.classes) // 2)
    made["one class"] = lambda: of_classes(1)
    made[LADDERS["copies"][0]] = lambda: real.take(np.arange(n) % KEPT)
    return made
