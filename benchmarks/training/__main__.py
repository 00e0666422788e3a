"""Training: the time and memory of a step, ours and the peers'; loss curves; and the time to quality.

    make peers                                        # the libraries to compare with
    python -m benchmarks.training                     # all but gpu: about nine hours on two idle cores, most of
                                                      # them to draw the samples of the peers' large networks
    python -m benchmarks.training steps --rounds 15
    python -m benchmarks.training quality --judge 1 2 5 10      # fewer to draw; the others later, if at all
    python -m benchmarks.training quality --minutes 0.5 --every 0.25 --samples 200 --out /tmp/try
    python -m benchmarks.training gpu                 # where there is one
    python -m benchmarks.training report              # tables and pictures again, from the results

`steps` times a full training step of every network, `curves` lays the loss curves of our paths over each other,
`quality` trains ours and the peers against the clock and judges their samples, `precision` compares bf16 with float32
over seeds. Results go to benchmarks/results/training-PART.json and training.md, the page to
docs/training-benchmark.md; what is trained, to runs/benchmark/.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.publishing import lines, provenance
from reverie.files import write_text

ROOT = Path(__file__).parent.parent.parent
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
PARTS = ("steps", "curves", "precision", "quality", "gpu")
LIBRARIES = ("torch", "diffusers", "denoising-diffusion-pytorch", "azula", "smalldiffusion")

Save = Callable[[dict[str, Any]], object]


def part_steps(told: argparse.Namespace, save: Save) -> None:
    """A family at a time, so that not all workers hold memory at once."""
    from benchmarks.training.networks import FAMILIES
    from benchmarks.training.steps import cases, measure

    rows: list[dict[str, Any]] = []
    for family in told.families or FAMILIES:
        rows += measure(cases(family, told.batch, told.compile), told.rounds, told.seed)
        save({"batch": told.batch, "rounds": told.rounds, "rows": rows})


def part_curves(told: argparse.Namespace, save: Save) -> None:
    """200 steps of the recipe on garments."""
    from benchmarks.training.curves import curves

    save(curves(["fashion"], told.steps, told.runs))


def part_precision(told: argparse.Namespace, save: Save) -> None:
    """Digits and garments."""
    from benchmarks.training.curves import precisions

    save(precisions([(["digits"], 4 * told.steps), (["fashion"], 2 * told.steps)], told.seeds, told.runs))


def part_quality(told: argparse.Namespace, save: Save) -> None:
    """Train what is not trained yet, then judge what is not judged yet."""
    from benchmarks.training.features import Judge
    from benchmarks.training.quality import judged, train
    from benchmarks.training.systems import SYSTEMS

    names = told.systems or list(SYSTEMS)
    train(names, told.runs, told.minutes, told.every, told.seed)
    about = {"minutes": told.minutes, "evaluations": told.evaluations, "n": told.samples}
    judge = Judge(told.runs)
    about |= {"classifier": judge.about, "floor": judge.floor(told.samples)}
    path = told.out / "training-quality.json"
    known = json.loads(path.read_text())["rows"] if path.exists() and not told.afresh else []
    others = [row for row in known if row["system"] not in names]
    judged(
        judge,
        names,
        told.runs,
        told.samples,
        told.evaluations,
        told.seed,
        known,
        told.judge,
        lambda rows: save(about | {"rows": sorted(others + rows, key=lambda row: list(SYSTEMS).index(row["system"]))}),
    )


def part_gpu(told: argparse.Namespace, save: Save) -> None:
    """Only where there is a device."""
    from benchmarks.training import gpu

    if why := gpu.refusal():
        sys.exit(why)
    save(gpu.run(told.rounds, told.gpu_batch, told.compile_mode, told.seed))


RUN = {
    "steps": part_steps,
    "curves": part_curves,
    "precision": part_precision,
    "quality": part_quality,
    "gpu": part_gpu,
}


def parsed() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}, report; all but gpu unless named")
    add("--seed", type=int, default=0)
    add("--rounds", type=int, default=15, help="of steps: one of each case a round")
    add("--batch", type=int, default=32, help="of steps")
    add("--families", nargs="*", choices=("dit", "unet"), help="of steps; both unless named")
    add("--compile", action="store_true", help="steps: the networks compiled as well, some minutes more")
    add("--steps", type=int, default=200, help="of curves; precision takes twice and four times as many")
    add("--seeds", type=int, default=3, help="of precision")
    add("--minutes", type=float, default=10, help="quality: of training, each system")
    add("--every", type=float, default=1, help="quality: minutes between checkpoints")
    add("--samples", type=int, default=2000, help="quality: judged, of each checkpoint")
    add("--evaluations", type=int, default=25, help="quality: of the network, for each of the peers' samples")
    add("--judge", type=float, nargs="*", help="quality: only these minutes; all unless named")
    add("--systems", nargs="*", help="quality: names; all unless named; what is known of others stays")
    add("--afresh", action="store_true", help="quality: judge again what has been judged")
    add("--gpu-batch", type=int, default=256)
    add("--compile-mode", default="default", help="gpu: of torch.compile, for both")
    add("--runs", type=Path, default=ROOT / "runs" / "benchmark", help="what is trained")
    add("--out", type=Path, help="another folder for results and page: a trial, which leaves the published ones alone")
    told = parser.parse_args()
    for word in told.parts:
        if word not in (*PARTS, "report"):
            parser.error(f"there is no part {word!r}; there are: {', '.join((*PARTS, 'report'))}")
    told.docs = told.out or DOCS
    told.out = told.out or RESULTS
    return told


def main() -> None:
    """Measure what was asked for, then write the report of all there is."""
    told = parsed()
    told.out.mkdir(parents=True, exist_ok=True)
    for part in told.parts or [p for p in PARTS if p != "gpu"]:
        if part != "report":
            path, where = told.out / f"training-{part}.json", provenance(LIBRARIES, told.seed)
            RUN[part](told, lambda found, p=path, w=where: write_text(p, lines({"about": w} | found)))
    from benchmarks.training.page import write

    known = {part: told.out / f"training-{part}.json" for part in PARTS}
    found = {part: json.loads(path.read_text()) for part, path in known.items() if path.exists()}
    write(found, told.out / "training.md", told.docs / "training-benchmark.md", DOCS / "training-benchmark.md")


if __name__ == "__main__":
    main()
