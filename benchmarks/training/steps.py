"""The time of a training step: every case in a process of its own, one step of each a round, in random order."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.training.networks import NETWORKS, gflop
from benchmarks.training.worker import Case

ROOT = Path(__file__).parent.parent.parent


def cases(family: str, batch: int, compiled: bool = False) -> list[Case]:
    """Ours and the peers' in float32 and bf16, and ours by the plain path."""
    names = [name for name, network in NETWORKS.items() if network.family == family]
    ours = f"reverie-{family}"
    found = [Case(name, precision, batch=batch) for name in names for precision in ("float32", "bf16")]
    found += [Case(ours, precision, plain=True, batch=batch) for precision in ("float32", "bf16")]
    if compiled:
        found += [Case(name, p, "default", batch=batch) for name in names for p in ("float32", "bf16")]
    return found


class Worker:
    """A running worker."""

    def __init__(self, case: Case) -> None:
        """Start it, and wait until it has warmed up."""
        self.case = case
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would fill up
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training.worker", json.dumps(case.plainly())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
        )
        self.facts = self._answer()

    def ask(self, word: str) -> dict[str, Any]:
        """One word, one answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.case.label} failed:\n{self.errors.read()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def working(case: Case) -> Iterator[Worker]:
    """A worker that ends with the block."""
    worker = Worker(case)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()
        worker.errors.close()


def measure(
    chosen: Sequence[Case], rounds: int, seed: int, say: Callable[[str], object] = print
) -> list[dict[str, Any]]:
    """A row a case: what it is, seconds of each round, peak of memory in bytes.

    A case that its library cannot run has a `failure` and no figures.
    """
    rows, running = [], []
    with ExitStack() as stack:
        for case in chosen:
            row: dict[str, Any] = case.plainly() | {"label": case.label, "library": NETWORKS[case.network].library}
            rows.append(row)
            try:
                worker = stack.enter_context(working(case))
            except RuntimeError as error:
                say(str(error))
                row["failure"] = str(error).strip().splitlines()[-1][:200]
                continue
            row |= {"parameters": worker.facts["parameters"], "gflop": gflop_of(case), "seconds": []}
            running.append((worker, row))
            say(f"{case.network}, {case.label}: ready after {worker.facts['warming']:.1f} s")
        for i in range(rounds):
            order = random.Random(f"{seed}/{i}").sample(running, len(running))
            for worker, row in order:
                row["seconds"].append(round(worker.ask("step")["seconds"], 6))
        for worker, row in running:
            row |= worker.ask("end")
    return rows


_COUNTED: dict[tuple[str, str, int], float] = {}


def gflop_of(case: Case) -> float:
    """As counted once for all cases of a network."""
    key = (case.network, case.size, case.batch)
    if key not in _COUNTED:
        _COUNTED[key] = gflop(NETWORKS[case.network], case.size, case.batch)
    return _COUNTED[key]
