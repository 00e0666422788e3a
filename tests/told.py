"""Tiny pictures of which a caption says the colour, an attribute the shade and another one the light."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from toys import begun, toy

from reverie.data import Attribute, Examples
from reverie.runs import Run, begin, load, new_model

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220)}
SENTENCES = ("a {} tile", "the {} one", "{}", "something {} here")
SHADES = ("left", "none")


def tiles(n: int = 240, seed: int = 0) -> Examples:
    """Pictures (n, 3, 4, 4): their left half is dark where the shade is left, and every eighth has no caption."""
    rng = np.random.default_rng(seed)
    kinds, shade = rng.integers(0, 3, n), rng.integers(0, 2, n)
    light = rng.uniform(0.5, 1, n).astype(np.float32)
    names = list(COLOURS)
    items = np.array([COLOURS[names[k]] for k in kinds])[:, :, None, None] * light[:, None, None, None]
    items = items + rng.normal(0, 8, (n, 3, 4, 4))
    items[shade == 0, :, :, :2] *= 0.3
    texts = [SENTENCES[rng.integers(4)].format(names[k]) if i % 8 else "" for i, k in enumerate(kinds)]
    return Examples(
        items.clip(0, 255).astype(np.uint8),
        image=True,
        texts=tuple(texts),
        attributes=(Attribute("light", light[:, None]), Attribute("shade", shade.astype(np.int64), SHADES)),
    )


def written(path: Path, examples: Examples) -> Path:
    """The same as a file that `reverie train FILE 'data.attributes=["light", "shade"]'` reads."""
    light, shade = examples.attributes
    shades = np.array(shade.classes)[shade.values]
    np.savez(path, x=examples.items, text=np.array(examples.texts), light=light.values[:, 0], shade=shades)
    return path


def untrained(path: Path, styles: tuple[str, ...]) -> Run:
    """A run in `path` of captioned tiles, whose shades are called styles, with the weights it begins with."""
    made = tiles(40)
    kinds = Attribute("style", made.attributes[1].values, styles)
    run = begin(
        path,
        toy("text.kind=transformer", "text.words=256", "text.width=16", "text.heads=2"),
        replace(made, attributes=(kinds,)),
    )
    run.save_model(new_model(run.recipe, run.facts).net.state_dict(), 0)
    return run


def guided_by_text(path: Path) -> tuple[Run, Run]:
    """In `path`, an image-text pair of tiles, and a denoiser that is told nothing; their weights are random."""
    made, g = replace(tiles(40), attributes=()), torch.Generator().manual_seed(0)
    reads = ("kind=pair", "text.kind=transformer", "text.width=8", "text.depth=1", "text.heads=2")
    for name, words in (("pair", reads), ("free", ("labels=false", "captions=false"))):
        run, _ = begun(path / name, *words, examples=made)
        begins = new_model(run.recipe, run.facts).net.state_dict()  # zeros among it, which see nothing
        run.save_model({k: v + 0.3 * torch.randn(v.shape, generator=g) for k, v in begins.items()}, 0)
    return load(path / "pair"), load(path / "free")
