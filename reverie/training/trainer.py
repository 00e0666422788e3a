"""Training: `for report in Trainer(run): ...`.

A step reads: batches -> loss of the denoiser -> backward -> optimizer -> average of the weights.
Everything random in it is a function of (seed, step), so stopping and resuming change nothing.
"""

from __future__ import annotations

import copy
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.data import Examples
from reverie.denoiser import Denoiser
from reverie.locking import locked
from reverie.losses import Loss
from reverie.outputs import write_samples
from reverie.runs import METRICS, MODEL, SAMPLES, Run, fill, fingerprint, misfits, network, read_with_metadata
from reverie.synthesis import Request, synthesize
from reverie.tensors import global_randomness, non_finite
from reverie.training import log, state
from reverie.training.batches import DROPOUT, Batch, Batches
from reverie.training.diagnosis import NonFiniteError, first_non_finite
from reverie.training.ema import ema_decay, ema_update
from reverie.training.optim import learning_rate, optimizer
from reverie.training.report import Report
from reverie.training.state import Progress
from reverie.training.validation import validate

if TYPE_CHECKING:
    from accelerate import Accelerator

PREVIEW_STEPS = 50
"""Sampler steps of a sheet during training, at the most."""
ROWS = 8
"""Samples of each class on a sheet during training; the square of it where there are no classes."""


class _Objective(nn.Module):
    """The denoiser with its loss, so that data parallel wraps both."""

    def __init__(self, denoiser: Denoiser, loss: Loss) -> None:
        super().__init__()
        self.denoiser, self.loss = denoiser, loss

    def forward(self, x0: Tensor, u: Tensor, eps: Tensor, cond: Cond | None) -> Tensor:
        return self.loss(self.denoiser, x0, u, cond, lambda like: eps)


class Trainer:
    """Trains a run, or goes on with it where its newest state left off.

    Iterating yields a `Report` after every step. Between reports nothing happens: the caller may
    print, plot, or leave the loop, upon which the state is saved. SIGINT and SIGTERM save and end
    the iteration with `stopped` set in the last report; a second one, more than a second later, acts
    as usual.

    Args:
        run: made by `reverie.runs.create` or opened by `reverie.load`.
        examples: the run's data; loaded from its recipe unless given.

    Raises:
        ValueError: the data are not those the run began with, or no saved state is whole.
        NonFiniteError: a loss or gradient is not finite; the state before it has been saved.
        OSError: a state could not be written; those saved before are as they were.
    """

    def __init__(self, run: Run, examples: Examples | None = None) -> None:
        self.run, self.recipe = run, run.recipe
        self.examples = run.recipe.data.load() if examples is None else examples
        if fingerprint(self.examples) != run.facts.fingerprint:
            raise ValueError(
                f"the data have changed since {run.path} was begun ({run.facts.train + run.facts.validation} examples "
                f"then, {len(self.examples)} now, or others); put them back, or begin a new run with another --out"
            )

    def __iter__(self) -> Iterator[Report]:
        self._set_up()
        with locked(self.run.path) if self._main else nullcontext(), self._signals():
            notes = self._resume()
            try:
                yield from self._steps(notes)
            except GeneratorExit:  # the caller left the loop
                if self._saved_step != self.progress.step:
                    self._save()
                raise
            finally:
                self.accelerator.end_training()

    # ------------------------------------------------------------------------------- setting up

    def _set_up(self) -> None:
        train, facts = self.recipe.train, self.run.facts
        self._asked: int | None = None  # the signal that this process got
        self._stop: int | None = None  # the one that all processes know of
        self._saved_step = -1
        self.accelerator = _accelerator(self.run)
        self._main = self.accelerator.is_main_process
        self.device = self.accelerator.device
        self.denoiser = network(self.recipe, facts).to(self.device).train()
        self.average = copy.deepcopy(self.denoiser).eval().requires_grad_(False)
        self.optimizer = optimizer(self.denoiser, train)
        split = self.recipe.data.split(self.examples, train.validation, train.seed)
        self.held_out = split.validation
        self.batches = Batches(
            self.examples, split.train, self.run.space, train.seed, train.batch, train.accumulate,
            self.accelerator.process_index, self.accelerator.num_processes, self.recipe.labels, train.drop,
            train.flip, self.device,
        )  # fmt: skip

    def _resume(self) -> tuple[str, ...]:
        """Put back the newest whole state; in words, what was found."""
        if self._main:
            state.clean(self.run, self.recipe.train.keep)
        saved, damaged = state.newest(self.run)
        self.progress = Progress() if saved is None else saved.progress
        notes: tuple[str, ...] = ()
        if saved is not None:
            fill(self.denoiser, saved.network, self.run.path)
            fill(self.average, saved.average, self.run.path)
            state.restore_optimizer(self.denoiser.net, self.optimizer, saved.optimizer)
            step, steps = self.progress.step, self.recipe.train.steps
            done = f"finished at step {step} already; to go on, give a larger train.steps"
            notes = (*damaged, f"resuming at step {step} of {steps}" if step < steps else done)
            before, now = self.progress.processes, self.accelerator.num_processes
            if before != now:
                notes = (*notes, f"{now} processes go on with a run of {before}: the batches are others from here on")
        self.progress = replace(self.progress, processes=self.accelerator.num_processes)
        self.accelerator.wait_for_everyone()  # all have read before the first one writes
        if self._main:
            log.rewind(self.run.path / METRICS, -1 if saved is None else self.progress.step)
            if saved is not None and not self._model_is_current():
                self.run.save_model(self.average.net.state_dict(), self.progress.step)
                notes = (*notes, f"restored {self.run.path / MODEL} from the saved state")
        self.objective, self.optimizer = self.accelerator.prepare(
            _Objective(self.denoiser, self.recipe.loss), self.optimizer
        )
        return notes

    def _model_is_current(self) -> bool:
        """Whether the run's model is whole, and no older than the state: a kill may fall between their saves."""
        try:
            weights, metadata = read_with_metadata(self.run.path / MODEL)
            step = int(metadata.get("step", "-1"))
        except ValueError:
            return False
        return step >= self.progress.step and not misfits(self.average.net.state_dict(), weights)

    # -------------------------------------------------------------------------------- the loop

    def _steps(self, notes: tuple[str, ...]) -> Iterator[Report]:
        train = self.recipe.train
        if not notes:  # a new run
            first = self._validate({"step": 0})
            yield Report(0, train.steps, None, first, self._draw(), self._save())
        else:
            yield Report(self.progress.step, train.steps, notes=notes)
        clock = time.perf_counter()
        while self.progress.step < train.steps:
            loss, norm = self._step(self.progress.step)
            step = self.progress.step + 1
            self.progress = replace(self.progress, step=step, losses=(*self.progress.losses, loss))
            last = step == train.steps
            metrics: dict[str, object] | None = None
            if step % train.log_every == 0 or last:
                metrics = self._line(norm, time.perf_counter() - clock)
            if step % train.validate_every == 0 or last:
                metrics = self._validate({"step": step} if metrics is None else metrics)
            sampled = self._draw() if step % train.sample_every == 0 or last else None
            stopping = self._stop is not None
            saved = self._save() if step % train.save_every == 0 or last or stopping else None
            yield Report(step, train.steps, loss, metrics or {}, sampled, saved, self._stop)
            if stopping:
                return
            if metrics is not None:
                clock = time.perf_counter()

    def _step(self, step: int) -> tuple[float, float]:
        """One step of the optimizer: the loss on all processes, and the norm of its gradient."""
        train = self.recipe.train
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, train)
        parts, losses = self.batches.step(step), []
        for i, batch in enumerate(parts):
            synchronise = nullcontext() if i == len(parts) - 1 else self.accelerator.no_sync(self.objective)
            with synchronise, global_randomness(train.seed, DROPOUT, step, i, self.batches.rank, device=self.device):
                loss = self.objective(batch.x0, batch.u, batch.eps, batch.cond).mean()
                losses.append(loss.detach())
                self.accelerator.backward(loss / len(parts))
        asked = torch.tensor(float(self._asked or 0), device=self.device)
        told = torch.stack([torch.stack(losses).float().mean(), asked])
        told = self.accelerator.gather(told[None]).cpu()
        loss, self._stop = float(told[:, 0].mean()), int(told[:, 1].max()) or None
        norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), train.clip)
        norm = float(norm) if norm is not None else 0.0
        scaled = self.accelerator.scaler is not None  # its scaler meets infinite gradients and steps back by itself
        if not _finite(loss) or not (_finite(norm) or scaled):
            self._fail(step, parts)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        ema_update(self.average, self.denoiser, ema_decay(step, train.ema))
        return loss, norm

    def _fail(self, step: int, parts: list[Batch]) -> None:
        """Save the weights as they were before this step, and say what went wrong.

        Raises:
            NonFiniteError: always.
        """
        self.optimizer.zero_grad(set_to_none=True)
        found = [first_non_finite(self.denoiser, self.recipe.loss, batch) for batch in parts]
        levels, what = next((f for f in found if not f[1].startswith("nothing")), found[0])
        self.optimizer.zero_grad(set_to_none=True)
        saved = self._kept() if self._bad_weight() else f"the weights before this step are saved in {self._save()}"
        raise NonFiniteError(
            f"step {step + 1}: the loss or its gradient is not finite. First: {what}, at noise levels {levels}; "
            f"{saved}; a smaller train.lr or train.clip, or train.precision=no, may help"
        )

    def _bad_weight(self) -> str:
        """The first weight that is not finite, in words; empty where all are."""
        for name, p in [*self.denoiser.net.named_parameters(), *self.average.net.named_parameters()]:
            if found := non_finite(p.detach()):
                return f"{name} ({found})"
        return ""

    def _kept(self) -> str:
        """In words, what there is to resume from when nothing more can be saved."""
        kept = next(state.states(self.run), None)
        return f"{kept} is whole, and training resumes from it" if kept else "nothing was saved before"

    # ------------------------------------------------------- what is written: main process only

    def _line(self, norm: float, seconds: float) -> dict[str, object]:
        """The training line of metrics.jsonl, begun."""
        train, losses = self.recipe.train, self.progress.losses
        step = self.progress.step
        self.progress = replace(self.progress, losses=())
        metrics: dict[str, object] = {
            "step": step,
            "loss": sum(losses) / len(losses),
            "lr": learning_rate(step - 1, train),
            "grad_norm": norm,
            "ema_decay": ema_decay(step - 1, train.ema),
            "steps_per_second": len(losses) / max(seconds, 1e-9),
        }
        if self._main:
            log.append(self.run.path / METRICS, metrics)
        self.accelerator.log({k: v for k, v in metrics.items() if k != "step"}, step=step)
        return metrics

    def _validate(self, metrics: dict[str, object]) -> dict[str, object]:
        """`metrics` with the held-out loss of the averaged weights, which gets a line of its own."""
        if not self._main or len(self.held_out) == 0:
            return metrics
        found = validate(
            self.average, self.recipe.loss, self.examples, self.held_out, self.run.space, self.recipe.train.seed,
            labels=self.recipe.labels, device=self.device,
        )  # fmt: skip
        line = {"validation_loss": found.loss, "by_level": list(found.by_level), "t_bounds": list(found.bounds)}
        log.append(self.run.path / METRICS, {"step": self.progress.step, **line})
        self.accelerator.log({"validation_loss": found.loss}, step=self.progress.step)
        return {**metrics, **line}

    def _draw(self) -> Path | None:
        """A sheet of samples of the averaged weights, from the same seeds every time."""
        if not self._main:
            return None
        facts, sampling = self.run.facts, self.recipe.sample
        if len(sampling.grid(self.recipe.schedule)) - 1 > PREVIEW_STEPS:
            sampling = replace(sampling, grid=sampling.grid.with_steps(PREVIEW_STEPS))
        classes = len(self.run.classes)
        shown, each = min(classes, ROWS * 4) or ROWS, ROWS if facts.image else 100
        labels = self.run.labels_for(each * shown, list(range(shown)) if classes else None)
        x = synthesize(self.average, facts.shape, sampling, Request(labels), self.device)
        path = self.run.path / SAMPLES / f"{self.progress.step:08d}.png"
        write_samples(path, self.run.space.decode(x), labels, facts, {"step": self.progress.step, "seed": 0})
        return path

    def _save(self) -> Path | None:
        """Save the state, on the main process.

        Raises:
            NonFiniteError: a weight is not finite; nothing is saved.
            OSError: the disk is full or cannot be written.
        """
        if bad := self._bad_weight():
            raise NonFiniteError(f"step {self.progress.step} made the weight {bad}, which is not saved; {self._kept()}")
        saved, self._saved_step = None, self.progress.step
        if self._main:
            model = self.accelerator.unwrap_model(self.objective).denoiser.net
            bare = getattr(self.optimizer, "optimizer", self.optimizer)
            try:
                saved = state.save(self.run, self.progress, model, self.average.net, bare, self.recipe.train.keep)
            except OSError as error:
                told = f"could not save step {self.progress.step} ({error.strerror or error}); {self._kept()}"
                raise OSError(error.errno, told) from error
        self.accelerator.wait_for_everyone()
        return saved

    # --------------------------------------------------------------------------------- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask for a stop after the step under way; a second one acts as usual.

        Two within a second are one: torchrun passes on what its processes have got from the system already.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        asked: list[float] = []

        def ask(number: int, frame: FrameType | None) -> None:
            self._asked = number
            asked.append(time.monotonic())
            if asked[-1] - asked[0] > 1:
                signal.signal(number, before[signal.Signals(number)])
                signal.raise_signal(number)

        for s in before:
            signal.signal(s, ask)
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)


def _finite(value: float) -> bool:
    return value - value == 0


def on_cpu() -> bool:
    """Whether to train on the CPU; accelerate joins processes there only when it is told so."""
    from accelerate.utils import parse_flag_from_env

    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def _accelerator(run: Run) -> Accelerator:
    """The device, precision and processes; trackers are opened.

    Raises:
        ValueError: a tracker that is unknown or not installed.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    train = run.recipe.train
    AcceleratorState._reset_state()  # the precision of an earlier run in this process is not this one's
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*no supported trackers")  # said below, as an error
            accelerator = Accelerator(
                mixed_precision=train.precision,
                log_with=list(train.report_to) or None,
                project_dir=run.path,
                cpu=on_cpu(),
            )
    except ValueError as error:
        raise ValueError(f"report_to={list(train.report_to)}, precision={train.precision}: {error}") from None
    opened = {t.name for t in accelerator.log_with} if train.report_to else set()
    missing = [name for name in train.report_to if name not in {str(o) for o in opened} and name != "all"]
    if missing:
        raise ValueError(f"the tracker {missing[0]} is not installed; `pip install {missing[0]}`, or leave it out")
    if train.report_to:
        accelerator.init_trackers("reverie", config={"run": str(run.path)})
    return accelerator
