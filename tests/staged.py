"""Runs of several models: small autoencoders, models of latents, cascades."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import DIT, MLP, SHORT, begun, trained

from reverie.data import Examples
from reverie.runs import Run, load, new_model

AUTOENCODER = (
    "kind=autoencoder", "autoencoder.width=8", "autoencoder.multipliers=[1, 2]", "autoencoder.attention=false",
    "autoencoder.channels=3",
)  # fmt: skip
SMALL_DIT = (*DIT, "net.patch=1", "net.dropout=0")
CASCADE = ("cascade", "digits", *MLP, *SHORT, *(f"stages.base.{word}" for word in (*MLP, *SHORT)))
"""Words of the command line for a cascade of 4x4 and 8x8 digits."""


def autoencoder(*settings: str) -> Path:
    """A trained one of digits, not to be changed."""
    return trained(*AUTOENCODER, *settings)


def begun_autoencoder(path: Path, examples: Examples, seed: int = 0, *settings: str) -> Run:
    """One that has learned nothing, of examples that are at hand: its weights are as they are drawn."""
    run, _ = begun(path, *AUTOENCODER, f"train.seed={seed}", *settings, examples=examples)
    run.save_model(new_model(run.recipe, run.facts).net.state_dict(), 0)
    return load(path)


def latent(path: Path, examples: Examples, *settings: str, seed: int = 0) -> Run:
    """A run on the latents of an autoencoder that has learned nothing, itself neither."""
    stage = begun_autoencoder(path.with_name(f"{path.name}-autoencoder"), examples, seed)
    words = ("space.kind=latent", f"space.autoencoder={stage.path}", *settings)
    run, _ = begun(path, *words, examples=examples)
    run.save_model(new_model(run.recipe, run.facts).net.state_dict(), 0)
    return load(path)


def images(n: int = 40, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0, classes: int = 2) -> Examples:
    """Blurred noise in grey or colour, with a class."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (n, shape[0], shape[1] // 2, shape[2] // 2))
    items = coarse.repeat(2, 2).repeat(2, 3).astype(np.uint8)
    labels = np.arange(n, dtype=np.int64) % classes
    return Examples(items, image=True, labels=labels, classes=tuple("abcdefgh"[:classes]))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Latents that a test keeps are its own."""
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))


def same_weights(a: Run, b: Run) -> bool:
    ours, theirs = a.model.net.state_dict(), b.model.net.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
