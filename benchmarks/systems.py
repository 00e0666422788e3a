"""What systems of several models bring, beside one model trained for as long: results/systems.json, docs/systems.md.

    python -m benchmarks.systems latent     # pixels and latents of Fashion-MNIST, the same minutes of training
    python -m benchmarks.systems cascade    # emoji of 64x64: a cascade, with and without noise, and one model
    python -m benchmarks.systems unclip     # the prior's embeddings of unseen captions beside two baselines; variations
    python -m benchmarks.systems report     # the page, of what the others wrote

Training is measured in seconds of this machine: each model is timed for some steps first, and trained for as many as
fit. Run nothing beside it. Runs stand in --folder and are used again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.publishing import ROOT, about, filled, lines, provenance
from reverie.cli.compose import planned_by
from reverie.diagnosis.prior import cosines
from reverie.evaluation import Collection, Reference, Settings
from reverie.evaluation.extractors import from_text
from reverie.evaluation.metrics import from_names
from reverie.evaluation.reading import of_run
from reverie.files import write_text
from reverie.plan import Plan
from reverie.recipe import Sampling
from reverie.runs import CONFIG, Run, begin, load
from reverie.training import Trainer

RESULTS, DOC = ROOT / "benchmarks" / "results" / "systems", ROOT / "docs" / "systems.md"
TIMED = 12
"""Steps by which a model is timed, after as many to warm up."""
QUIET = ("train.validate_every=100000", "train.sample_every=100000", "train.save_every=100000", "train.ema_lengths=[]")
FEATURES = "efficientnet"


def trained(words: list[str], folder: Path, seconds: float, needed: dict[str, Path] | None = None) -> Run:
    """A run of these words, trained for about so many seconds; an older one in the folder is taken as it is."""
    if (folder / CONFIG).is_file():
        return load(folder)
    plan, _ = planned_by([*words, *QUIET])
    plan = Plan(plan.recipe)
    speed = _speed(plan, folder.with_name(f"{folder.name}-timed"), needed)
    steps = max(50, int(seconds / speed))
    plan, _ = planned_by([*words, *QUIET, f"train.steps={steps}"])
    examples = plan.recipe.data.load()
    run = begin(folder, plan.recipe, examples, needed)
    began = time.perf_counter()
    for report in Trainer(run, examples):
        if report.metrics.get("loss"):
            print(f"{folder.name} {report.step}/{steps} loss {report.metrics['loss']:.4g}", flush=True)
    took = time.perf_counter() - began
    (folder / "took.json").write_text(json.dumps({"seconds": took, "steps": steps}))
    return load(folder)


def _speed(plan: Plan, folder: Path, needed: dict[str, Path] | None) -> float:
    """Seconds a step."""
    examples = plan.recipe.data.load()
    run = begin(folder, plan.recipe, examples, needed)
    clock: list[float] = []
    for report in Trainer(run, examples):
        clock.append(time.perf_counter())
        if report.step == 2 * TIMED:
            break
    gaps = np.diff(clock[TIMED:])
    return float(statistics.median(gaps))


def took(run: Run) -> dict[str, float]:
    """Seconds and steps of a run's training."""
    return dict(json.loads((run.path / "took.json").read_text()))


def distances(run: Run, sets: dict[str, np.ndarray], most: int = 2000) -> dict[str, dict[str, float]]:
    """FID and KID of each set of samples to training examples, in features that no run knows; and of held-out ones."""
    n = min(len(items) for items in sets.values())
    real = of_run(run, most, n)
    reference = Reference(real.train, Settings((from_text(FEATURES),), from_names("fid,kid")), real.held_out)
    found = {}
    for name, items in sets.items():
        made = Collection(items, real.train.image, name)
        numbers = reference.evaluate(made).numbers
        found[name] = {number.name: number.value for number in numbers} | {
            f"{number.name}_error": number.error for number in numbers
        }
    found["held out"] = {number.name: number.floor for number in numbers}
    return found


def interleaved(ways: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """The median seconds of each, in turn."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


# ------------------------------------------------------------------------------------------- latent


def latent(told: argparse.Namespace) -> dict[str, Any]:
    """Pixels for `minutes`; an autoencoder and latents for as long in all."""
    folder, seconds = told.folder / "latent", 60 * told.minutes
    net = ["net.kind=unet", "net.width=32", "net.multipliers=[1,2,2]", "net.blocks=1"]
    rest = ["train.batch=64", "train.lr=1e-3", "train.warmup=100", "train.decay=cosine", "train.precision=bf16"]
    pixels = trained(["fashion", *net, *rest], folder / "pixels", seconds)
    encoder = ["autoencoder.kind=kl", "autoencoder.width=16", "autoencoder.multipliers=[1,2,4]", "autoencoder.blocks=1",
               "autoencoder.channels=4", "autoencoder.attention=false"]  # fmt: skip
    stage = trained(
        ["fashion", "kind=autoencoder", *encoder, *rest[1:], "train.batch=32"], folder / "autoencoder", 0.4 * seconds
    )
    wide = ["net.kind=unet", "net.width=64", "net.multipliers=[1,2]", "net.blocks=2"]
    whole = trained(
        ["fashion", *wide, *rest, "space.kind=latent", f"space.autoencoder={stage.path}"],
        folder / "latents", 0.6 * seconds,
    )  # fmt: skip
    n, steps = told.n, 20
    runs = {"pixels": pixels, "latents": whole}
    sets = {name: run.sample(n, seed=1, sampling=run.settings(steps=steps)).numpy() for name, run in runs.items()}
    held = of_run(whole, 10, n).held_out
    assert held is not None
    sets["reconstructions"] = whole.space.rebuilt(torch.from_numpy(held.items)).numpy()
    speed = interleaved(
        {name: lambda run=run: run.sample(64, sampling=run.settings(steps=steps)) for name, run in runs.items()}
    )
    return {
        "minutes": told.minutes, "n": n, "steps": steps,
        "distances": [{"what": name, **values} for name, values in distances(pixels, sets).items()],
        "seconds_a_sample": {name: each / 64 for name, each in speed.items()},
        "training": {name: took(run) for name, run in {**runs, "autoencoder": stage}.items()},
    }  # fmt: skip


# ------------------------------------------------------------------------------------------ cascade

EMOJI = (
    "data.kind=emoji",
    "data.size=64",
    "data.styles=noto",
    "captions=false",
    "attributes=[category]",
    "labels=false",
)


def cascade(told: argparse.Namespace) -> dict[str, Any]:
    """A base and an upsampler for half the `minutes` each, the latter with and without noise; and one model for all."""
    folder, seconds = told.folder / "cascade", 60 * told.minutes
    rest = [
        "train.batch=32",
        "train.lr=1e-3",
        "train.warmup=100",
        "train.decay=cosine",
        "train.precision=bf16",
        "sample.guidance=1.5",
    ]
    small = ["data.kind=smaller", "data.factor=2", *(f"data.{word}" for word in EMOJI[:3]), *EMOJI[3:]]
    net = ["net.kind=unet", "net.width=48", "net.multipliers=[1,2,2]", "net.blocks=1", "net.attention=8"]
    base = trained([*small, *net, *rest], folder / "base", seconds / 2)
    upper = ["net.kind=unet", "net.width=32", "net.multipliers=[1,2,4]", "net.blocks=[0,1,2]", "net.attention=8"]
    low = ["image_condition.kind=low_resolution", "image_condition.factor=2"]
    made = {}
    for name, settings in {"noise": ["image_condition.noise=0.5", "image_condition.blur=0.6"], "plain": []}.items():
        words = [*EMOJI, *upper, *rest, *low, *settings, "sample.guidance=1.0"]
        made[name] = trained(words, folder / name, seconds / 2, {"base": base.path})
    one = ["net.kind=unet", "net.width=32", "net.multipliers=[1,2,2,4]", "net.blocks=1", "net.attention=8"]
    single = trained([*EMOJI, *one, *rest], folder / "single", seconds)
    n, sets = told.n, {}
    for level in (0.0, 0.1, 0.2, 0.4):
        sets[f"cascade, noise, level {level:g}"] = _drawn(made["noise"], n, level)
    sets["cascade, noise, level 0.2, truncated"] = _drawn(made["noise"], n, 0.2, truncated=True)
    sets["cascade, plain"] = _drawn(made["plain"], n, 0.0)
    sets["one model"] = _drawn(single, n, 0.0)
    return {
        "minutes": told.minutes, "n": n,
        "distances": [{"what": name, **values} for name, values in distances(single, sets).items()],
        "training": {run.path.name: took(run) for run in (base, *made.values(), single)},
    }  # fmt: skip


def _drawn(run: Run, n: int, level: float, truncated: bool = False) -> np.ndarray:
    from dataclasses import replace

    sampling: Sampling = replace(run.settings(steps=20), augmentation=level, truncated=truncated)
    return run.sample(n, seed=1, sampling=sampling).numpy()


# ------------------------------------------------------------------------------------------- unclip


def unclip(told: argparse.Namespace) -> dict[str, Any]:
    """A pair, a prior and a decoder on captioned emoji of 32x32; the prior judged on captions that none has seen."""
    folder, seconds = told.folder / "unclip", 60 * told.minutes
    data = ["data.kind=emoji", "data.styles=noto", "labels=false", "attributes=[]", "text.kind=minilm"]
    net = ["net.kind=unet", "net.width=32", "net.multipliers=[1,2,4]", "net.blocks=1", "net.attention=8"]
    rest = ["train.lr=1e-3", "train.warmup=100", "train.decay=cosine", "train.precision=bf16"]
    pair = trained(
        [*data, "kind=pair", *net, *rest, "train.batch=128", "loss.times.kind=uniform", "loss.times.high=0.2"],
        folder / "pair", 0.3 * seconds,
    )  # fmt: skip
    embedded = ["data.kind=embeddings", f"data.pair={pair.path}", *(f"data.{word}" for word in data[:2]), *data[2:]]
    prior = trained(
        [*embedded, "embedding=text", "net.kind=transformer", "net.depth=4", "parameterization.kind=x0",
         "loss.notation=x0", f"stages.pair={pair.path}", "train.batch=128", "train.lr=5e-4", *rest[1:],
         "train.precision=no", "train.drop=0.1"],
        folder / "prior", 0.2 * seconds, {"pair": pair.path},
    )  # fmt: skip
    decoder = trained(
        [*data, "embedding=image", f"stages.pair={pair.path}", *net, "net.width=48", *rest, "train.batch=32",
         "sample.guidance=2.0"],
        folder / "decoder", 0.5 * seconds, {"pair": pair.path, "prior": prior.path},
    )  # fmt: skip
    found = _prior(prior, told.n)
    found["variations"] = _variations(decoder)
    found["training"] = {run.path.name: took(run) for run in (pair, prior, decoder)}
    return {"minutes": told.minutes, **found}


def _prior(prior: Run, n: int) -> dict[str, Any]:
    """Cosines to the true embeddings of held-out captions: of the prior, of the nearest known caption, of the mean."""
    from reverie.unclip import Prior

    data = prior.recipe.data
    examples = data.load()
    split = data.split(examples, prior.recipe.train.validation, prior.recipe.train.seed)
    rows = split.validation[
        np.linspace(0, len(split.validation) - 1, min(n, len(split.validation))).round().astype(int)
    ]
    texts = [examples.texts[i] for i in rows]
    asked = prior.ask(len(rows), prompt=texts)
    made = Prior(prior, prior.settings()).embeddings(asked, torch.device("cpu"))
    joint, train = prior.joint, [i for i in split.train.tolist() if examples.texts[i]]
    known = joint.texts([examples.texts[i] for i in train])
    nearest = (joint.texts(texts) @ known.T).argmax(1)
    items = torch.from_numpy(examples.items)
    told = cosines(made, items[rows], items[np.array(train)[nearest.numpy()]], items[split.train].mean(0))
    return {"captions": len(rows), "prior": told.line()}


def _variations(decoder: Run, pictures: int = 60, each: int = 4) -> dict[str, Any]:
    """How often a variation has the category of its picture, by a classifier in fixed features; and by chance."""
    from sklearn.linear_model import LogisticRegression

    from reverie.edits import Vary, Wish, edit

    examples = decoder.recipe.data.load()
    split = decoder.recipe.data.split(examples, decoder.recipe.train.validation, decoder.recipe.train.seed)
    category = next(a for a in examples.attributes if a.name == "category")
    opened = from_text(FEATURES).open(Collection(examples.items[split.train], True, "training"))

    def features(items: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate(
                [opened(torch.from_numpy(part)).numpy() for part in np.array_split(items, max(1, len(items) // 64))]
            )

    judge = LogisticRegression(max_iter=300, C=0.05).fit(
        features(examples.items[split.train]), category.values[split.train]
    )
    rows = split.validation[np.linspace(0, len(split.validation) - 1, pictures).round().astype(int)]
    made = np.concatenate([
        edit(decoder, Vary(torch.from_numpy(examples.items[i : i + 1])), Wish(), each).numpy() for i in rows
    ])  # fmt: skip
    true = np.repeat(category.values[rows], each)
    said, real = judge.predict(features(made)), judge.predict(features(examples.items[rows]))
    share = np.bincount(category.values[split.train][category.values[split.train] >= 0]) / len(split.train)
    hit = (said == true).reshape(pictures, each).mean(1)
    return {
        "kept": float(hit.mean()), "error": float(hit.std(ddof=1) / pictures**0.5),
        "real": float((real == category.values[rows]).mean()),
        "chance": float(sum((said == k).mean() * (true == k).mean() for k in range(len(share)))),
        "pictures": pictures, "each": each,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------- report


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, of what there is."""
    made = {}
    for part in ("latent", "cascade"):
        if part in found:
            rows = ["| | FID | KID x 1000 |", "|---|---|---|"]
            for row in found[part]["distances"]:
                error = row.get("fid_error")
                told = [f"{row['fid']:.1f}" + (f" ± {error:.1f}" if error else ""), f"{1000 * row['kid']:.2f}"]
                rows.append(f"| {row['what']} | {' | '.join(told)} |")
            made[part] = "\n".join([*rows, "", about(found[part])])
    return made


PARTS = {"latent": latent, "cascade": cascade, "unclip": unclip}


def main() -> None:
    """Measure a part, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "report"])
    parser.add_argument("--minutes", type=float, default=6.0, help="of training of each side")
    parser.add_argument("-n", type=int, default=1000, help="samples that are judged, or captions")
    parser.add_argument("--folder", type=Path, default=Path("runs/systems"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    path = told.out.with_suffix(".json")
    found = json.loads(path.read_text()) if path.is_file() else {}
    if told.part != "report":
        made = PARTS[told.part](told)
        found[told.part] = {"about": provenance(("torch", "efficientnet-lite-pytorch"), 1), **made}
        write_text(path, lines(found))
        print(json.dumps(made, indent=1))
        return
    write_text(DOC, filled(DOC.read_text(), tables(found)))


if __name__ == "__main__":
    main()
