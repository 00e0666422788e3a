"""A run: its files, its average, where sampling starts, its samples, a step of its training.

Nothing in its folder is changed. Letters in shapes: N examples, B batch, ... one example.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.data import Examples, Split
from reverie.denoiser import Denoiser
from reverie.doctor import stages
from reverie.doctor.finding import Check, Seen, Undefined
from reverie.models import Model
from reverie.models.guides import WORDS
from reverie.nets import parameters
from reverie.prompts import Prompt
from reverie.recipe import Sampling
from reverie.runs import METRICS, MODEL, Run, check_data, load, new_model
from reverie.samplers import AnnealedLangevin
from reverie.synthesis import rows_at_once, synthesize
from reverie.tensor_files import fill, misfits, read_with_metadata
from reverie.tensors import non_finite, streams
from reverie.training import log, state
from reverie.training.batches import encoded
from reverie.training.optim import optimizer
from reverie.training.seen import seen
from reverie.training.validation import EVALUATIONS, held_out_loss

GROUP = "run"
SECONDS = 10.0
"""What one check may take, about: fewer sampler steps, or the word of the log, where it would be more."""
ROWS = 512
"""Examples whose statistics are looked at."""
SHARE = 0.1
"""What the data may be beside the noise where sampling starts: 0.005 nats a number that samplers do not know of."""


class Patient:
    """A run with what the checks ask of it, read once."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path, self.device = path, device
        self.before = hashes(path)

    @cached_property
    def run(self) -> Run:
        """The run, opened."""
        return load(self.path)

    @cached_property
    def model(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors of the model file, and what it says of them."""
        return read_with_metadata(self.path / MODEL)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The run's, on the device."""
        if self.run.recipe.kind != "denoiser":
            raise Undefined(f"{WORDS[self.run.recipe.kind]} has no samples")
        found = self.trained
        assert isinstance(found, Denoiser)
        return found

    @cached_property
    def trained(self) -> Model:
        """What the run trains, with its averaged weights, on the device."""
        try:
            return self.run.to(self.device).model
        except ValueError:
            raise Undefined("the model cannot be used") from None

    @cached_property
    def saved(self) -> state.Saved:
        """The newest whole state."""
        found = None
        with suppress(ValueError):
            found = state.newest(self.run)[0]
        if found is None:
            raise Undefined("there is no whole state")
        return found

    @cached_property
    def examples(self) -> Examples:
        """The run's data, if they are those that it began with."""
        try:
            examples = self.run.recipe.data.load()
            check_data(self.run, examples)
        except (ValueError, OSError) as error:
            raise Undefined(f"no data: {error}") from None
        return examples

    @cached_property
    def split(self) -> Split:
        """Which of them train and which validate."""
        train = self.run.recipe.train
        return self.run.recipe.data.split(self.examples, train.validation, train.seed)

    def rows(self, n: int) -> tuple[Tensor, Cond | None]:
        """x0 (n, ...) or fewer of the training split, spread over it, and what the model is told of them."""
        at = np.linspace(0, len(self.split.train) - 1, min(n, len(self.split.train))).round().astype(int)
        x0, label = encoded(self.examples, self.run.space, self.split.train[at], self.device)
        told = self.run.told(self.examples)
        return x0, told.cond(self.split.train[at], x0, label if self.run.recipe.labels else None)


def checks(path: Path, device: torch.device) -> Iterator[Check]:
    """Of the run in a folder; the first one, whether it opens, decides whether there are others."""
    check, who = partial(Check, GROUP), Patient(path, device)
    yield check("config.json", "every setting is known", lambda: opened(who))
    with suppress(Exception):  # nobody may have looked at the first one
        _ = who.run
    if "run" not in vars(who):
        return
    again = "run its train command again, which restores the model from the newest whole state"
    yield check(MODEL, "SHA-256 as written, this network's", lambda: model_file(who), again)
    yield check("weights", "finite", lambda: finite(who), again)
    yield check("average of the weights", "there, and says what it is", lambda: averaged(who), again)
    advice = "training resumes from an older one, if there is one"
    yield check("saved states", "whole", lambda: whole(who), advice)
    yield check("data", "those of the run's beginning", lambda: data(who), "put them back to go on training")
    advice = "samples start from another law than the one trained on: let the schedule end in more noise"
    yield check("x where sampling starts", f"N(0, sigma^2), data at most {SHARE:.0%}", lambda: start(who), advice)
    expected = "the same bits" if device.type == "cpu" else "the same twice, to 1% in another batch"
    advice = "the same seed does not give the same sample"
    yield check("samples of a seed, in another batch", expected, lambda: reproduced(who), advice)
    advice = "the model has not learned yet, or the sampler does not suit it"
    yield check("samples", "finite, within the data's range, roughly", lambda: sampled(who), advice)
    advice = "training would not go on from here"
    yield check("a step of training from the saved state", "moves the loss", lambda: stepped(who), advice)
    advice = "the model is worse than none, or not the one that the log speaks of"
    yield check("held-out loss", "at most that at step 0, as logged", lambda: held_out(who), advice)
    yield from stages.checks(who)
    advice = "another process is writing there, or the doctor has a fault"
    yield check("the folder", "as it was", lambda: unchanged(who), advice)


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder, its lock aside."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file() and path.name != ".lock":
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def unchanged(who: Patient) -> Seen:
    """The files' hashes, against those before the first check."""
    after = hashes(who.path)
    other = sorted(k for k in {*who.before, *after} if who.before.get(k) != after.get(k))
    return Seen(f"{len(after)} files, {f'{other[0]} changed' if other else 'none changed'}", not other)


# ----------------------------------------------------------------------------------------- files


def opened(who: Patient) -> Seen:
    """config.json."""
    try:
        recipe = who.run.recipe
    except ValueError as error:
        return Seen("it does not open", False, str(error))
    if recipe.kind == "autoencoder":
        return Seen(f"{recipe.data.kind}, autoencoder, {recipe.autoencoder.kind if recipe.autoencoder else ''}", True)
    assert recipe.net is not None
    return Seen(f"{recipe.data.kind}, {recipe.schedule.kind}, {recipe.parameterization.kind}, {recipe.net.kind}", True)


def model_file(who: Patient) -> Seen:
    """The model's hash, and the names and shapes of its tensors."""
    try:
        weights, about = who.model
    except ValueError as error:
        return Seen("it cannot be used", False, str(error))
    if "sha256" not in about:
        return Seen("no hash", False, f"{who.path / MODEL} has no hash of its tensors, so a change would go unnoticed")
    empty = new_model(who.run.recipe, who.run.facts)
    if wrong := misfits(empty.net.state_dict(), weights):
        return Seen("another network's", False, "; ".join(wrong[:3]))
    return Seen(f"step {about.get('step', '?')}, {parameters(empty):,} parameters", True)


def finite(who: Patient) -> Seen:
    """Every weight of the model and of the newest state."""
    files = {}
    with suppress(ValueError):
        files[MODEL] = who.model[0]
    with suppress(Undefined):
        files |= {f"state/{name}": tensors for name, tensors in who.saved.files.items()}
    if not files:
        raise Undefined("no weights can be read")
    named = [(f"{name} of {file}", t) for file, tensors in files.items() for name, t in tensors.items()]
    bad = [f"{name}: {found}" for name, t in named if (found := non_finite(t))]
    total = sum(t.numel() for _, t in named)
    told = f"{len(bad)} tensors are not" if bad else f"all {total:,} in {len(files)} files"
    return Seen(told, not bad, "; ".join(bad[:3]))


def averaged(who: Patient) -> Seen:
    """Which average the model is, and, if it is one of the newest state, that it is the one saved there."""
    try:
        weights, about = who.model
    except ValueError:
        raise Undefined("the model cannot be read") from None
    kind, saved = str(who.run.average), who.saved
    ours, raw = saved.files[state.AVERAGE], saved.files[state.NETWORK]
    same = about.get("step") == str(saved.progress.step) and about.get("average") != "power"
    if same and (weights.keys() != ours.keys() or not all(torch.equal(weights[k], ours[k]) for k in ours)):
        return Seen(kind, False, f"{MODEL} is of step {saved.progress.step}, but not the average saved with that step")
    gap = math.sqrt(sum(float((weights[k] - raw[k]).double().square().sum()) for k in raw if k in weights))
    size = math.sqrt(sum(float(t.double().square().sum()) for t in raw.values()))
    return Seen(f"{kind}; {gap / max(size, 1e-30):.1%} from the raw weights of step {saved.progress.step}", True)


def whole(who: Patient) -> Seen:
    """The hashes of every saved state."""
    found = list(state.states(who.run))
    if not found:
        raise Undefined("there is none")
    damaged = []
    for path in found:
        try:
            state.read(path)
        except ValueError as error:
            damaged.append(str(error))
    return Seen(f"{len(found) - len(damaged)} of {len(found)}", not damaged, "; ".join(damaged))


def data(who: Patient) -> Seen:
    """Whether the data are there, and whose they are."""
    try:
        examples = who.run.recipe.data.load()
    except (ValueError, OSError) as error:
        raise Undefined(f"not here: {error}") from None
    try:
        check_data(who.run, examples)
    except ValueError as error:
        return Seen("others", False, str(error))
    return Seen(f"{len(examples)} examples", True)


# -------------------------------------------------------------------------------------- sampling


def start(who: Patient) -> Seen:
    """x = alpha x0 + sigma eps of the run's own data at the first time of its grid, in units of sigma."""
    if who.run.recipe.kind == "autoencoder":
        raise Undefined("an autoencoder has no samples")
    x0, _ = who.rows(ROWS)
    t = who.run.grid(who.run.schedule)[0]
    level = who.run.schedule.at(t, like=x0)
    x0, eps, ratio = x0.double().cpu(), streams(range(len(x0)))(x0).double().cpu(), float(level.alpha / level.sigma)
    x = ratio * x0 + eps
    mean, std, share = float(x.mean()), float(x.std()), ratio * float(x0.square().mean().sqrt())
    chance = 6 / math.sqrt(x.numel())
    ok = share <= SHARE and abs(mean) <= SHARE + chance and abs(std - 1) <= 0.02 + chance
    told = f"mean {mean:.3f}, std {std:.3f} of sigma = {float(level.sigma):.4g}; data {share:.2%}"
    if not ok and isinstance(who.run.sampler, AnnealedLangevin):
        raise Undefined(f"{told}, which Langevin steps forget")
    return Seen(told, ok)


def short(who: Patient, most: int) -> Sampling:
    """The run's sampling with at most so many steps, if its grid can."""
    own = who.run.recipe.sample
    if len(own.grid(who.run.schedule)) - 1 <= most:
        return own
    try:
        return replace(own, grid=own.grid.with_steps(most))
    except ValueError:
        return own


def drawn(who: Patient, sampling: Sampling, n: int, first: int = 0, batch: int = 8) -> Tensor:
    """x0 of n samples of seed 0 from number `first` on, of every class in turn."""
    asked = who.run.request([Prompt(label=label) for label in who.run.labels_for(first + n, None)[first:]])
    return synthesize(who.denoiser, who.run.shape, sampling, replace(asked, start=first, batch=batch), who.device)


def reproduced(who: Patient) -> Seen:
    """Samples 2 ... 4 alone, twice, and among samples 0 ... 9; two steps of the run's own sampler."""
    sampling = short(who, 2)
    alone, again, among = drawn(who, sampling, 3, 2), drawn(who, sampling, 3, 2), drawn(who, sampling, 10, 0, 5)[2:5]
    if not torch.equal(alone, again):
        return Seen("not the same twice", False)
    gap, size = float((alone - among).abs().max()), float(alone.abs().max())
    rows = rows_at_once(who.run.shape, 5, who.device)
    told = "the same" if gap == 0 else f"off by {gap / size:.2g}"
    return Seen(f"{told}, {rows} rows at a time", gap <= (0 if who.device.type == "cpu" else 0.01 * size))


def sampled(who: Patient) -> Seen:
    """Sixteen samples in the model's space, by the run's own sampler, beside its data."""
    began, few = time.perf_counter(), short(who, 2)
    drawn(who, few, 16, batch=16)
    each = (time.perf_counter() - began) / (len(few.grid(who.run.schedule)) - 1)
    sampling = short(who, max(2, min(50, int(SECONDS / each))))
    x, steps = drawn(who, sampling, 16, batch=16), len(sampling.grid(who.run.schedule)) - 1
    told = f"{len(x)} by {sampling.sampler.kind} in {steps} steps"
    if bad := non_finite(x):
        return Seen(f"{told}: {bad}", False)
    x0, _ = who.rows(ROWS)
    low, high = float(x0.min()), float(x0.max())
    outside = float(((x < 2 * low - high) | (x > 2 * high - low)).double().mean())
    ratio = float(x.std()) / float(x0.std())
    seen = f"{told}: {float(x.min()):.2f} to {float(x.max()):.2f}, data {low:.2f} to {high:.2f}"
    return Seen(seen, outside <= 0.01 and 0.25 <= ratio <= 4)


# -------------------------------------------------------------------------------------- training


def stepped(who: Patient) -> Seen:
    """The loss on 32 examples before and after a step of the optimizer on them, from the newest state, in memory."""
    recipe, saved = who.run.recipe, who.saved
    model = new_model(recipe, who.run.facts)
    fill(model, saved.files[state.NETWORK], who.path)
    model.to(who.device).eval()
    opt = optimizer(model, recipe.train)
    state.restore_optimizer(model.net, opt, saved.files[state.OPTIMIZER])
    x0, cond = who.rows(32)
    u = (torch.arange(len(x0), dtype=torch.float64) + 0.5) / len(x0)

    def loss() -> Tensor:
        return who.run.loss(model, x0, u, cond, streams([(43, i) for i in range(len(x0))])).mean()

    with torch.enable_grad():
        before = loss()
        before.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.train.clip)
    opt.step()
    with torch.no_grad():
        first, last = before.item(), loss().item()
    moved = math.isfinite(first) and math.isfinite(last) and first != last
    return Seen(f"{first:.6g} to {last:.6g} at step {saved.progress.step + 1}", moved)


def held_out(who: Patient) -> Seen:
    """The held-out loss of the model, measured as training does, beside what the log says."""
    lines = log.lines(who.path / METRICS)
    logged = {line["step"]: line["validation_loss"] for line in lines if isinstance(line.get("validation_loss"), float)}
    if not logged:
        raise Undefined("none was logged")
    first, newest, found = logged[min(logged)], max(logged), _measured(who)
    told = f"{first:.4g} at step {min(logged)}"
    if found is None:
        return Seen(f"{logged[newest]:.4g} at step {newest} by the log; {told}", logged[newest] <= first)
    about, told = who.model[1], f"{found:.4g}; {told}"
    known = logged.get(int(about.get("step", -1))) if about.get("average") != "power" else None
    if known is not None and abs(found - known) > 0.02 * abs(known):
        return Seen(told, False, f"{METRICS} says {known:.4g} of the same weights")
    return Seen(told, found <= first + 1e-6 * abs(first))


def _measured(who: Patient) -> float | None:
    """The held-out loss; None where measuring takes too long, or there are no data."""
    loss, model = who.run.loss, who.trained
    try:
        rows, (x0, cond) = who.split.validation, who.rows(16)
    except Undefined:
        return None
    u = torch.full((len(x0),), 0.5, dtype=torch.float64)
    with torch.no_grad():
        loss(model, x0, u, cond, torch.zeros_like)
        began = time.perf_counter()
        loss(model, x0, u, cond, torch.zeros_like)
    if (time.perf_counter() - began) * EVALUATIONS / len(x0) > 2 * SECONDS or not len(rows):
        return None
    return held_out_loss(who.run, model, seen(who.run, who.examples), rows, who.device).loss
