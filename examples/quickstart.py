"""Train on handwritten digits from Python, open the run folder, sample, save a picture.

python examples/quickstart.py          # half a minute on one core; a second time there is nothing left to train
python examples/quickstart.py --toy    # a few steps of a tiny network, to see that all is in place
"""

import argparse
from pathlib import Path

import reverie
from reverie.data import Digits
from reverie.nets import DiTConfig
from reverie.outputs import write_samples
from reverie.recipe import Recipe, Sampling, Train
from reverie.runs import begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--toy", action="store_true", help="a few steps of a tiny network")
    told = parser.parse_args()

    recipe = Recipe(  # what is not said: rectified flow, velocity prediction
        data=Digits(),
        net=DiTConfig(width=16, depth=1) if told.toy else DiTConfig(width=64, depth=4),
        train=Train(steps=4 if told.toy else 400, batch=128, lr=2e-3, ema=0.99, sample_every=200),
        sample=Sampling(sampler=reverie.Heun(), grid=reverie.Uniform(12), guidance=1.5),
    )
    examples = recipe.data.load()
    run = begin(told.out, recipe, examples)  # opens the run if there is one: training goes on where it stopped
    for report in reverie.Trainer(run, examples):
        if "loss" in report.metrics:
            print(f"step {report.step}/{report.steps}: loss {report.metrics['loss']:.3f}")

    run = reverie.load(told.out)  # from here on the folder is enough
    images = run.sample(80, seed=0)  # uint8 (80, 1, 8, 8), the ten classes in turn
    path = told.out / "digits.png"
    write_samples(path, images, run.ask(80), run.facts, {"seed": 0})
    print(f"wrote {path}: a row for each of {', '.join(run.classes)}")


if __name__ == "__main__":
    main()
