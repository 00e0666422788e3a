"""Classifier-free and CLIP guidance of one model that draws emoji by a text: the one that comes with the package."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import torch

from benchmarks.emoji.asking import questions
from benchmarks.emoji.judging import judged, learnt
from benchmarks.systems.training import took, trained
from reverie import runs
from reverie.data.emoji import Emoji
from reverie.evaluation.team import one_thread
from reverie.guidance import ClipGuide
from reverie.recipe import Sampling

MODEL = "emoji"
PAIR = ["data.kind=emoji", "kind=pair", "labels=false", "attributes=[]", "text.kind=minilm", "net.kind=unet",
        "net.width=16", "net.multipliers=[1,2,4]", "net.blocks=1", "net.attention=8", "train.batch=64",
        "train.lr=2e-3", "train.warmup=100", "train.decay=cosine", "train.precision=bf16"]  # fmt: skip
FREE, CLIP = (2.0, 3.0, 5.0), (5.0, 15.0, 45.0)
STEPS = 20
"""Classifier-free guidance evaluates the network twice a step; CLIP guidance once, and the pair and its gradient."""
UNASKED = ("style as asked",)
"""What the captions say nothing of."""


def measured(told: argparse.Namespace) -> dict[str, Any]:
    """A pair of noisy pictures for `minutes`; then what the model draws for captions that none of them has seen.

    The judge learns from pictures that neither was shown as an answer (see `benchmarks.emoji`). Captions alone are
    asked for: no category, no style.
    """
    run = runs.load(MODEL)
    pair = trained(PAIR, told.folder / "guidance" / "pair", 60 * told.minutes)
    data, train = run.recipe.data, run.recipe.train
    assert isinstance(data, Emoji)
    examples = data.load()
    asked = questions(examples, data.split(examples, train.validation, train.seed), told.n, 0)
    prompts = [examples.texts[row] for row in asked.held_out]
    plain = run.settings(steps=STEPS, guidance=1.0)
    ways: dict[str, Sampling] = {"none": plain}
    ways |= {f"classifier-free, {scale:g}": run.settings(steps=STEPS, guidance=scale) for scale in FREE}
    guide = ClipGuide(run=str(pair.path))
    ways |= {f"CLIP, {scale:g}": dataclasses.replace(plain, guide=guide, guidance=scale) for scale in CLIP}
    both = dataclasses.replace(data, captions="name").load()
    made = {name: run.sample(len(prompts), prompt=prompts, seed=1, sampling=way).numpy() for name, way in ways.items()}
    with one_thread():
        judge, rows = learnt(both, asked.learnt), asked.held_out
        told_of = {"real pictures": both.items[rows], **made}
        found = {name: judged(judge, both, rows, pictures) for name, pictures in told_of.items()}
    listed = [{"what": name, **{k: dataclasses.asdict(v) for k, v in each.items()}} for name, each in found.items()]
    spread = {name: float(torch.from_numpy(each).double().std(0).mean()) for name, each in told_of.items()}
    for row in listed:
        row["spread"] = spread[str(row["what"])] / spread["real pictures"]
    return {"captions": len(prompts), "steps": STEPS, "judged": listed, "training": {"pair": took(pair)}}


def page(found: dict[str, Any]) -> list[str]:
    """The table, and what it says."""
    names = [name for name in found["judged"][0] if name not in ("what", "spread", *UNASKED)]
    pair = found["training"]["pair"]
    made = [
        f"The emoji model of the package, {found['steps']} steps, {found['captions']} captions that neither it nor "
        f"the pair ({pair['steps']:,} steps in {pair['seconds'] / 60:.1f} min) has seen, judged by what has seen "
        f"neither ([emoji](emoji.md)). Spread: the mean standard deviation of a pixel over that of real pictures.",
        "",
        f"| guidance | {' | '.join(name.replace('as asked', 'of the caption') for name in names)} | spread |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for row in found["judged"]:
        told = [f"{100 * row[name]['share']:.1f} ± {100 * row[name]['error']:.1f} %" for name in names]
        made.append(f"| {row['what']} | {' | '.join(told)} | {row['spread']:.2f} |")
    chance = [f"{100 * found['judged'][0][name]['chance']:.1f} %" for name in names]
    return [*made, f"| chance | {' | '.join(chance)} | |"]
