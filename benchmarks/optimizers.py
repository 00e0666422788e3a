"""What AdamW and Muon learn from the same examples, and what their steps cost: results/optimizers.json and its page.

Each recipe is trained briefly with each optimizer at each learning rate, falling to 0 as a cosine; the loss is that
of the averaged weights on held-out data, the same times and noise for all. The cost is of the optimizer's step alone,
for the network of the recipe, both in turn: the median of 21, on the threads that torch takes.

    python -m benchmarks.optimizers                    # digits: results and docs/training.md, about 3 minutes on a core
    python -m benchmarks.optimizers --recipes digits emoji --out /tmp/optimizers     # emoji: 25 minutes on two cores
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.publishing import ROOT, about, filled, lines, provenance
from reverie.cli.compose import composed
from reverie.files import write_text
from reverie.runs import METRICS, begin, new_model
from reverie.training import Trainer, log
from reverie.training.optim import optimizer

RESULTS, DOC = ROOT / "benchmarks" / "results" / "optimizers", ROOT / "docs" / "training.md"
RECIPES = {"digits": ("train.batch=64",), "emoji": ("train.batch=32",)}
KINDS, RATES = ("adamw", "muon"), (1e-3, 2e-3, 4e-3)


def words(name: str, kind: str, lr: float, steps: int) -> list[str]:
    """Of the command line: a recipe with an optimizer, for so many steps, which are validated at their end."""
    ends = [f"train.{at}_every={steps}" for at in ("validate", "sample", "save")]
    rest = [f"train.warmup={steps // 8}", "train.decay=cosine", "train.ema=0.99", "train.ema_lengths=[]"]
    return [name, *RECIPES[name], f"train.optimizer={kind}", f"train.lr={lr}", f"train.steps={steps}", *ends, *rest]


def losses(name: str, steps: int) -> Iterator[dict[str, Any]]:
    """The held-out loss of a recipe by optimizer and learning rate."""
    for lr in RATES:
        for kind in KINDS:
            recipe, _ = composed(words(name, kind, lr, steps))
            examples = recipe.data.load()
            with tempfile.TemporaryDirectory() as folder:
                run = begin(Path(folder) / "run", recipe, examples)
                for _ in Trainer(run, examples):
                    pass
                loss = [line["validation_loss"] for line in log.lines(run.path / METRICS) if "validation_loss" in line]
            yield {"recipe": name, "optimizer": kind, "lr": lr, "steps": steps, "loss": loss[-1]}


def cost(name: str) -> dict[str, Any]:
    """Parameters of the recipe's network, and the seconds of a step of each optimizer."""
    recipe, _ = composed(words(name, "adamw", 1e-3, 1))
    examples = recipe.data.load()
    with tempfile.TemporaryDirectory() as folder:
        run = begin(Path(folder) / "run", recipe, examples)
        net = new_model(run.recipe, run.facts).net
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    made = {kind: optimizer(net, composed(words(name, kind, 1e-5, 1))[0].train) for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(21):
        for kind, one in made.items():
            start = time.perf_counter()
            one.step()
            seconds[kind].append(time.perf_counter() - start)
    medians = {kind: statistics.median(s) for kind, s in seconds.items()}
    return {"recipe": name, "parameters": sum(p.numel() for p in net.parameters()), **medians}


def table(found: dict[str, Any]) -> str:
    """A row for each recipe and optimizer."""
    rates = list(dict.fromkeys(row["lr"] for row in found["losses"]))
    text = [
        f"| recipe, steps | optimizer | {' | '.join(f'lr {lr:g}' for lr in rates)} | its step |",
        "|---|---|" + "---:|" * (len(rates) + 1),
    ]
    for taken in found["costs"]:
        for kind in KINDS:
            of = [r for r in found["losses"] if (r["recipe"], r["optimizer"]) == (taken["recipe"], kind)]
            cells = " | ".join(f"{next(r['loss'] for r in of if r['lr'] == lr):.4f}" for lr in rates)
            text.append(f"| {taken['recipe']}, {of[0]['steps']} | {kind} | {cells} | {1e3 * taken[kind]:.1f} ms |")
    return "\n".join([*text, "", f"Held-out loss. {about(found)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=["digits"])
    parser.add_argument("--out", type=Path, default=RESULTS, help="without a suffix")
    told = parser.parse_args()
    found: dict[str, Any] = {"about": provenance(["torch"], 0), "losses": [], "costs": []}
    for name in told.recipes:
        found["costs"].append(cost(name))
        for row in losses(name, told.steps):
            print(json.dumps(row), flush=True)
            found["losses"].append(row)
    write_text(told.out.with_suffix(".json"), lines(found))
    if told.out == RESULTS:
        write_text(DOC, filled(DOC.read_text(), {"optimizers": table(found)}))
    print(table(found))


if __name__ == "__main__":
    main()
