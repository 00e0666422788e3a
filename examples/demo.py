"""`make demo`: train on the real digits for about a minute, then judge what came out.

Leaves in the run folder, under demo/: a 10x10 sheet (a row a class), an animation from noise to
digits, the loss curves and a page that sums up. Every figure printed is measured here:

- accuracy: a classifier fitted on the real training digits recognises generated digits as the class
  asked for; beside it, the same classifier on held-out real digits;
- near-copies: the share of generated digits that lie closer to a training image than a threshold;
  beside it, the same for held-out real digits. The threshold is the distance within which 5 % of the
  training images have another training image.
"""

import argparse
import base64
import html
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import reverie
from reverie.cli.compose import composed
from reverie.outputs import write_animation, write_samples
from reverie.runs import METRICS, begin
from reverie.synthesis import Request, denoise
from reverie.training.log import lines

NEAR = 5  # percent


def train(out: Path, seconds: float, settings: list[str]) -> tuple[reverie.Run, float]:
    """A run of the digits recipe, trained until its last step or until the time is up."""
    recipe, _ = composed(["digits", "train.steps=700", "train.validate_every=100", *settings])
    examples = recipe.data.load()
    run = begin(out, recipe, examples)
    began = time.perf_counter()
    for report in reverie.Trainer(run, examples):
        spent = time.perf_counter() - began
        if report.step % 50 == 0:
            loss = "" if report.loss is None else f", loss {report.loss:.3f}"
            print(f"  step {report.step}/{report.steps}{loss}, {spent:.0f} s", flush=True)
        if spent > seconds:
            print(f"  the {seconds:.0f} s are over after {report.step} of {report.steps} steps: samples will be poor")
            break
    return reverie.load(out), time.perf_counter() - began


def nearest(a: np.ndarray, b: np.ndarray, itself: bool = False) -> np.ndarray:
    """Distance from each row of `a` to the nearest row of `b`; to another row where a is b."""
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    if itself:
        np.fill_diagonal(square, np.inf)
    return np.sqrt(np.maximum(square.min(1), 0))


def judge(run: reverie.Run, n: int) -> dict[str, float]:
    """Accuracy and share of near-copies of n generated digits, and of held-out real ones."""
    from sklearn.svm import SVC

    examples = run.recipe.data.load()
    split = run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed)
    real, labels = examples.items.reshape(len(examples), -1) / 255.0, examples.labels
    made = run.sample(n, seed=1).numpy().reshape(n, -1) / 255.0
    asked = np.array(run.labels_for(n, None))
    known, held_out = real[split.train], real[split.validation]
    classifier = SVC(gamma=0.02, C=10).fit(known, labels[split.train])
    threshold = np.percentile(nearest(known, known, itself=True), NEAR)
    return {
        "generated digits recognised as the class asked for": float(np.mean(classifier.predict(made) == asked)),
        "held-out real digits recognised": float(classifier.score(held_out, labels[split.validation])),
        "generated digits that are near-copies of a training image": float((nearest(made, known) < threshold).mean()),
        "held-out real digits that are": float((nearest(held_out, known) < threshold).mean()),
    }


def curves(run: reverie.Run, path: Path) -> None:
    """Training and held-out loss over the steps, and the held-out loss over the noise level."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    metrics = lines(run.path / METRICS)
    train = [(m["step"], m["loss"]) for m in metrics if "loss" in m]
    held_out = [m for m in metrics if "validation_loss" in m]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(*zip(*train, strict=True), label="training")
    left.plot(
        [m["step"] for m in held_out],
        [m["validation_loss"] for m in held_out],
        "o-",
        label="held out, averaged weights",
    )
    left.set(xlabel="step", ylabel="loss", yscale="log", title="Loss")
    left.legend(frameon=False)
    for m in held_out[1:] or held_out:  # the untrained network only where there is nothing else
        middle = (np.array(m["t_bounds"][1:]) + np.array(m["t_bounds"][:-1])) / 2
        right.plot(
            middle,
            m["by_level"],
            "o-",
            label=f"step {m['step']}",
            alpha=0.4 + 0.6 * m["step"] / max(held_out[-1]["step"], 1),
        )
    right.set(xlabel="t (0 data, 1 noise)", ylabel="held-out loss", title="Loss by noise level")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def summary(run: reverie.Run, figures: dict[str, float], seconds: float, folder: Path) -> Path:
    """One self-contained page."""

    def picture(name: str, text: str) -> str:
        kind = "gif" if name.endswith("gif") else "png"
        data = base64.b64encode((folder / name).read_bytes()).decode()
        return (
            f'<figure><img src="data:image/{kind};base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'
        )

    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{v:.1%}</td></tr>" for k, v in figures.items())
    facts, recipe = run.facts, run.recipe
    steps = max(m["step"] for m in lines(run.path / METRICS))
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Reverie demo</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }} td {{ padding: .25rem .8rem; border-bottom: 1px solid #ddd }}
td + td {{ text-align: right; font-variant-numeric: tabular-nums }} figure {{ margin: 1.5rem 0 }}
img {{ max-width: 100%; height: auto }} figcaption {{ color: #555; font-size: .9rem }}
</style><h1>Digits from noise</h1>
<p>A {type(recipe.net).__name__.removesuffix("Config")} trained for {seconds:.0f} seconds, {steps} steps of
{recipe.train.batch}, on {facts.train} real handwritten digits of 8x8 pixels; {facts.validation} were held out.
Sampled with {type(run.sampler).__name__} in {len(run.grid(run.schedule)) - 1} steps,
guidance {recipe.sample.guidance:g}.</p>
<table>{rows}</table>
{picture("grid.png", "Ten samples of each class")}
{picture("denoising.gif", "From noise to digits")}
{picture("loss.png", "Loss over training")}
<p>Everything here comes from the folder <code>{html.escape(str(run.path))}</code>; draw more with
<code>reverie sample {html.escape(str(run.path))} -n 64 --out more.png</code>.</p></html>"""
    path = folder / "summary.html"
    path.write_text(page, encoding="utf-8")
    return path


def main() -> None:
    """Train, draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seconds", type=float, default=75, help="training time at most")
    parser.add_argument("--samples", type=int, default=500, help="generated digits that are judged")
    parser.add_argument("settings", nargs="*", help="key=value, as for `reverie train`")
    told = parser.parse_args()
    print(f"training on digits for at most {told.seconds:.0f} s: {told.out}", flush=True)
    run, seconds = train(told.out, told.seconds, told.settings)
    folder = told.out / "demo"
    folder.mkdir(exist_ok=True)
    rows = tuple(label for label in range(10) for _ in range(10))
    sampling = replace(run.recipe.sample, grid=run.grid.with_steps(40))
    drawn = denoise(run.denoiser, run.facts.shape, sampling, Request(rows, batch=len(rows)))
    frames = [run.space.decode(state.x) for state in drawn]
    about = {"run": str(run.path), "seed": 0}
    write_samples(folder / "grid.png", frames[-1], rows, run.facts, about)
    write_animation(folder / "denoising.gif", frames, rows, run.facts, about)
    curves(run, folder / "loss.png")
    figures = judge(run, told.samples)
    page = summary(run, figures, seconds, folder)
    print(f"trained for {seconds:.0f} s")
    for name, value in figures.items():
        print(f"{value:7.1%}  {name}")
    for path in (folder / "grid.png", folder / "denoising.gif", folder / "loss.png", page):
        print(path)


if __name__ == "__main__":
    main()
