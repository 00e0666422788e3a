"""Toy runs: recipes that train in a fraction of a second, the command line in this process or in others."""

import contextlib
import functools
import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from reverie.cli.compose import composed
from reverie.data import Examples
from reverie.recipe import Recipe
from reverie.runs import Run, begin, load
from reverie.tensor_files import read_tensors
from reverie.training import Trainer

MLP = ("net.kind=mlp", "net.width=16", "net.depth=1")
DIT = ("net.kind=dit", "net.width=16", "net.depth=1", "net.heads=2", "net.dropout=0.2")
UNET = ("net.kind=unet", "net.width=8", "net.blocks=1", "net.multipliers=[1, 2]", "net.head_width=8", "net.dropout=0.2")
SHORT = (
    "train.steps=12",
    "train.batch=8",
    "train.warmup=2",
    "train.log_every=3",
    "train.validate_every=6",
    "train.sample_every=12",
    "train.save_every=4",
    "sample.grid.kind=uniform",
    "sample.grid.steps=3",
)
TOY = ("digits", *MLP, *SHORT)
"""Words of the command line; later settings win."""


@functools.cache
def _home() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="reverie-toys-")  # goes when this process ends


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What the command says when it fails as it should: exit code 1, and one sentence."""
        assert self.code == 1, self
        last = self.err.strip().splitlines()[-1]
        assert last.startswith("error: "), self
        assert len(last) > 20
        assert "Traceback" not in self.err + self.out
        assert self.err.count("error: ") == 1
        return last.removeprefix("error: ")


def cli(*words: object) -> Result:
    """`reverie WORDS` in this process."""
    from reverie.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["reverie", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Result(code, out.getvalue(), err.getvalue())


def toy(*settings: str) -> Recipe:
    return composed([*TOY, *settings])[0]


def begun(path: Path, *settings: str, examples: Examples | None = None) -> tuple[Run, Examples]:
    recipe = toy(*settings)
    examples = recipe.data.load() if examples is None else examples
    return begin(path, recipe, examples), examples


@functools.cache
def trained(*settings: str) -> Path:
    """A finished run of TOY and these settings, not to be changed: see `copied`."""
    path = Path(tempfile.mkdtemp(dir=_home().name)) / "run"
    result = cli("train", *TOY, *settings, "--out", path)
    assert result.code == 0, result
    return path


def copied(to: Path, *settings: str) -> Path:
    return Path(shutil.copytree(trained(*settings), to))


def interrupted(path: Path, moment: int, *settings: str, trainer: type[Trainer] = Trainer) -> Path:
    """A run that was left after step `moment`, and gone on with by another trainer."""
    run, examples = begun(path, *settings)
    for report in trainer(run, examples):
        if report.step == moment:
            break
    for _ in trainer(load(run.path), examples):
        pass
    return run.path


class Ahead(Trainer):
    """Reads a step when the next one is under way, as it does on a GPU."""

    def _set_up(self) -> None:
        super()._set_up()
        self._late = True


# ------------------------------------------------------------------------------- what a run is


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder and the hash of its bytes; the lock aside."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def metrics(run: Path) -> list[dict]:
    """The lines of metrics.jsonl without what is measured in seconds, or counts what this process compiled."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    left_out = {"steps_per_second", "waiting", "compilations"}
    return [{k: v for k, v in line.items() if k not in left_out} for line in lines]


def outcome(run: Path) -> dict:
    """All that a resumed run must have in common with the run that was never stopped."""
    model = {k: v.tolist() for k, v in read_tensors(run / "model.safetensors").items()}
    return {
        "states": hashes(run / "state"),
        "model": model,
        "metrics": metrics(run),
        "samples": hashes(run / "samples"),
    }


def finite(run: Path) -> bool:
    """Whether every saved weight is."""
    files = [*run.glob("state/*/*.safetensors"), run / "model.safetensors"]
    return all(bool(t.isfinite().all()) for file in files for t in read_tensors(file).values())


# ------------------------------------------------------------------------------ other processes

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["toys", "accelerate", "sklearn.datasets", "reverie.training", "matplotlib"])


def _child(words: tuple[str, ...], log: str, env: Mapping[str, str], first: Callable[[], None] | None) -> None:
    from reverie.cli import main

    with open(log, "ab", buffering=0) as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(env)
    torch.set_num_threads(1)
    sys.argv = ["reverie", *words]
    if first is not None:
        first()
    try:
        main()
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        raise


@contextlib.contextmanager
def process(
    *words: object, log: Path, env: Mapping[str, str] | None = None, first: Callable[[], None] | None = None
) -> Iterator[multiprocessing.Process]:
    """`reverie WORDS` in a process of its own, forked from one that has imported everything already."""
    child = _server.Process(target=_child, args=(tuple(map(str, words)), str(log), dict(env or {}), first))
    child.start()
    try:
        yield child
    finally:
        if child.is_alive():
            child.kill()
        child.join()


def killed(*words: object, log: Path, after: float) -> int | None:
    """Run and kill without notice `after` seconds of training; the exit code, -9 where it was soon enough."""
    with process("train", *words, log=log) as child:
        child.join(after)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
        child.join(60)
        return child.exitcode


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@dataclass(frozen=True)
class KillAt:
    """Makes a process kill itself when it is about to put its n-th file on the disk."""

    n: int

    def __call__(self) -> None:
        import reverie.files

        flush, count = reverie.files._flush, 0

        def counting(path: Path) -> None:
            nonlocal count
            count += 1
            if count == self.n:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(path)

        reverie.files._flush = counting


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def moments(n: int, longest: float) -> list[float]:
    """Random ones, printed, so that a failure can be repeated."""
    chosen = sorted(random.uniform(0, longest) for _ in range(n))
    print("moments", chosen)
    return chosen
