"""`make demo`: train on the real digits for about a minute, judge what came out, and write a page about it.

Leaves in the run folder report.html, a model card, and under demo/ a 10x10 sheet (a row a class) and an animation from
noise to digits. Every figure printed is measured here:

- label accuracy: how often a classifier trained on the real training digits recognises generated ones as the class
  asked for; beside it, the same of real digits that the model was never shown;
- near-copies: the share of generated digits that are nearer to a training digit than all but 1 % of the held-out
  digits are, and the verdict of the audit on whether the model memorises.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import reverie
from reverie import audit, report
from reverie.audit.drawn import save
from reverie.cli.compose import composed
from reverie.evaluation import Evaluation, Settings, Subject, evaluate
from reverie.evaluation.extractors import from_text
from reverie.evaluation.metrics import from_names
from reverie.evaluation.reading import of_run
from reverie.files import write_json
from reverie.outputs import write_animation, write_samples
from reverie.request import Request
from reverie.runs import begin
from reverie.synthesis import denoise

CLASSIFIER = from_text("classifier")


def train(out: Path, seconds: float, settings: list[str]) -> tuple[reverie.Run, float]:
    """A run of the digits recipe, trained until its last step or until the time is up."""
    recipe, _ = composed(["digits", "train.steps=700", "train.validate_every=100", *settings])
    examples = recipe.data.load()
    run = begin(out, recipe, examples)
    began = time.perf_counter()
    for told in reverie.Trainer(run, examples):
        spent = time.perf_counter() - began
        if told.step % 50 == 0:
            loss = "" if told.loss is None else f", loss {told.loss:.3f}"
            print(f"  step {told.step}/{told.steps}{loss}, {spent:.0f} s", flush=True)
        if spent > seconds:
            print(f"  the {seconds:.0f} s are over after {told.step} of {told.steps} steps: samples will be poor")
            break
    return reverie.load(out), time.perf_counter() - began


def draw(run: reverie.Run, folder: Path) -> None:
    """Ten samples of each digit, and how they came to be."""
    rows = tuple(label for label in range(10) for _ in range(10))
    request = Request(rows, batch=len(rows))
    sampling = replace(run.recipe.sample, grid=run.grid.with_steps(40))
    drawn = denoise(run.denoiser, run.shape, sampling, request)
    frames = [run.space.decode(state.x) for state in drawn]
    about = {"run": str(run.path), "seed": 0}
    write_samples(folder / "grid.png", frames[-1], request, run.facts, about)
    write_animation(folder / "denoising.gif", frames, rows, run.facts, about)


def judge(run: reverie.Run, n: int) -> tuple[Evaluation, audit.Audit]:
    """How good n generated digits are beside real ones, and whether they are copies; both also as files of the run."""
    real = of_run(run)
    metrics = from_names("label_accuracy,kid,precision,recall")
    made = Subject(run, run.settings(), n, seed=1).draw()
    found = evaluate(made, real.train, Settings((CLASSIFIER,), metrics), real.held_out)
    write_json(run.path / "evaluation" / "demo.json", found.to_data())
    verdict = audit.audit_run(run, audit.Settings(n=n, extractors=()))
    save(verdict, run.path / "audit", "demo")
    return found, verdict


def main() -> None:
    """Train, draw, judge, print, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seconds", type=float, default=75, help="training time at most")
    parser.add_argument("--samples", type=int, default=500, help="generated digits that are judged")
    parser.add_argument("settings", nargs="*", help="key=value, as for `reverie train`")
    told = parser.parse_args()
    print(f"training on digits for at most {told.seconds:.0f} s: {told.out}", flush=True)
    run, seconds = train(told.out, told.seconds, told.settings)
    print(f"trained for {seconds:.0f} s; drawing and judging {told.samples} digits", flush=True)
    draw(run, told.out / "demo")
    found, verdict = judge(run, told.samples)
    for number in found.numbers:
        scale, unit = (100, " %") if number.unit else (1, "")
        error, floor = (f"{scale * v:.3g}" if v is not None else "-" for v in (number.error, number.floor))
        print(f"  {number.title:15} {scale * number.value:6.3g} ± {error}{unit}, of real digits {floor}{unit}")
    copies = next(f for f in verdict.findings if f.name.startswith("near"))
    print(f"  {'near-copies':15} {copies.value:6.1%}, of held-out digits {copies.expected:.1%}")
    print(f"  {'audit':15} {verdict.verdict.word}")
    page = report.report(run).page
    for path in (told.out / "demo" / "grid.png", told.out / "demo" / "denoising.gif", page):
        print(path)


if __name__ == "__main__":
    main()
