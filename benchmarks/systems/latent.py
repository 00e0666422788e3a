"""Pixels and latents, trained as long."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.systems.judging import distances, interleaved, table
from benchmarks.systems.training import took, trained
from reverie.evaluation.reading import of_run

STEPS, AT_ONCE = 20, 64
"""Of a sample, and samples that are timed together."""
REST = ["train.warmup=100", "train.decay=cosine", "train.precision=bf16"]
PIXELS = ["net.kind=unet", "net.width=32", "net.multipliers=[1,2,2]", "net.blocks=1"]
LATENTS = ["net.kind=unet", "net.width=48", "net.multipliers=[1,2,2]", "net.blocks=1", "net.attention=0",
           "train.batch=64", "train.lr=2e-3"]  # fmt: skip
ENCODER = ["autoencoder.kind=kl", "autoencoder.width=16", "autoencoder.multipliers=[1,2,4]", "autoencoder.blocks=1",
           "autoencoder.channels=8", "autoencoder.attention=false", "loss.kl=0.02", "train.batch=32",
           "train.lr=2e-3"]  # fmt: skip
SHARE = 0.4
"""Of the time of latents, for the autoencoder."""


@dataclass(frozen=True)
class Beside:
    """Pixels and latents of some data.

    Attributes:
        name: of the folder.
        words: the data, and what the models are told.
        what: the data, in words.
    """

    name: str
    words: tuple[str, ...]
    what: str

    def measured(self, told: argparse.Namespace) -> dict[str, Any]:
        """Pixels for `minutes`; an autoencoder and latents for as long in all."""
        folder, seconds = told.folder / self.name, 60 * told.minutes
        pixels = trained([*self.words, *PIXELS, *REST, "train.batch=64", "train.lr=1e-3"], folder / "pixels", seconds)
        encoder = [*self.words, "kind=autoencoder", *ENCODER, *REST]
        stage = trained(encoder, folder / "autoencoder", SHARE * seconds)
        space = ["space.kind=latent", f"space.autoencoder={stage.path}"]
        words = [*self.words, *LATENTS, *REST, *space]
        latents = trained(words, folder / "latents", (1 - SHARE) * seconds)
        runs = {"pixels": pixels, "latents": latents}
        sets = {
            name: run.sample(told.n, seed=1, sampling=run.settings(steps=STEPS)).numpy() for name, run in runs.items()
        }
        held = of_run(latents, 10, told.n).held_out
        assert held is not None
        sets["held-out pictures, rebuilt"] = latents.space.rebuilt(torch.from_numpy(held.items)).numpy()
        speed = interleaved({
            name: lambda run=run: run.sample(AT_ONCE, sampling=run.settings(steps=STEPS)) for name, run in runs.items()
        })  # fmt: skip
        return {
            "minutes": told.minutes, "n": told.n, "steps": STEPS, "latent": list(latents.shape),
            "distances": distances(pixels, sets),
            "seconds_a_sample": {name: each / AT_ONCE for name, each in speed.items()},
            "training": {name: took(run) for name, run in {**runs, "autoencoder": stage}.items()},
        }  # fmt: skip

    def page(self, found: dict[str, Any]) -> list[str]:
        """The table, and what it says."""
        each, trained_for = found["seconds_a_sample"], found["training"]
        steps = {
            name: f"{told['steps']:,} steps in {told['seconds'] / 60:.1f} min" for name, told in trained_for.items()
        }
        shape = "x".join(map(str, found["latent"]))
        return [
            f"{self.what}, {found['minutes']:g} minutes of two cores for each side: a model of pixels "
            f"({steps['pixels']}), and an autoencoder ({steps['autoencoder']}) with a model of its latents of {shape} "
            f"({steps['latents']}, {trained_for['latents']['before']:.0f} s of them to compute these once). "
            f"{found['n']:,} samples of {found['steps']} steps, in features of EfficientNet-Lite0. A sample takes "
            f"{1000 * each['pixels']:.0f} and {1000 * each['latents']:.0f} ms: "
            f"**{each['pixels'] / each['latents']:.1f} times less**.",
            "",
            *table(found["distances"]),
        ]


FASHION = Beside("latent", ("fashion",), "Fashion-MNIST")
EMOJI = Beside(
    "latent_emoji",
    ("data.kind=emoji", "captions=false", "attributes=[]", "labels=false"),
    "Emoji of 32x32 in three styles, told nothing",
)
