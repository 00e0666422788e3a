"""`reverie train`."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie import config
from reverie.cli.compose import composed
from reverie.cli.notes import note

if TYPE_CHECKING:
    from reverie.runs import Run
    from reverie.training import Report

HELP = """Train a model, or go on with a run that was stopped: to resume, run the same command again.

[bold]WORDS[/bold] are, in any order: a recipe (a name, or a .toml or .json file), data (digits, fashion, emoji,
swissroll, a folder of images, a .npz or .npy file), and settings as key=value. `reverie config` lists them all.
Images with captions (metadata.jsonl, or image.txt beside image.png) make a model that draws what a text says.

Examples:

  reverie train digits --out runs/digits train.steps=2000 train.seed=0

  reverie train my-photos/ data.size=64 --out runs/photos

  reverie train ddpm fashion --out runs/fashion-ddpm

  reverie train my-captioned-photos/ data.size=32 text.kind=minilm --out runs/by-text

  reverie train digits kind=classifier --out runs/digits-classifier
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="train", help=HELP, no_args_is_help=True)(train)


def train(
    words: Annotated[list[str], typer.Argument(metavar="WORDS...", help="A recipe, data, and key=value.")],
    out: Annotated[Path | None, typer.Option(help="The run folder; a new one under runs/ if left out.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe by name or file.")] = None,
    report_to: Annotated[
        str | None, typer.Option("--report-to", help="Trackers, with commas: tensorboard, wandb, ...")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if anything is wrong with captions.")] = False,
) -> None:
    """Compose the recipe, begin or resume the run, print its reports."""
    extra = [] if report_to is None else [f"train.report_to={_listed(report_to)}"]
    made, name = composed([*words, *extra], recipe)
    if strict and hasattr(made.data, "strict"):  # other kinds have no captions to be wrong
        made = config.from_data(type(made), config.merged(config.to_data(made), {"data": {"strict": True}}))
    from accelerate import PartialState

    from reverie.runs import begin
    from reverie.training import Trainer
    from reverie.training.accelerator import check_available, on_cpu
    from reverie.training.evaluation import check_evaluating
    from reverie.training.needs import Needs

    check_available(made.train, on_cpu())
    check_evaluating(made.evaluate)
    processes = PartialState(cpu=on_cpu())
    if out is None:
        if processes.num_processes > 1:
            raise ValueError("several processes need to know their folder: give --out")
        out = _new_folder(name)
    examples = made.data.load()
    with processes.main_process_first():
        run = begin(out, made, examples)
    if processes.is_main_process:
        tracked = ["--report-to", report_to] if report_to else []
        flags = [*(["--recipe", recipe] if recipe else []), *tracked, *(["--strict"] if strict else [])]
        again = ["reverie", "train", *words, *flags, "--out", str(out)]
        facts = run.facts
        print(f"run {out}: {facts.train} examples of {_shape(facts.shape)} to train on, {facts.validation} held out")
        needs = Needs(run.recipe, facts, processes.device)
        print(needs.told())
        if said := needs.warning():
            note(said)
        print(f"to stop: Ctrl-C; to resume, run again: {shlex.join(again)}", flush=True)
    stopped = show(Trainer(run, examples), quiet=not processes.is_main_process)
    if stopped:
        sys.exit(128 + stopped)
    if processes.is_main_process:
        print(f"done: {out}. {_next(run)}")


def _next(run: Run) -> str:
    """What a run that is trained is for, as a command."""
    from reverie.models.guides import learned_scale, use_of
    from reverie.runs import BEST
    from reverie.training.accuracy import newest

    if run.recipe.kind != "denoiser":
        found, scale = newest(run), learned_scale(run)
        accuracy = f"Accuracy: {found}. " if found else ""
        learned = "" if scale is None else f"Scale of the dot product (inverse temperature): {scale:.3g}. "
        return f"{accuracy}{learned}Next: {use_of(run)}"
    best = " --weights best" if (run.path / BEST).exists() else ""
    return f"Next: reverie sample {run.path} -n 64{best} --out samples.png"


def _listed(text: str) -> str:
    return "[" + ", ".join(f'"{word.strip()}"' for word in text.split(",")) + "]"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


def _new_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2, -3, ... where that is taken."""
    path, number = Path("runs") / name, 2
    while path.exists():
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return path


def show(reports: Iterable[Report], quiet: bool = False) -> int | None:
    """Print reports as they come; the signal that ended them, if one did."""
    stopped = None
    shown = reports if quiet else (_bar(reports) if sys.stdout.isatty() else _plain(reports))
    for report in shown:
        stopped = report.stopped or stopped
    return stopped


def _line(report: Report) -> str:
    """What a log should say of a report; empty for nothing."""
    from reverie.training.accuracy import in_words as accuracy_in_words

    lines = list(report.notes)
    told = {k: v for k, v in report.metrics.items() if isinstance(v, float)}
    names = ("loss", "validation_loss", "lr", "grad_norm", "steps_per_second")
    shown = [f"{name.replace('_', ' ')} {told[name]:.4g}" for name in names if name in told]
    if report.metrics.get("compilations", 1) != 1:  # else all is as it should be
        shown.append(f"compilations {report.metrics['compilations']}")
    if right := accuracy_in_words(report.metrics):
        shown.append(right)
    if evaluated := evaluation_in_words(report.metrics.get("evaluation")):
        shown.append(evaluated)
    if report.sampled:
        shown.append(f"samples {report.sampled.name}")
    if report.saved:
        shown.append(f"saved {report.saved.name}")
    if shown:
        lines.append(f"step {report.step}/{report.steps}: {', '.join(shown)}")
    if report.stopped:
        name = signal.Signals(report.stopped).name
        lines.append(f"stopped at step {report.step} by {name}; to resume, run the same command again")
    return "\n".join(lines)


def evaluation_in_words(line: object) -> str:
    """An evaluation in training as `kid 0.0123 (best)`; empty where there was none, or it has no value.

    Args:
        line: what stands under `evaluation` in metrics.jsonl.
    """
    if not isinstance(line, Mapping) or not isinstance(line.get("value"), float):
        return ""
    return f"{line['metric']} {line['value']:.4g}{' (best)' if line.get('best') else ''}"


def _plain(reports: Iterable[Report]) -> Iterator[Report]:
    for report in reports:
        if text := _line(report):
            print(text, flush=True)
        yield report


def _bar(reports: Iterable[Report]) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False)
    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[speed]} steps/s"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    average: float | None = None
    clock, counted, told = math.inf, 0, 0  # the time and the step of the speed shown last, the step of the loss
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("train", total=None, loss="-", speed="-")
        for report in reports:
            if clock == math.inf:  # the first report, after the first pictures
                clock, counted, told = time.perf_counter(), report.step, report.step
            if report.loss is not None:
                average, told = _smoothed(average, report, report.step - told), report.step
            if (elapsed := time.perf_counter() - clock) > 1 and report.step > counted:
                progress.update(task, speed=f"{(report.step - counted) / elapsed:.1f}")
                clock, counted = time.perf_counter(), report.step
            shown = "-" if average is None else f"{average:.4f}"
            progress.update(task, total=report.steps, completed=report.step, loss=shown)
            if text := _line(report):
                progress.console.print(text, soft_wrap=True, markup=False)
            yield report


def _smoothed(average: float | None, report: Report, steps: int) -> float | None:
    """A running mean of the losses after a report that tells of one, `steps` after the last that did.

    On a GPU few reports do; the mean of the steps between stands in the line that they log.
    """
    mean = report.metrics.get("loss")
    loss = mean if isinstance(mean, float) and steps > 1 else report.loss
    if average is None or loss is None:
        return loss
    kept = 0.95**steps
    return kept * average + (1 - kept) * loss
