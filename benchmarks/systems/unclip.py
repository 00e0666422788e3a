"""unCLIP on captioned emoji of 32x32: the prior on captions that none has seen, and variations of pictures."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import numpy as np
import torch

from benchmarks.systems.judging import features_of
from benchmarks.systems.training import took, trained
from reverie.data.base import one_of_each
from reverie.diagnosis.case import Case
from reverie.edits import Vary, Wish, edit
from reverie.grids import Angle
from reverie.runs import Run, load

CANDIDATES, GUIDANCE, STEPS = 2, 2, 16
"""Of the prior: embeddings that it draws for each caption, scale of guidance, steps of its sampler."""
READS = ["labels=false", "attributes=[]", "text.kind=minilm"]
DATA = ["data.kind=emoji", *READS]
NET = ["net.kind=unet", "net.width=16", "net.multipliers=[1,2,4]", "net.blocks=1", "net.attention=8"]
WIDE = ["net.kind=unet", "net.width=48", "net.multipliers=[1,2,2]", "net.blocks=1", "net.attention=8"]
REST = ["train.warmup=100", "train.decay=cosine"]
PAIR = [*DATA, "kind=pair", *NET, *REST, "train.lr=2e-3", "train.precision=bf16", "train.batch=128",
        "loss.times.kind=uniform", "loss.times.high=0.2"]  # fmt: skip
PRIOR = [*READS, "embedding=text", "net.kind=transformer", "net.depth=4", "parameterization.kind=x0",
         "loss.notation=x0", *REST, "train.batch=64", "train.lr=1e-3", "train.precision=bf16",
         "net.dropout=0.1", f"sample.guidance={GUIDANCE}",
         f"sample.candidates={CANDIDATES}"]  # fmt: skip
DECODER = [*DATA, "embedding=image", *WIDE, *REST, "train.lr=2e-3", "train.precision=bf16", "train.batch=32",
           "sample.guidance=2"]  # fmt: skip
PICTURES, EACH = 150, 4
"""That are varied, of different emoji, and how often."""


def measured(told: argparse.Namespace) -> dict[str, Any]:
    """A third of the `minutes` for the pair, a quarter for the prior, the rest for the decoder."""
    folder, seconds = told.folder / "unclip", 60 * told.minutes
    pair = trained(PAIR, folder / "pair", seconds / 3)
    embedded = ["data.kind=embeddings", f"data.pair={pair.path}", "data.data.kind=emoji"]
    told_by = f"stages.pair={pair.path}"
    prior = trained([*embedded, *PRIOR, told_by], folder / "prior", seconds / 4, {"pair": pair.path})
    decoder = trained(
        [*DECODER, told_by], folder / "decoder", 5 * seconds / 12, {"pair": pair.path, "prior": prior.path}
    )
    training = {run.path.name: took(run) for run in (pair, prior, decoder)}
    return {
        "minutes": told.minutes,
        "prior": _cosines(prior, told.n, CANDIDATES),
        "first": _cosines(prior, told.n, 1),
        "variations": _variations(decoder),
        "training": training,
    }


def _cosines(prior: Run, most: int, candidates: int) -> dict[str, Any]:
    """Of its embeddings of held-out captions, the nearest to that of the caption of so many drawn for each."""
    run = load(prior.path)
    run.recipe = dataclasses.replace(
        run.recipe, sample=dataclasses.replace(run.recipe.sample, candidates=candidates, grid=Angle(STEPS))
    )
    return dataclasses.asdict(Case(run, run.recipe.data.load()).prior(most))


def _variations(decoder: Run) -> dict[str, Any]:
    """How often a variation has the category of its picture, by a classifier in fixed features; and by chance."""
    from sklearn.linear_model import LogisticRegression

    examples = decoder.recipe.data.load()
    split = decoder.recipe.data.split(examples, decoder.recipe.train.validation, decoder.recipe.train.seed)
    category = next(each for each in examples.attributes if each.name == "category").values
    judge = LogisticRegression(max_iter=300, C=0.05).fit(
        features_of(examples.items[split.train]), category[split.train]
    )
    rows = one_of_each(examples, split.validation, 0)[:PICTURES]
    made = np.concatenate([
        edit(decoder, Vary(torch.from_numpy(examples.items[[row]])), Wish(), EACH).numpy() for row in rows
    ])  # fmt: skip
    said, of_real = judge.predict(features_of(made)), judge.predict(features_of(examples.items[rows]))
    true = category[rows]
    kept = (said.reshape(-1, EACH) == true[:, None]).mean(1)
    guessed = sum(float((said == k).mean() * (true == k).mean()) for k in np.unique(true))
    return {
        "kept": float(kept.mean()), "error": float(kept.std(ddof=1) / len(rows) ** 0.5), "chance": guessed,
        "commonest": float(np.bincount(true).max() / len(rows)), "real": float((of_real == true).mean()),
        "pictures": len(rows), "each": EACH,
    }  # fmt: skip


def page(found: dict[str, Any]) -> list[str]:
    """The table, and what it says."""

    def pm(value: list[float]) -> str:
        return f"{value[0]:.3f} ± {value[1]:.3f}"

    prior, varied, training = found["prior"], found["variations"], found["training"]
    steps = ", ".join(f"{name} {told['steps']:,} steps" for name, told in training.items())
    return [
        f"Emoji of 32x32 in three styles with captions, {found['minutes']:g} minutes of two cores in all ({steps}). "
        f"The prior with {STEPS} steps and guidance {GUIDANCE} on the held-out pictures of "
        f"{found['prior']['n']} emoji, each emoji counted once:",
        "",
        "| embedding | cosine to that of the picture | the prior's less this |",
        "|---|---|---|",
        f"| of the prior, the nearest to the caption's of {CANDIDATES} | {pm(prior['prior'])} | |",
        f"| of the prior, one draw | {pm(found['first']['prior'])} | |",
        f"| of the nearest known caption's picture | {pm(prior['nearest'])} | {pm(prior['over_nearest'])} |",
        f"| the mean | {pm(prior['mean'])} | {pm(prior['over_mean'])} |",
        "",
        f"Variations of {varied['pictures']} held-out pictures, {varied['each']} of each, keep the category in "
        f"**{100 * varied['kept']:.1f} ± {100 * varied['error']:.1f} %** by a classifier in features of "
        f"EfficientNet-Lite0, which is right of {100 * varied['real']:.1f} % of the pictures themselves; by chance, "
        f"were they dealt out anew, it would be {100 * varied['chance']:.1f} %, and {100 * varied['commonest']:.1f} % "
        f"are of the commonest.",
    ]
