"""`reverie train`."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie import config
from reverie.cli.compose import planned_by
from reverie.cli.notes import note

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

    from reverie.plan import Plan
    from reverie.recipe import Recipe
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
    """Compose the plan, then begin or resume each of its runs, stages first, and print their reports."""
    extra = [] if report_to is None else [f"train.report_to={_listed(report_to)}"]
    plan, name = planned_by([*words, *extra], recipe)
    processes = taking_part(plan)
    if out is None:
        if processes.num_processes > 1:
            raise ValueError("several processes need to know their folder: give --out")
        out = _new_folder(name)
    tracked = ["--report-to", report_to] if report_to else []
    flags = [*(["--recipe", recipe] if recipe else []), *tracked, *(["--strict"] if strict else [])]
    again = shlex.join(["reverie", "train", *words, *flags, "--out", str(out)])
    plan = (strictly(plan) if strict else plan).placed(out)
    run = trained(plan, out, again, processes)
    if processes.is_main_process:
        print(f"done: {out}. {_next(run)}")


def taking_part(plan: Plan) -> PartialState:
    """The processes of the training of a plan, for which all is there.

    Raises:
        ValueError: a device cannot do what is asked.
        ImportError: a package is missing.
    """
    from accelerate import PartialState

    from reverie.training.accelerator import check_available, on_cpu

    for made in plan.recipes():
        check_available(made.train, on_cpu())
        _check_evaluating(made)
    return PartialState(cpu=on_cpu())


def _check_evaluating(recipe: Recipe) -> None:
    from reverie.training.evaluation import check_evaluating

    check_evaluating(recipe.evaluate)


def strictly(plan: Plan) -> Plan:
    """The plan with data that fail if anything is wrong with captions, where they can have any."""
    stages = {name: strictly(each) if not isinstance(each, Path) else each for name, each in plan.stages.items()}
    recipe = plan.recipe
    from reverie.stages import tables

    whole = config.to_data(recipe)
    for table in tables(whole["data"]):
        if "strict" in table:  # other kinds have no captions to be wrong
            table["strict"] = True
    return replace(plan, recipe=config.from_data(type(recipe), whole), stages=stages)


def trained(plan: Plan, out: Path, again: str, processes: PartialState) -> Run:
    """The run of a plan, trained, after its stages; a signal ends the command.

    Args:
        plan: what to train.
        out: the run's folder, in which the stages have theirs.
        again: the command that goes on with it.
        processes: of this training.
    """
    from reverie.runs import CONFIG, begin
    from reverie.stages import FIXED
    from reverie.training import Trainer

    needed: dict[str, Path] = {}
    begun = (out / CONFIG).is_file()
    for name, stage in plan.stages.items():
        needed[name] = stage if isinstance(stage, Path) else out / name
        if isinstance(stage, Path):
            continue
        if begun and name in FIXED:
            _kept(stage, out, name)
            continue
        if processes.is_main_process:
            print(f"stage {name} of {out}", flush=True)
        trained(stage, needed[name], again, processes)
    examples = plan.recipe.data.load()
    with processes.main_process_first():
        run = begin(out, plan.recipe, examples, needed)
    if processes.is_main_process:
        _introduced(run, again, processes.device)
    stopped = show(Trainer(run, examples), quiet=not processes.is_main_process)
    if stopped:
        sys.exit(128 + stopped)
    return run


def _kept(plan: Plan, above: Path, name: str) -> None:
    """Refuse a plan of a stage other than the one that the run above has learned with, and that is left as it is."""
    from reverie.runs import load
    from reverie.stages import check_learned_with

    stage = check_learned_with(load(above), name, plan.recipe)
    for inner, each in plan.stages.items():
        if not isinstance(each, Path):
            _kept(each, stage.path, inner)


def _introduced(run: Run, again: str, device: torch.device) -> None:
    """Say what will be trained, on what, and how to stop."""
    from reverie.training.needs import Needs

    facts = run.facts
    print(f"run {run.path}: {facts.train} examples of {_shape(facts.shape)} to train on, {facts.validation} held out")
    needs = Needs(run.recipe, facts, device)
    print(needs.told())
    if said := needs.warning():
        note(said)
    print(f"to stop: Ctrl-C; to resume, run again: {again}", flush=True)


def _next(run: Run) -> str:
    """What a run that is trained is for, as a command."""
    from reverie.models.guides import learned_scale, use_of
    from reverie.runs import BEST
    from reverie.training.accuracy import newest
    from reverie.training.reconstruction import newest as newest_reconstruction

    if run.recipe.kind == "autoencoder":
        found = newest_reconstruction(run)
        return f"{found}{'. ' if found else ''}Next: {use_of(run)}"
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
    from reverie.training.reconstruction import in_words as reconstruction_in_words

    lines = list(report.notes)
    told = {k: v for k, v in report.metrics.items() if isinstance(v, float)}
    names = ("loss", "validation_loss", "lr", "grad_norm", "steps_per_second")
    shown = [f"{name.replace('_', ' ')} {told[name]:.4g}" for name in names if name in told]
    if report.metrics.get("compilations", 1) != 1:  # else all is as it should be
        shown.append(f"compilations {report.metrics['compilations']}")
    if right := accuracy_in_words(report.metrics) or reconstruction_in_words(report.metrics):
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
