"""Every file of examples/ runs to its end, at toy size, in an empty folder that holds a run `runs/digits`.

A new example is run with `--toy`, unless it has an entry in `ARGUMENTS`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reverie.config import read_file
from reverie.recipe import compose, library
from reverie.runs import begin
from reverie.training import Trainer

ROOT = Path(__file__).parent.parent
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}
ARGUMENTS = {
    "evaluate": "--noise 0 40",
    "demo": "--out demo --seconds 2 --samples 20 net.width=16 net.depth=1 train.steps=3 train.batch=8",
    "invert_and_interpolate": "--run runs/digits --toy",
}
LEAVES = {
    "demo": [
        "demo/model.safetensors",
        "demo/demo/grid.png",
        "demo/demo/denoising.gif",
        "demo/report.html",
        "demo/README.md",
    ],
    "invert_and_interpolate": ["runs/digits/interpolation.png"],
    "quickstart": ["runs/quickstart/model.safetensors", "runs/quickstart/digits.png"],
}
"""Files that an example must write, at its toy size too."""


@pytest.fixture
def digits(tmp_path):
    """A folder with a run of the digits recipe, of two steps."""
    tiny = {"net": {"kind": "dit", "width": 16, "depth": 1}, "train": {"steps": 2, "batch": 8}}
    short = {"sample": {"grid": {"kind": "uniform", "steps": 2}}}
    recipe = compose([read_file(library()["digits"]), tiny, short])
    examples = recipe.data.load()
    for _ in Trainer(begin(tmp_path / "runs" / "digits", recipe, examples), examples):
        pass
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, tmp_path, request):
    arguments = ARGUMENTS.get(name, "--toy").split()
    if "runs/digits" in arguments:
        request.getfixturevalue("digits")
    done = subprocess.run(
        [sys.executable, "-W", "error:::__main__", EXAMPLES[name], *arguments],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example says what it found"
    assert [path for path in LEAVES.get(name, []) if not (tmp_path / path).stat().st_size] == []


def test_own_sampler_has_the_order_it_claims(tmp_path):
    command = [sys.executable, EXAMPLES["own_sampler"], "--toy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    orders = [float(line.rpartition("order ")[2]) for line in done.stdout.splitlines() if "order" in line]
    assert len(orders) == 4
    assert all(1.8 < order < 2.2 for order in orders)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "demo"])
def test_example_is_short(name):
    assert len(EXAMPLES[name].read_text().splitlines()) < 60


def test_the_tables_name_examples():
    assert {*ARGUMENTS, *LEAVES} <= set(EXAMPLES)
