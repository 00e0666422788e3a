"""Snapshots of the power-function averages, and averages of other lengths made of them after training.

RUN/ema/<step>-<length>.safetensors, one for each length at `train.snapshots` steps of the run.
Parameters are stored as float16, all else as it is: that moves the held-out loss by less than 1e-4
of itself (tests/training/test_snapshots.py), less than what the match of profiles is off by does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from reverie.digests import digest
from reverie.recipe import Train
from reverie.runs import EMA, Run, new_model
from reverie.tensor_files import misfits, read_with_metadata, write_tensors
from reverie.training.ema import PowerAverages, parameters
from reverie.training.profiles import Profile, matched
from reverie.version import __version__


@dataclass(frozen=True)
class Snapshot:
    """An average that was stored."""

    path: Path
    profile: Profile


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Averaged weights made of snapshots."""

    profile: Profile
    weights: dict[str, Tensor]
    """The state of the network."""
    mismatch: float
    """The distance of the profile from the one asked for, relative to that; 0 is exact."""
    snapshots: int
    """Of how many it was made."""

    @property
    def about(self) -> dict[str, str]:
        """What the metadata of a model says of it."""
        return {"average": "power", "length": repr(self.profile.length), "at": str(self.profile.step)}


def due(step: int, train: Train) -> bool:
    """Whether there is a snapshot after `step` steps: evenly, `train.snapshots` times in all, at the last one too."""
    n = train.snapshots
    return step * n // train.steps > (step - 1) * n // train.steps


def write(run: Run, step: int, averages: PowerAverages, net: nn.Module) -> None:
    """Store the averages after `step` steps, each whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    names = parameters(net).keys()
    for length, state in averages.of(net).items():
        stored = {name: _half(t) if name in names else t for name, t in state.items()}
        about = {"step": str(step), "length": repr(length), "reverie": __version__, "sha256": digest(stored)}
        write_tensors(run.path / EMA / f"{step:08d}-{length!r}.safetensors", stored, about)


def _half(t: Tensor) -> Tensor:
    """`t` in float16, or as it is where that has no room for it."""
    half = t.half()
    return half if bool(half.isfinite().all()) else t


def snapshots(run: Run) -> list[Snapshot]:
    """Those of a run, by step and length."""
    found = []
    for path in (run.path / EMA).glob("*.safetensors"):
        step, _, length = path.stem.partition("-")
        try:
            found.append(Snapshot(path, Profile(int(step), float(length))))
        except ValueError:
            continue  # a file of another name is none of ours
    return sorted(found, key=lambda s: (s.profile.step, s.profile.length))


def rewind(run: Run, step: int) -> None:
    """Drop the snapshots after `step`, which a resumed run writes again."""
    for snapshot in snapshots(run):
        if snapshot.profile.step > step:
            snapshot.path.unlink(missing_ok=True)


def reconstruct(run: Run, length: float, step: int | None = None) -> Reconstruction:
    """The average of any relative length after any number of steps, as near as the snapshots come to it.

    It is made of all snapshots up to the first one at or after that step, weighted by `matched`,
    summed in float64.

    Args:
        run: trained with `train.ema_lengths`.
        length: the standard deviation of the profile as a share of the steps, up to 0.28.
        step: after how many steps; at the last snapshot unless given.

    Raises:
        ValueError: no snapshots, or one that is damaged or another network's; a length or step out of range.
    """
    known = snapshots(run)
    if not known:
        train = run.recipe.train
        raise ValueError(
            f"{run.path / EMA} holds no snapshots to make an average of; they are written by training with "
            f"train.ema_lengths, such as [0.05, 0.1], train.snapshots times: the first of {train.snapshots} after "
            f"{-(-train.steps // max(train.snapshots, 1))} of {train.steps} steps"
        )
    last = known[-1].profile.step
    target = Profile(last if step is None else step, length)
    if target.step > last:
        raise ValueError(f"step {step} is after the last snapshot of {run.path}, at step {last}; give that at the most")
    until = min(s.profile.step for s in known if s.profile.step >= target.step)
    used = [s for s in known if s.profile.step <= until]
    found, mismatch = matched([s.profile for s in used], target)
    net = new_model(run.recipe, run.facts).net
    sums = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in parameters(net).items()}
    state: dict[str, Tensor] = {}
    for snapshot, share in zip(used, found.tolist(), strict=True):
        state = _read(snapshot, net)
        for name, total in sums.items():
            total.add_(state[name].double(), alpha=share)
    weights = {
        name: sums[name].to(own.dtype) if name in sums else state[name] for name, own in net.state_dict().items()
    }
    return Reconstruction(target, weights, mismatch, len(used))


def _read(snapshot: Snapshot, net: nn.Module) -> dict[str, Tensor]:
    """The tensors of a snapshot.

    Raises:
        ValueError: it is missing, damaged, of another step or length than its name says, or another network's.
    """
    path, profile = snapshot.path, snapshot.profile
    try:
        tensors, about = read_with_metadata(path)
        if (about.get("step"), about.get("length")) != (str(profile.step), repr(profile.length)):
            raise ValueError(f"{path} is damaged: it is not of the step and length that its name says")
        if wrong := misfits(net.state_dict(), tensors):
            raise ValueError(f"{path} holds the weights of another network: {'; '.join(wrong[:3])}")
    except ValueError as error:
        raise ValueError(f"{error}. Remove it, and the average is made of the others") from None
    return tensors
