"""Training: `for report in Trainer(run): ...`.

A step reads: batches -> loss of the model -> backward -> optimizer -> average of the weights.
Everything random in it is a function of (seed, step), so stopping and resuming change nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from reverie.data import Examples
from reverie.denoiser import Denoiser
from reverie.devices import keep_freed_memory
from reverie.locking import locked
from reverie.models import Autoencoder, NoisyClassifier, NoisyPair
from reverie.runs import METRICS, MODEL, Run, check_data
from reverie.spaces import OpenedLatent
from reverie.tensor_files import misfits, read_with_metadata
from reverie.training import best, log, sheets, snapshots, state
from reverie.training.accelerator import accelerator, gradient, on_cpu
from reverie.training.accuracy import accuracy
from reverie.training.batches import DROPOUT, Batch, Batches, hold
from reverie.training.diagnosis import NonFiniteError, first_non_finite
from reverie.training.ema import ema_decay
from reverie.training.evaluation import Evaluator
from reverie.training.feed import Feed
from reverie.training.learner import Learner
from reverie.training.optim import learning_rate
from reverie.training.pending import Pending, skip_unless_finite
from reverie.training.reconstruction import reconstruction
from reverie.training.report import Report
from reverie.training.seen import seen
from reverie.training.signals import Signals
from reverie.training.speed import Compiled, advice, arithmetic
from reverie.training.state import Progress, Saved
from reverie.training.validation import held_out_loss
from reverie.training.watch import Watch


class Trainer:
    """Trains a run, or goes on with it where its newest state left off.

    Iterating yields a `Report` after every step. Between reports nothing happens: the caller may
    print, plot, or leave the loop, upon which the state is saved. SIGINT and SIGTERM save and end
    the iteration with `stopped` set in the last report; a second one, more than a second later, acts
    as usual.

    On a GPU the host is one step ahead: what a step has computed is read when the next one is under
    way. An update whose loss or gradient is not finite changes nothing there, and ends the run a step later.

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
        check_data(run, self.examples)

    def __iter__(self) -> Iterator[Report]:
        self._set_up()
        with (
            locked(self.run.path) if self._main else nullcontext(),
            self._signals.heard(),
            arithmetic(self.recipe.train, self.device),
            self._closed(),
        ):
            self.watch = self._watch()
            found = self._resume()
            try:
                yield from self._steps(found)
            except GeneratorExit:  # the caller left the loop
                self._settle()
                if self._saved_step != self.progress.step:
                    self._save()
                raise

    @contextmanager
    def _closed(self) -> Iterator[None]:
        """Afterwards the thread of the batches has ended, and the trackers' files are whole."""
        try:
            yield
        finally:
            self.feed.close()
            self.accelerator.end_training()

    # ------------------------------------------------------------------------------- setting up

    def _set_up(self) -> None:
        train = self.recipe.train
        keep_freed_memory()
        self._signals = Signals()
        self._stop: int | None = None  # the signal that all processes know of
        self._saved_step = -1
        self._pending: Pending | None = None
        self._loss = self._norm = 0.0  # of the step that was read last
        self.accelerator = accelerator(self.run, on_cpu())
        self._main = self.accelerator.is_main_process
        self.device = self.accelerator.device
        self._notes = [*advice(train, self.device)]  # to be told with the next report
        self._advised = False  # on steps that wait for data
        self.learner = Learner(self.run, self.device)
        if isinstance(self.run.space, OpenedLatent):
            self.run.space.model.to(self.device)
        self.compiled = Compiled(self.learner.denoiser.net) if train.compile else None
        self._set_up_data()
        # What a loss learns from a step, the next one needs; a scaler of fp16 reads its gradients itself.
        self._late = self.device.type == "cuda" and self.learner.memory is None and self.accelerator.scaler is None

    def _set_up_data(self) -> None:
        train = self.recipe.train
        split = self.recipe.data.split(self.examples, train.validation, train.seed)
        self.held_out = split.validation
        self.seen = shown = seen(self.run, self.examples)
        told, balanced = shown.told, self.examples.balanced
        if told is not None:
            told.ready()
        samples = self.recipe.kind == "denoiser"  # a guide learns the conditions, and is never without
        drop, drop_part = (train.drop, train.drop_part) if samples else (0.0, 0.0)
        self.batches = Batches(
            hold(shown.examples, self.device), split.train, shown.space, train.seed, train.batch, train.accumulate,
            self.accelerator.process_index, self.accelerator.num_processes, self.recipe.labels, drop,
            train.flip, self.device, told, drop_part, None if balanced is None else balanced[split.train],
            None if shown.mirrored is None else hold(shown.mirrored, self.device),
        )  # fmt: skip
        self.feed = Feed(self.batches, train.steps)

    def _watch(self) -> Watch | None:
        """What evaluates, if anything is to be; it is made ready before training begins.

        Raises:
            ValueError: these data cannot be evaluated, or not as asked.
            ImportError: a package is missing.
        """
        if not self.recipe.evaluate.every:
            return None
        from reverie.evaluation.team import Team

        team = Team(self.accelerator.process_index, self.accelerator.num_processes)
        return Watch(Evaluator(self.run, self.examples, team, self.device))

    def _resume(self) -> tuple[str, ...]:
        """Put back the newest whole state; in words, what was found."""
        if self._main:
            state.clean(self.run, self.recipe.train.keep)
        saved, damaged = state.newest(self.run)
        self.progress = Progress() if saved is None else saved.progress
        if self.watch:
            self.watch.recall(self.progress.step)
        notes: tuple[str, ...] = () if saved is None else (*damaged, *self._restore(saved))
        if saved is None and self.recipe.train.start:
            self.learner.begin_with(self.recipe.train.start)
        self.progress = replace(self.progress, processes=self.accelerator.num_processes)
        self.accelerator.wait_for_everyone()  # all have read before the first one writes
        if self._main:
            log.rewind(self.run.path / METRICS, -1 if saved is None else self.progress.step)
            snapshots.rewind(self.run, self.progress.step)
            if saved is not None and not self._model_is_current():
                self.run.save_model(self.learner.average.net.state_dict(), self.progress.step)
                notes = (*notes, f"restored {self.run.path / MODEL} from the saved state")
            if saved is not None and (said := best.mend(self.run, self.progress.step)):
                notes = (*notes, said)
        self.learner.prepare(self.accelerator)
        return notes

    def _restore(self, saved: Saved) -> list[str]:
        """Put back a state; in words, what there is to know of it."""
        new = self.learner.restore(saved)
        step, steps = saved.progress.step, self.recipe.train.steps
        notes = [f"resuming at step {step} of {steps}"]
        if step >= steps:
            notes = [f"finished at step {step} already; to go on, give a larger train.steps"]
        elif over := self._over():
            notes = [
                f"stopped at step {step} already: {over}; to go on, give a larger evaluate.patience, or 0 for none"
            ]
        if new and step < steps:
            lengths = " and ".join(f"{length:g}" for length in new)
            notes.append(f"the power-function averages of length {lengths} begin here: the saved state has none")
        before, now = saved.progress.processes, self.accelerator.num_processes
        if before != now:
            notes.append(f"{now} processes go on with a run of {before}: the batches are others from here on")
        return notes

    def _model_is_current(self) -> bool:
        """Whether the run's model is whole, and no older than the state: a kill may fall between their saves."""
        try:
            weights, metadata = read_with_metadata(self.run.path / MODEL)
            step = int(metadata.get("step", "-1"))
        except ValueError:
            return False
        return step >= self.progress.step and not misfits(self.learner.average.net.state_dict(), weights)

    # -------------------------------------------------------------------------------- the loop

    def _steps(self, found: tuple[str, ...]) -> Iterator[Report]:
        train = self.recipe.train
        if not found:  # a new run
            first = self._validate({"step": 0})
            yield Report(0, train.steps, None, first, self._draw(), self._save(), notes=self._told())
        else:
            step = self.progress.step
            missed = not self._over() and self.watch is not None and self.watch.missed(step)  # a kill came first
            metrics = self._evaluate({"step": step}) if missed else None
            yield Report(step, train.steps, metrics=metrics or {}, notes=(*found, *self._told()))
            if self._over():
                return
        clock, since = time.perf_counter(), self.progress.step
        self.feed.restart()
        while self.progress.step < train.steps:
            self._step(self.progress.step)
            step = self.progress.step + 1
            self.progress = replace(self.progress, step=step)
            last, stopping = step == train.steps, self._stop is not None
            logging, validating, drawing, saving = (
                step % every == 0 or last
                for every in (train.log_every, train.validate_every, train.sample_every, train.save_every)
            )
            evaluating = not stopping and self.watch is not None and self.watch.due(step)
            storing, saving = snapshots.due(step, train), saving or stopping or evaluating
            if logging or validating or drawing or storing or saving:
                self._settle()
            metrics = self._line((step - since) / max(time.perf_counter() - clock, 1e-9)) if logging else None
            if validating:
                metrics = self._validate({"step": step} if metrics is None else metrics)
            sampled = self._draw() if drawing else None
            if storing:
                self._snapshot()
            saved = self._save() if saving else None
            if evaluating:  # after the save: a kill in between is made good when training is resumed from it
                metrics = self._evaluate({"step": step} if metrics is None else metrics)
            loss = None if self._pending else self._loss
            yield Report(step, train.steps, loss, metrics or {}, sampled, saved, self._stop, self._told())
            if stopping or (evaluating and self._over()):
                return
            if metrics is not None:
                clock, since = time.perf_counter(), step
                self.feed.restart()

    def _told(self) -> tuple[str, ...]:
        """What there is to tell, once."""
        told, self._notes = tuple(self._notes), []
        return told

    def _step(self, step: int) -> None:
        """One step of the optimizer."""
        train = self.recipe.train
        parts = self.feed.step(step)
        told, values = self._gradient(step, parts)
        self._settle()  # the step before, if that is still to be done, while the device works on this one
        for group in self.learner.optimizer.param_groups:
            group["lr"] = learning_rate(step, train)
        norm = self._clipped(train.clip)
        norm = told.new_zeros(()) if norm is None else norm
        self._pending = Pending.of(step, parts, told, norm)
        if self._late:
            skip_unless_finite(self.learner.optimizer, told, norm)
        else:
            self._read(self._pending)
        self.learner.step()
        if not self._late:
            self._settle()
        self._observe(step, values)

    def _clipped(self, most: float) -> Tensor | None:
        """Bring the norm of the gradient down to `most`, that of what the loss learns by itself where it says so."""
        learner = self.learner
        if learner.memory is None or not self.recipe.loss.apart:
            return self.accelerator.clip_grad_norm_(learner.objective.parameters(), most)
        norm = self.accelerator.clip_grad_norm_(learner.denoiser.parameters(), most)
        if own := [p for p in learner.memory.parameters() if p.requires_grad]:
            torch.nn.utils.clip_grad_norm_(own, most)
        return norm

    def _gradient(self, step: int, parts: list[Batch]) -> tuple[Tensor, list[Tensor]]:
        """As `gradient`; where the compiler fails, once more without it."""
        key, asked = (self.recipe.train.seed, DROPOUT, step), self._signals.asked or 0
        try:
            return gradient(self.accelerator, self.learner.objective, parts, key, self.batches.rank, asked)
        except Exception as error:  # whatever a compiler, or the lack of one, may raise
            note = self.compiled and self.compiled.gives_up(error)
            if not note:
                raise
        self._notes.append(note)
        self.learner.optimizer.zero_grad(set_to_none=True)
        return gradient(self.accelerator, self.learner.objective, parts, key, self.batches.rank, asked)

    def _read(self, pending: Pending) -> None:
        """Take over what a step has computed.

        Raises:
            NonFiniteError: its loss or gradient is not finite; the weights, which are those before it, are saved.
        """
        self._loss, self._norm, asked = pending.read()
        self._stop = asked or None
        scaled = self.accelerator.scaler is not None  # its scaler meets infinite gradients and steps back by itself
        if not _finite(self._loss) or not (_finite(self._norm) or scaled):
            self.progress = replace(self.progress, step=pending.step)
            self._fail(pending.step, pending.parts)
        self.progress = replace(self.progress, losses=(*self.progress.losses, self._loss))

    def _settle(self) -> None:
        """Finish the newest step, if it is not yet: read what is to be read, and average its weights."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if self._late:
            self._read(pending)
        self.learner.step_averages(pending.step)

    @torch.no_grad()
    def _observe(self, step: int, values: list[Tensor]) -> None:
        """Let the loss remember the step: the losses (B,) of each part, gathered in the order of the rows."""
        if self.learner.memory is not None:
            every = self.accelerator.gather(torch.stack(values)[None])  # (processes, parts, B)
            self.learner.loss.observe(self.learner.memory, self.batches.times(step), every.transpose(0, 1).flatten())

    def _fail(self, step: int, parts: list[Batch]) -> None:
        """Save the weights as they were before this step, and say what went wrong.

        Raises:
            NonFiniteError: always.
        """
        self.learner.optimizer.zero_grad(set_to_none=True)
        self._pending = None
        with self.accelerator.autocast(), torch.compiler.set_stance("force_eager"):  # its hooks are no part of a graph
            found = [
                first_non_finite(self.learner.denoiser, self.learner.loss, batch, self.learner.memory)
                for batch in parts
            ]
        levels, what = next((f for f in found if not f[1].startswith("nothing")), found[0])
        self.learner.optimizer.zero_grad(set_to_none=True)
        saved = (
            self._kept() if self.learner.bad_weight() else f"the weights before this step are saved in {self._save()}"
        )
        raise NonFiniteError(
            f"step {step + 1}: the loss or its gradient is not finite. First: {what}, at noise levels {levels}; "
            f"{saved}; a smaller train.lr or train.clip, or train.precision=no, may help"
        )

    def _kept(self) -> str:
        """In words, what there is to resume from when nothing more can be saved."""
        kept = next(state.states(self.run), None)
        return f"{kept} is whole, and training resumes from it" if kept else "nothing was saved before"

    # ------------------------------------------------------- what is written: main process only

    def _line(self, speed: float) -> dict[str, object]:
        """The training line of metrics.jsonl, begun."""
        train, losses, waiting = self.recipe.train, self.progress.losses, self.feed.waiting()
        step = self.progress.step
        self.progress = replace(self.progress, losses=())
        metrics: dict[str, object] = {
            "step": step,
            "loss": sum(losses) / len(losses),
            "lr": learning_rate(step - 1, train),
            "grad_norm": self._norm,
            "ema_decay": ema_decay(step - 1, train.ema),
            "steps_per_second": speed,
            "waiting": waiting,
        }
        if self.compiled:
            metrics["compilations"] = self.compiled.graphs
        if not self._advised and (said := self.feed.advice(waiting)):
            self._advised = True
            self._notes.append(said)
        if self._main:
            log.append(self.run.path / METRICS, metrics)
        self.accelerator.log({k: v for k, v in metrics.items() if k != "step"}, step=step)
        return metrics

    def _validate(self, metrics: dict[str, object]) -> dict[str, object]:
        """`metrics` with the held-out loss of the averaged weights, which gets a line of its own."""
        if not self._main or len(self.held_out) == 0:
            return metrics
        average = self.learner.average
        found = held_out_loss(self.run, average, self.seen, self.held_out, self.device)
        line: dict[str, object] = {"validation_loss": found.loss}
        if isinstance(average, Autoencoder):
            line |= reconstruction(self.run, average, self.examples, self.held_out, self.device).line()
        else:
            line |= {"by_level": list(found.by_level), "t_bounds": list(found.bounds)}
        if isinstance(average, NoisyClassifier | NoisyPair):
            right = accuracy(self.run, average, self.seen, self.held_out, self.device)
            line |= {} if right is None else right.line()
        log.append(self.run.path / METRICS, {"step": self.progress.step, **line})
        self.accelerator.log({"validation_loss": found.loss}, step=self.progress.step)
        return {**metrics, **line}

    def _evaluate(self, metrics: dict[str, object]) -> dict[str, object]:
        """`metrics` with the evaluation of the averaged weights, by all processes, which gets a line of its own."""
        assert self.watch is not None
        step = self.progress.step
        average = self.learner.average
        assert isinstance(average, Denoiser)  # nothing else is evaluated
        line = self.watch.take(average, step)
        self.accelerator.log({f"evaluation_{k}": v for k, v in line["numbers"].items() if v is not None}, step=step)
        if why := line.get("why"):
            self._notes.append(f"step {step} could not be evaluated: {why}")
        if self.watch.said:
            self._notes.append(self.watch.said)
        if over := self._over():
            self._notes.append(f"stopped after step {step}: {over}")
        return {**metrics, best.KEY: line}

    def _over(self) -> str:
        """Why training ends before its last step, in words; empty where it does not."""
        return self.watch.over if self.watch and self.progress.step < self.recipe.train.steps else ""

    def _draw(self) -> Path | None:
        """A sheet of samples of the averaged weights, from the same seeds every time."""
        average, shown = self.learner.average, sheets.Shown(self.examples, self.held_out)
        if self._main and isinstance(average, Denoiser):
            return sheets.draw(self.run, average, self.progress.step, self.device, shown)
        if self._main and isinstance(average, Autoencoder):
            return sheets.draw_rebuilt(self.run, average, self.progress.step, shown)
        return None  # a guide has no samples

    def _snapshot(self) -> None:
        """Store the power-function averages, on the main process.

        Raises:
            NonFiniteError: a weight is not finite; nothing is stored.
            OSError: the disk is full or cannot be written.
        """
        with self._saving():
            if self._main:
                snapshots.write(self.run, self.progress.step, self.learner.powers, self.learner.denoiser.net)

    def _save(self) -> Path | None:
        """Save the state, on the main process.

        Raises:
            NonFiniteError: a weight is not finite; nothing is saved.
            OSError: the disk is full or cannot be written.
        """
        saved, self._saved_step = None, self.progress.step
        with self._saving():
            if self._main:
                saved = state.save(self.run, self.progress, self.learner.files(), self.recipe.train.keep)
        self.accelerator.wait_for_everyone()
        return saved

    @contextmanager
    def _saving(self) -> Iterator[None]:
        """Nothing that is not finite is saved, and an error says what there still is."""
        if bad := self.learner.bad_weight():
            raise NonFiniteError(f"step {self.progress.step} made the weight {bad}, which is not saved; {self._kept()}")
        try:
            yield
        except OSError as error:
            told = f"could not save step {self.progress.step} ({error.strerror or error}); {self._kept()}"
            raise OSError(error.errno, told) from error


def _finite(value: float) -> bool:
    return value - value == 0
