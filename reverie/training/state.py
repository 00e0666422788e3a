"""What training resumes from: saved whole or not at all, checked when read, without pickle.

Of state/<step>/:

- network.safetensors: raw weights
- average.safetensors: averaged weights
- optimizer.safetensors: the optimizer's, by parameter name
- ema.safetensors: the power-function averages, if any
- loss.safetensors: what the loss learns or remembers, if anything
- state.json: step, losses not yet logged, processes, SHA-256 of the files above
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from reverie.files import write_json
from reverie.runs import BEST, CONFIG, EMA, METRICS, MODEL, SAMPLES, STATE, Run
from reverie.tensor_files import read_tensors, write_tensors

_PARTIAL = ".partial-"
_STEP = "[0-9]" * 8
NETWORK, AVERAGE, OPTIMIZER = "network.safetensors", "average.safetensors", "optimizer.safetensors"
POWER, LOSS = "ema.safetensors", "loss.safetensors"
_ALWAYS, _SOMETIMES = (NETWORK, AVERAGE, OPTIMIZER), (POWER, LOSS)

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """Counters of a training run."""

    step: int = 0
    """Steps done."""
    losses: tuple[float, ...] = ()
    """Losses since the last line of metrics.jsonl."""
    processes: int = 1
    """How many trained; with another number the batches are others."""


@dataclass(frozen=True, eq=False)
class Saved:
    """A state read back."""

    progress: Progress
    files: dict[str, dict[str, Tensor]]
    """Tensors by the file they stand in; `POWER` and `LOSS` may be missing."""


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state of the parameters of `model`, as `<parameter>/<quantity>`."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {
        f"{names[p]}/{key}": value
        for p, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor) and p in names
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what `optimizer_tensors` gave."""
    for name, p in model.named_parameters():
        values = {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.rpartition("/")[0] == name}
        optimizer.state[p] = {k: v.to(p.device if v.ndim else "cpu") for k, v in values.items()}


def save(run: Run, progress: Progress, files: Mapping[str, Tensors], keep: int) -> Path:
    """Write a state, make its averaged weights the run's model, and drop all but the newest `keep`.

    The state is complete before it gets its name, and nothing older is touched before that.

    Args:
        run: of which it is the state.
        progress: its counters.
        files: the tensors of each file; `NETWORK`, `AVERAGE` and `OPTIMIZER` are always there.
        keep: how many states are left.

    Raises:
        OSError: the disk is full or cannot be written; what was saved before is as it was.
    """
    final = run.path / STATE / f"{progress.step:08d}"
    partial = final.with_name(f"{_PARTIAL}{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if not _is_whole(final):
            partial.mkdir(parents=True)
            for name, tensors in files.items():
                write_tensors(partial / name, tensors)
            hashes = {name: _hash(partial / name) for name in files}
            write_json(partial / "state.json", {**asdict(progress), "sha256": hashes})
            shutil.rmtree(final, ignore_errors=True)  # damaged, where there is one
            partial.replace(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    run.save_model(files[AVERAGE], progress.step)
    _drop([p for p in states(run) if int(p.name) > progress.step])  # training passed them over as damaged
    _drop(list(states(run))[keep:])
    return final


def _drop(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def states(run: Run) -> Iterator[Path]:
    """The saved states, newest first."""
    folder = run.path / STATE
    found = [p for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    yield from sorted(found, key=lambda p: int(p.name), reverse=True)


def read(path: Path) -> Saved:
    """A saved state, if it is whole.

    Raises:
        ValueError: a file is missing, or is not what was written.
    """
    try:
        data = json.loads((path / "state.json").read_text(encoding="utf-8"))
        progress = Progress(int(data["step"]), tuple(float(v) for v in data["losses"]), int(data.get("processes", 1)))
        hashes = {str(name): str(value) for name, value in data["sha256"].items()}
        if not {*_ALWAYS} <= hashes.keys() <= {*_ALWAYS, *_SOMETIMES}:
            raise ValueError(f"it names the files {', '.join(hashes)}")
        if not all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes.values()):
            raise ValueError("it holds something else than hashes")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path / 'state.json'} is damaged ({error})") from None
    for name in hashes:
        if not (path / name).is_file():
            raise ValueError(f"{path / name} is missing")
        if _hash(path / name) != hashes[name]:
            raise ValueError(f"{path / name} is damaged: it is not what was written")
    return Saved(progress, {name: read_tensors(path / name) for name in hashes})


def _is_whole(path: Path) -> bool:
    try:
        read(path)
    except ValueError:
        return False
    return True


def newest(run: Run) -> tuple[Saved | None, list[str]]:
    """The newest state that is whole, if any, and a sentence for each damaged one that is newer.

    Raises:
        ValueError: there are states, and none is whole.
    """
    damaged: list[str] = []
    for path in states(run):
        try:
            return read(path), damaged
        except ValueError as error:
            damaged.append(f"{error}; trying the state before it")
    if damaged:
        raise ValueError(
            f"no saved state of {run.path} is whole: {damaged[0].partition(';')[0]}. To start again, choose another "
            f"--out; {run.path} is left as it is"
        )
    return None, []


def clean(run: Run, keep: int) -> None:
    """Remove what a killed save left behind, and all whole states but the newest `keep`."""
    folder = run.path / STATE
    _drop(folder.glob(f"{_PARTIAL}*") if folder.is_dir() else [])
    for name in (CONFIG, MODEL, BEST, METRICS):
        for leftover in run.path.glob(f".{Path(name).stem}.*.tmp{Path(name).suffix}"):
            leftover.unlink(missing_ok=True)
    for leftover in [*(run.path / EMA).glob(".*.tmp.safetensors"), *(run.path / SAMPLES).glob(f".{_STEP}.*.tmp.png")]:
        leftover.unlink(missing_ok=True)
    known = list(states(run))
    if len(known) > keep:  # otherwise there is nothing to read and check for
        _drop([path for path in known if _is_whole(path)][keep:])


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
