"""How often an audit accuses honest models, and how often it catches those that copy.

- laws: samples of known laws, drawn anew for every audit: how often an honest model is accused at the default level of
  0.01, and at a level of 0.1 with no difference granted;
- copies: a share of the samples are training examples with noise, told in medians of the distance from a held-out
  example to the nearest training example;
- networks: twenty small networks trained on 1,200 digits or points for a short time; eight that were trained on 50
  digits for long; and what lies between, on digits.

    python -m benchmarks.evaluation.audit_calibration                 # about eight minutes of one thread
    python -m benchmarks.evaluation.audit_calibration --only laws copies

Writes results/audit-calibration.json and .md; parts that are left out stay as they stand there. Exit status 1: honest
models are accused more often than the binomial law of the stated level allows at 1e-4, or a copying network is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.publishing import about, lines, provenance
from reverie.audit import Audit, Settings, audit_run, audit_sets
from reverie.audit.material import generator
from reverie.cli.compose import composed
from reverie.data import Digits, resolve
from reverie.evaluation.collection import Collection
from reverie.files import write_text
from reverie.runs import Run, begin, load
from reverie.training import Trainer

RESULTS = Path(__file__).parents[1] / "results" / "audit-calibration.json"
SEED = 0
AUDITS, POWER = 100, 20
SETTINGS = Settings(permutations=1999, attacks=200, extractors=())
STRICT = replace(SETTINGS, level=0.1, tolerance=0.0)
SHARES, NOISES = (0.02, 0.05, 0.1, 0.2), (0.0, 0.25, 0.5)
NETWORK = ("net.kind=mlp", "net.width=128", "net.depth=2", "train.lr=2e-3", "train.batch=64", "train.ema=0.99",
           "train.warmup=20", "train.validate_every=1000000", "train.sample_every=1000000",
           "train.save_every=1000000", "train.snapshots=1")  # fmt: skip
LADDER = (50, 100, 200, 400, 800)

Law = Callable[[int, np.random.Generator], np.ndarray]


# ------------------------------------------------------------------------------------- known laws


def mixture(width: int) -> Law:
    """Normal laws of several widths about eight centres."""
    centres = 2 * generator(SEED, width).standard_normal((8, width))

    def draw(n: int, random: np.random.Generator) -> np.ndarray:
        which = random.integers(0, 8, n)
        spread = 0.1 + 0.1 * which[:, None]
        return (centres[which] + spread * random.standard_normal((n, width))).astype(np.float32)

    return draw


def smooth_digits(n: int, random: np.random.Generator) -> np.ndarray:
    """Digits drawn with replacement, with noise of a tenth of their range."""
    items = Digits().load().items
    chosen = items[random.integers(0, len(items), n)]
    return np.clip(np.rint(chosen + 25 * random.standard_normal(chosen.shape)), 0, 255).astype(np.uint8)


LAWS: dict[str, Law] = {
    "mixture in the plane": mixture(2), "mixture of 16 numbers": mixture(16), "digits with noise": smooth_digits,
}  # fmt: skip
SIZES = (400, 800, 300)
"""Samples, training and held-out examples."""


def audit(made: np.ndarray, training: np.ndarray, held_out: np.ndarray, settings: Settings) -> Audit:
    image = training.dtype == np.uint8
    return audit_sets(*(Collection(x, image, "a law") for x in (made, training, held_out)), settings)


def laws() -> list[dict[str, Any]]:
    """False accusations of honest samples."""
    found = []
    for number, (name, law) in enumerate(LAWS.items()):
        accused, strict, least = 0, 0, []
        for i in range(AUDITS):
            random = generator(SEED, 1, number, i)
            sets = [law(n, random) for n in SIZES]
            accused += audit(*sets, SETTINGS).memorises
            one = audit(*sets, STRICT)
            strict += one.memorises
            least.append(min(f.adjusted for f in one.findings if f.adjusted is not None))
        found.append({"law": name, "audits": AUDITS, "accused": accused, "strict": strict, "least_p": min(least)})
        print(found[-1], flush=True)
    return found


def copies() -> list[dict[str, Any]]:
    """How often copies among the samples are seen."""
    found = []
    for number, (name, law) in enumerate(LAWS.items()):
        for share in SHARES:
            for noise in NOISES:
                seen, told = 0, []
                for i in range(POWER):
                    random = generator(SEED, 2, number, i)
                    made, training, held_out = (law(n, random) for n in SIZES)
                    copied = _copied(made, training, held_out, share, noise, random)
                    one = audit(copied, training, held_out, SETTINGS)
                    seen += one.memorises
                    told.append(one.finding("near_copies").value)
                row = {"law": name, "share": share, "noise": noise, "audits": POWER, "seen": seen}
                found.append({**row, "near_copies": float(np.mean(told))})
                print(found[-1], flush=True)
    return found


def _copied(
    made: np.ndarray,
    training: np.ndarray,
    held_out: np.ndarray,
    share: float,
    noise: float,
    random: np.random.Generator,
) -> np.ndarray:
    """The samples, the first of them replaced by noisy training examples."""
    flat = [x.reshape(len(x), -1).astype(np.float64) for x in (held_out[:100], training)]
    square = (flat[0] ** 2).sum(1)[:, None] + (flat[1] ** 2).sum(1) - 2 * flat[0] @ flat[1].T
    near = float(np.median(np.sqrt(np.maximum(square.min(1), 0)))) / np.sqrt(flat[0].shape[1])
    number = round(share * len(made))
    chosen = training[random.integers(0, len(training), number)]
    noisy = chosen + noise * near * random.standard_normal(chosen.shape)
    if made.dtype == np.uint8:
        noisy = np.clip(np.rint(noisy), 0, 255)
    return np.concatenate([noisy.astype(made.dtype), made[number:]])


# --------------------------------------------------------------------------------------- networks


def trained(folder: Path, items: np.ndarray, train: int, steps: int, seed: int) -> Run:
    """A small network trained on the first `train` items, the rest held out."""
    marks = np.array(["train"] * train + ["test"] * (len(items) - train))
    np.savez(folder / "data.npz", x=items, split=marks)
    words = (str(folder / "data.npz"), *NETWORK, f"train.steps={steps}", f"train.seed={seed}")
    recipe = composed(list(words))[0]
    examples = recipe.data.load()
    for _ in Trainer(begin(folder / "run", recipe, examples), examples):
        pass
    return load(folder / "run")


def _network(what: str, train: int, steps: int, seed: int, held_out: int = 400) -> dict[str, Any]:
    """One network, and what its audit says."""
    data = resolve(what)
    items = (data if isinstance(data, Digits) else replace(data, seed=100 + seed)).load().items
    items = items[generator(SEED, 3, seed).permutation(len(items))[: train + held_out]]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = audit_run(trained(Path(folder), items, train, steps, seed), replace(SETTINGS, n=400, seed=seed))
    row: dict[str, Any] = {
        "data": what,
        "trained_on": train,
        "steps": steps,
        "seed": seed,
        "verdict": found.verdict.word,
    }
    for name in ("near_copies", "closer", "membership", "gap"):
        row[name] = found.finding(name).value
    row["adjusted"] = min(f.adjusted for f in found.findings if f.adjusted is not None)
    row["seconds"] = round(time.process_time() - began, 1)
    print(row, flush=True)
    return row


def honest() -> list[dict[str, Any]]:
    """Twenty networks that have no reason to memorise."""
    points = ("checkerboard", "swissroll", "two_moons")
    return [
        _network("digits", 1200, 800, i) if i % 2 else _network(points[i // 2 % 3], 1200, 1200, i) for i in range(20)
    ]


def memorising() -> list[dict[str, Any]]:
    """Eight networks trained on 50 digits for long."""
    return [_network("digits", 50, 2500, i) for i in range(8)]


def ladder() -> list[dict[str, Any]]:
    """As many steps on more and more digits."""
    return [_network("digits", train, 2500, 50) for train in LADDER]


# ------------------------------------------------------------------------------------------ pages

PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "laws": laws, "copies": copies, "honest": honest, "memorising": memorising, "ladder": ladder,
}  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The tables."""
    text = [
        "# What an audit accuses, and what it misses",
        "",
        "`python -m benchmarks.evaluation.audit_calibration`.",
        "",
    ]
    if rows := found.get("laws", {}).get("rows"):
        text += ["## Honest samples of known laws", "", about(found["laws"]), ""]
        text += ["| law | audits | accused at 0.01 | at 0.1, nothing granted |", "|---|---:|---:|---:|"]
        text += [f"| {r['law']} | {r['audits']} | {r['accused']} | {r['strict']} |" for r in rows] + [""]
    if rows := found.get("copies", {}).get("rows"):
        text += ["## Copies among honest samples: how often they are seen", "", about(found["copies"]), ""]
        head = "".join(f" {100 * share:g} % copies |" for share in SHARES)
        text += [f"| law | noise |{head}", "|---|---:|" + "---:|" * len(SHARES)]
        for name in LAWS:
            for noise in NOISES:
                part = [r for r in rows if (r["law"], r["noise"]) == (name, noise)]
                text.append(f"| {name} | {noise:g} |" + "".join(f" {r['seen']} of {r['audits']} |" for r in part))
        text.append("")
    titles = {
        "honest": "Networks trained on many examples for a short time",
        "memorising": "Networks trained on 50 digits for long",
        "ladder": "As many steps on more and more digits",
    }
    for part, title in titles.items():
        if rows := found.get(part, {}).get("rows"):
            text += [f"## {title}", "", about(found[part]), "", *_table(rows), ""]
    return "\n".join(text)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    text = ["| data | trained on | steps | verdict | near-copies | closer to training | AUC | loss gap | least p |"]
    text += ["|---|---:|---:|---|---:|---:|---:|---:|---:|"]
    for r in rows:
        shares = (f"{100 * r[name]:.1f} %" for name in ("near_copies", "closer"))
        text.append(
            f"| {r['data']} | {r['trained_on']} | {r['steps']} | {r['verdict']} | {' | '.join(shares)} | "
            f"{r['membership']:.3f} | {100 * r['gap']:.1f} % | {r['adjusted']:.2g} |"
        )
    return text


def failures(found: dict[str, Any]) -> list[str]:
    """Where a promise is broken, in words."""
    from scipy.stats import binom

    wrong = []
    for r in found.get("laws", {}).get("rows", ()):
        for name, level in (("accused", 0.01), ("strict", 0.1)):
            if r[name] > binom.isf(1e-4, r["audits"], level):
                wrong.append(f"{r['law']}: {r[name]} of {r['audits']} accused at {level}")
    rows = found.get("honest", {}).get("rows", ())
    accused = sum(r["verdict"] == "memorises" for r in rows)
    if rows and accused > binom.isf(1e-4, len(rows), 0.01):
        wrong.append(f"{accused} of {len(rows)} honest networks accused")
    missed = [r for r in found.get("memorising", {}).get("rows", ()) if r["verdict"] != "memorises"]
    return wrong + [f"{r['data']} on {r['trained_on']}, seed {r['seed']}: {r['verdict']}" for r in missed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    for part in given.only:
        rows = PARTS[part]()
        found[part] = {"about": provenance(["torch", "numpy", "scipy"], SEED), "rows": rows}
        write_text(given.out, lines(found))
        write_text(given.out.with_suffix(".md"), page(found))
    if wrong := failures(found):
        print("\n".join(wrong))
        sys.exit(1)


if __name__ == "__main__":
    main()
