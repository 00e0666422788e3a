"""Samplers: error against network evaluations, convergence, and what the loop costs; ours and the peers'.

    make peers                                     # diffusers, k-diffusion, azula
    python -m benchmarks.samplers                  # all: about a quarter of an hour on one thread
    python -m benchmarks.samplers errors --seed 7  # on mixtures nobody has seen
    python -m benchmarks.samplers timing           # only the loops
    python -m benchmarks.samplers report           # the tables and the plot again, from the results

The error of a sample is its distance (root mean square over coordinates) from the exact solution of the
flow ODE begun at the same noise and the same level; tables give the root mean square and the median over
samples. `faults` measures what docs/peers.md says, `special` what docs/choosing.md says of noise and of
clipping. Results go to benchmarks/results/samplers*.json and .md, the pages to docs/; those of another seed
or of some problems alone to runs/benchmark/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.publishing import lines, provenance
from reverie.devices import keep_freed_memory
from reverie.files import write_text

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BUDGETS = (4, 5, 6, 8, 10, 15, 20, 30, 50, 100)
NETWORK_BUDGETS = (5, 8, 10, 15, 20, 30)
LIBRARIES = ("torch", "diffusers", "k-diffusion", "azula")
PARTS = ("errors", "networks", "convergence", "timing", "special", "faults")


def peers() -> list[Any]:
    """Every setting of every peer."""
    from benchmarks.samplers import peers_azula, peers_diffusers, peers_kdiffusion

    return [*peers_diffusers.settings(), *peers_kdiffusion.settings(), *peers_azula.settings()]


def errors(
    problems: Sequence[Any],
    settings: Sequence[Any],
    budgets: Sequence[int],
    fit_seconds: float,
    save: Callable[[dict[str, Any]], object],
) -> None:
    """Rows of all settings, and of a grid fitted to each problem, saved after each problem."""
    from benchmarks.samplers.measure import kept, packed, sweep
    from benchmarks.samplers.ours import fitted

    rows, doubts = [], {}
    for problem in problems:
        began = time.perf_counter()
        chosen = list(settings)
        if fit_seconds > 0:
            chosen.append(fitted(problem, budgets, fit_seconds)[0])
        rows += sweep(chosen, problem, budgets)
        doubts[f"{problem.name}, {problem.start}"] = max(problem.doubt)
        print(f"{problem.name}, {problem.start}: {time.perf_counter() - began:.0f} s", flush=True)
        save({"settings": len(settings), "rows": packed(kept(rows)), "reference": doubts})


def measured(part: str, told: argparse.Namespace, save: Callable[[dict[str, Any]], object]) -> None:
    """One part of the benchmark."""
    from benchmarks.samplers import ours
    from benchmarks.samplers.problems import NETWORKS, mixtures, sampled, trained

    fit = 0.0 if told.no_fit else told.fit_seconds
    if part == "errors":
        return errors(list(mixtures(told.seed, told.problems)), [*peers(), *ours.settings()], BUDGETS, fit, save)
    if part == "networks":
        chosen = [n for n in NETWORKS if told.problems is None or n.name in told.problems]
        made = [
            sampled(n, trained(n, told.runs, told.train_seconds), told.seed, g) for n in chosen for g in (False, True)
        ]
        return errors(made, [s for s in (*peers(), *ours.settings()) if s.strong], NETWORK_BUDGETS, 8 * fit, save)
    if part == "convergence":
        from benchmarks.samplers.convergence import curves

        others = [(s, None) for s in peers() if s.strong]
        return save({"curves": [c.plain() for c in curves([*ours.converging(), *others], told.seed)]})
    if part == "special":
        from benchmarks.samplers import special

        return save(special.measure(told.seed))
    if part == "faults":
        from benchmarks.samplers import faults

        return save(faults.measure(told.seed))
    from benchmarks.samplers.timing import measure

    return save({"timing": [t.plain() for t in measure(seconds=told.timing_seconds)]})


def check(parser: argparse.ArgumentParser, told: argparse.Namespace) -> None:
    """Refuse parts and problems that there are not: a misspelt one would be left out without a word."""
    from benchmarks.samplers.problems import GUIDED, MIXTURES, NETWORKS

    names = [each.name for each in (*MIXTURES, *GUIDED, *NETWORKS)]
    for given, known in ((told.parts, [*PARTS, "report"]), (told.problems or [], names)):
        for word in given:
            if word not in known:
                parser.error(f"there is no {word!r}; there are: {', '.join(known)}")


def main() -> None:
    """Measure what was asked for, then write the report of all there is."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.samplers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}, report; all of them unless named"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the mixtures and the noise")
    parser.add_argument("--problems", nargs="*", help="names of mixtures or networks; all unless named")
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs" / "benchmark", help="trained networks; missing ones are trained"
    )
    parser.add_argument("--train-seconds", type=float, default=600, help="for a network that is missing, at most")
    parser.add_argument(
        "--fit-seconds",
        type=float,
        default=15,
        help="to fit the grids of a mixture, at most; eight times as much for a network",
    )
    parser.add_argument("--no-fit", action="store_true", help="no fitted grids")
    parser.add_argument("--timing-seconds", type=float, default=120, help="for all loops together")
    parser.add_argument("--out", type=Path, help="results, a file a part: samplers-errors.json, ...")
    parser.add_argument("--page", type=Path, help="what is written for readers")
    told = parser.parse_args()
    check(parser, told)
    published = told.seed == 0 and told.problems is None  # others do not take the place of what the docs tell
    apart = ROOT / "runs" / "benchmark" / f"samplers-seed{told.seed}.json"
    told.out = told.out or (RESULTS / "samplers.json" if published else apart)
    told.page = told.page or (ROOT / "docs" / "samplers-benchmark.md" if published else apart.with_suffix(".page.md"))
    torch.set_num_threads(1)
    keep_freed_memory()
    asked = told.parts or list(PARTS)
    for part in asked:
        if part != "report":
            path, where = told.out.with_name(f"{told.out.stem}-{part}.json"), provenance(LIBRARIES, told.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            measured(part, told, lambda found, p=path, w=where: write_text(p, lines({"about": w} | found)))
    from benchmarks.samplers.page import write

    known = {p: told.out.with_name(f"{told.out.stem}-{p}.json") for p in PARTS}
    write(
        {p: json.loads(path.read_text()) for p, path in known.items() if path.exists()},
        told.out.with_suffix(".md"),
        told.page,
        write_text,
    )


if __name__ == "__main__":
    main()
