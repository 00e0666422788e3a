"""Every recipe of the library on the real digits, for the same time: likelihood and sample quality.

Each recipe keeps its process, parameterization, time label, loss and sampler; data, network and
optimizer are the same for all: the digits of 8x8 by class, the transformer that is chosen for them,
AdamW at a learning rate of 1e-3 in batches of 128, averaged weights. Two minutes are of processor time on
one thread, so that what else the machine does changes nothing. Then, of each:

- bits/dim of held-out digits with the standard error, by the flow ODE under uniform dequantization and by
  the variational bound, on the recipe's own chain or on 256 steps (docs/likelihood.md);
- recognised: the share of generated digits that a support vector machine, fitted on the real
  training digits, takes for the class asked for; beside it, that of held-out real digits;
- Frechet distance between the Gaussians fitted to generated and to real training digits, as vectors
  of 64 pixels in [0, 1]; beside it, that of held-out real digits, and that of uniform noise;
- what sampling costs: evaluations of the network, and seconds for the samples judged.

Prints a table and writes it, with date, commit and machine, and one sheet of samples a recipe.

    python benchmarks/recipes.py                       # results/recipes.md and .json, about an hour
    python benchmarks/recipes.py ddpm edm              # these two anew, the others as they stand there
    python benchmarks/recipes.py --seconds 10 -n 50 --out /tmp/try.md edm
"""

import argparse
import json
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

import reverie
from reverie.cli.compose import composed
from reverie.evaluation.likelihood import Settings
from reverie.evaluation.metrics.fid import distance, moments
from reverie.files import write_json, write_text
from reverie.recipe import library
from reverie.runs import begin
from reverie.schedules import Schedule

HERE = Path(__file__).parent
SETTINGS = ("train.batch=128", "train.lr=1e-3", "train.steps=100000", "train.ema=0.995", "train.save_every=100000",
            "train.sample_every=100000", "train.validate_every=100000", "train.snapshots=1", "net=none")  # fmt: skip
"""What is the same for all recipes."""
LEFT_OUT = {"digits", "fashion", "swissroll"}
"""Recipes that bring data of their own."""


class Counted:
    """A denoiser that counts how often it is asked."""

    def __init__(self, f: reverie.Denoises) -> None:
        self.f, self.calls = f, 0

    @property
    def schedule(self) -> Schedule:
        return self.f.schedule

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: reverie.Cond | None = None) -> reverie.Prediction:
        self.calls += 1
        return self.f(x, t, cond)


def train(name: str, out: Path, seconds: float) -> tuple[reverie.Run, int]:
    """A run of the recipe on digits, stopped when the time is up, and its steps."""
    recipe, _ = composed([name, "digits", *SETTINGS])
    examples = recipe.data.load()
    run = begin(out, recipe, examples)
    began, steps = None, 0
    for report in reverie.Trainer(run, examples):
        began = began or time.process_time()  # the first report comes before the first step
        steps = report.step
        if time.process_time() - began > seconds:
            break
    return reverie.load(out), steps


def evaluations(run: reverie.Run) -> int:
    """How often the run's sampler asks the network for one sample."""
    f = Counted(run.denoiser)
    x = torch.zeros(1, *run.shape)
    with torch.no_grad():
        reverie.generate(f, run.sampler, run.grid(run.schedule), x, reverie.Cond(label=torch.zeros(1).long()))
    return f.calls


def judge(run: reverie.Run, n: int, sheet: Path) -> dict[str, float]:
    """Sample quality and cost; writes a sheet of the first hundred."""
    from sklearn.svm import SVC

    from reverie.outputs import write_samples

    examples = run.recipe.data.load()
    split = run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed)
    real, labels = examples.items.reshape(len(examples), -1) / 255.0, examples.labels
    began = time.process_time()
    samples = run.sample(n, seed=1)
    seconds = time.process_time() - began
    asked = run.labels_for(n, None)
    write_samples(sheet, samples[:100], run.ask(n).part(0, 100), run.facts, {"run": run.path.name, "seed": 1})
    made = samples.numpy().reshape(n, -1) / 255.0
    known, held_out = real[split.train], real[split.validation]
    classifier = SVC(gamma=0.02, C=10).fit(known, labels[split.train])
    noise = np.random.default_rng(0).random(made.shape)
    return {
        "recognised": float(np.mean(classifier.predict(made) == np.array(asked))),
        "recognised, real": float(classifier.score(held_out, labels[split.validation])),
        "frechet": distance(moments(made), moments(known)),
        "frechet, real": distance(moments(held_out), moments(known)),
        "frechet, noise": distance(moments(noise), moments(known)),
        "evaluations": evaluations(run),
        "seconds": seconds,
    }


def likelihood(run: reverie.Run) -> dict[str, float]:
    """Bits per dimension of the held-out digits by the flow ODE, and by the bound where the process is a chain."""
    ode = run.likelihood(Settings(n=180, bound=False)).ode
    knots = run.schedule.knots
    bound = run.likelihood(Settings(n=64, ode=False, steps=None if knots is None else min(knots, 1000))).bound
    assert ode is not None
    assert bound is not None
    return {
        "bits_per_dim": ode.bits_per_dim,
        "error": ode.standard_error or 0.0,
        "bound": bound.bits_per_dim,
        "bound_error": bound.standard_error or 0.0,
    }


def table(rows: dict[str, dict[str, float]], about: str) -> str:
    """The results as a page."""
    first = next(iter(rows.values()))
    lines = [
        "# Every recipe on the digits, for the same time",
        "",
        about,
        "",
        "| recipe | steps | bits/dim, flow ODE | bits/dim, bound | recognised | Frechet distance | evaluations "
        "| s a sample |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, r in sorted(rows.items(), key=lambda item: item[1]["frechet"]):
        lines.append(
            f"| {name} | {r['steps']:,} | {r['bits_per_dim']:.2f} ± {r['error']:.2f} "
            f"| {r['bound']:.2f} ± {r['bound_error']:.2f} | {r['recognised']:.1%} | {r['frechet']:.3f} "
            f"| {r['evaluations']:,} | {r['seconds'] / r['n']:.2f} |"
        )
    lines.append(
        f"| real digits, held out | | | | {first['recognised, real']:.1%} | {first['frechet, real']:.3f} | | |"
    )
    lines.append(f"| uniform noise | | | | | {first['frechet, noise']:.3f} | | |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Train, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="all that bring no data of their own, unless named")
    parser.add_argument("--seconds", type=float, default=120, help="of processor time to train, each")
    parser.add_argument("-n", type=int, default=200, help="samples judged")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"), help="where the runs and sheets go")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "recipes.md", help="the table; .json beside it")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE)
    kept = asked.out.with_suffix(".json")
    for name in asked.recipes or sorted(library().keys() - LEFT_OUT):
        run, steps = train(name, asked.runs / name, asked.seconds)
        found = {"steps": steps, "n": asked.n} | judge(run, asked.n, asked.runs / f"{name}.png") | likelihood(run)
        print(name, {key: round(value, 4) for key, value in found.items()}, flush=True)
        rows = (json.loads(kept.read_text()) if kept.exists() else {}) | {name: found}
        about = (
            f"`python benchmarks/recipes.py` at {commit.stdout.strip() or 'no commit'}, {datetime.now(UTC):%d %B %Y}; "
            f"{platform.machine()}, torch {torch.__version__}. {asked.seconds:.0f} s of training each on one thread, "
            f"{asked.n} samples judged. Settings shared by all: {', '.join(SETTINGS[:2])}, {SETTINGS[3]}."
        )
        write_text(asked.out, table(rows, about))
        write_json(kept, rows)
    print(asked.out.read_text())


if __name__ == "__main__":
    main()
