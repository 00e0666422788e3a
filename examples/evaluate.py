"""Samples of any origin beside real examples: numbers with their error, their floor and their protocol.

Here the "samples" are held-out digits with more and more noise, so the right order of the numbers is known.
"""

import argparse
from dataclasses import replace

import numpy as np

from reverie.evaluation import Reference, Settings
from reverie.evaluation.extractors import from_text
from reverie.evaluation.metrics import from_names
from reverie.evaluation.reading import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--noise", type=float, nargs="+", default=[0, 20, 40, 80])
    told = parser.parse_args()
    digits = read("digits")
    random = np.random.default_rng(0)
    order = random.permutation(len(digits))
    real, others, held_out = (digits.take(part) for part in np.array_split(order, 3))

    settings = Settings((from_text("pixels"),), from_names("sliced_wasserstein,mmd,coverage"))
    reference = Reference(real, settings, floor=others)  # made ready once, for any number of sets of samples
    for noise in told.noise:
        moved = held_out.items + noise * random.standard_normal(held_out.items.shape)
        made = replace(held_out, items=moved.clip(0, 255).astype(np.uint8), source=f"digits with noise {noise:g}")
        found = reference.evaluate(made)
        print(f"noise {noise:3g}  " + "   ".join(f"{n.title} {n.value:7.4f} ± {n.error:.4f}" for n in found.numbers))
    print("real       " + "   ".join(f"{n.title} {n.floor:7.4f}         " for n in found.numbers))
    print(f"protocol {found.id}: {len(real)} references; numbers of another protocol are no comparison")


if __name__ == "__main__":
    main()
