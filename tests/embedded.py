"""Runs of unCLIP: an image-text pair, priors, decoders of embeddings and what enlarges their pictures, at toy size.

Their weights are random, and none is 0, so that all that a model is told shows.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from told import COLOURS
from toys import MLP, toy

from reverie.data import Examples
from reverie.data.smaller import smaller
from reverie.runs import Run, begin, load, new_model

READS = ("text.kind=transformer", "text.words=256", "text.width=8", "text.depth=1", "text.heads=2", "attributes=[]")
STEPS = ("sample.grid.kind=uniform", "sample.grid.steps=3", "sample.sampler.kind=heun")
IMAGE = (*MLP, "embedding=image")
PRIOR = (
    "embedding=text", "net.kind=transformer", "net.width=8", "net.depth=1", "net.heads=2", "net.parts=2",
    "parameterization.kind=x0",
)  # fmt: skip
LOW = ("image_condition.kind=low_resolution", "image_condition.factor=2")


def captioned(n: int = 40, seed: int = 0, side: int = 8, labels: bool = False) -> Examples:
    """Pictures (n, 3, side, side) of a square; every eighth has no caption, and the first is there twice."""
    draw = np.random.default_rng(seed)
    items, texts, names = np.full((n, 3, side, side), 255, np.uint8), [], list(COLOURS)
    for i in range(n):
        y, x = draw.integers(0, side // 2, 2)
        noise = draw.integers(-20, 20, (3, side // 2, side // 2))
        colour = np.array(COLOURS[names[i % 3]])[:, None, None] + noise
        items[i, :, y : y + side // 2, x : x + side // 2] = colour.clip(0, 255)
        texts.append("" if i % 8 == 7 else f"a {names[i % 3]} square")
    items[-1] = items[0]
    classes = {"labels": np.arange(n, dtype=np.int64) % 3, "classes": tuple(names)} if labels else {}
    return Examples(items, image=True, texts=tuple(texts), **classes)


EXAMPLES = captioned()
SMALL = smaller(EXAMPLES, 2)


def stirred(path: Path, *settings: str, examples: Examples = SMALL, needed: dict[str, Path] | None = None) -> Run:
    """A run in `path` of random weights."""
    words = (f"stages.{name}={folder}" for name, folder in (needed or {}).items())
    run = begin(path, toy(*READS, *STEPS, *settings, *words), examples, needed)
    g = torch.Generator().manual_seed(run.recipe.train.seed)
    weights = new_model(run.recipe, run.facts).net.state_dict()
    run.save_model({name: v + 0.2 * torch.randn(v.shape, generator=g) for name, v in weights.items()}, 0)
    return load(path)


def pair_of(path: Path, *settings: str, examples: Examples = SMALL) -> Run:
    """An image-text pair."""
    return stirred(path, *MLP, "kind=pair", *settings, examples=examples)


def embeddings(pair: Run, examples: Examples = SMALL) -> Examples:
    """What a prior of that pair learns, though its data are at hand."""
    items = pair.joint.images(examples.items).numpy().astype(np.float32)
    return replace(examples, items=items, image=False)


def prior_of(path: Path, pair: Run, *settings: str, examples: Examples = SMALL) -> Run:
    """A prior of the embeddings of a pair."""
    source = ("data.kind=embeddings", f"data.pair={pair.path}", "data.data.kind=digits")
    return stirred(path, *PRIOR, *source, *settings, examples=embeddings(pair, examples), needed={"pair": pair.path})


def unclip(path: Path, *settings: str, prior: bool = True, examples: Examples = SMALL) -> Run:
    """A decoder in `path`, of a pair and, where there is to be one, a prior."""
    pair = pair_of(path / "pair", "train.seed=1", examples=examples)
    needed = {"pair": pair.path}
    if prior:
        needed["prior"] = prior_of(path / "prior", pair, "train.seed=2", examples=examples).path
    return stirred(path, *IMAGE, *settings, examples=examples, needed=needed)


def cascade(path: Path, *settings: str, examples: Examples = EXAMPLES) -> Run:
    """In `path`, what enlarges the pictures of a decoder."""
    base = unclip(path / "base", "data.kind=smaller", "data.data.kind=digits", examples=smaller(examples, 2))
    return stirred(path, *MLP, *LOW, *settings, examples=examples, needed={"base": base.path})
