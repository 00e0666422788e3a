"""A network that was made to memorise is caught; one of the same kind that was not is left alone."""

import numpy as np
import pytest
from toys import toy

from reverie.audit import Settings, audit_run
from reverie.data import Digits
from reverie.runs import begin, load
from reverie.training import Trainer

NET = ("net.kind=mlp", "net.width=192", "net.depth=2", "train.lr=4e-3", "train.batch=128", "train.ema=0.99")
QUIET = ("train.validate_every=100000", "train.sample_every=100000", "train.save_every=100000")
SETTINGS = Settings(n=200, extractors=(), permutations=999)


def run_of(path, steps, **parts):
    """A run on digits of which `trained` are trained on, `held` held out."""
    items = Digits().load().items[np.random.default_rng(0).permutation(1797)]
    chosen = items[: parts["trained"] + parts["held"]]
    marks = np.array(["train"] * parts["trained"] + ["test"] * parts["held"])
    np.savez(path / "data.npz", x=chosen, split=marks)
    data = ("data.kind=arrays", f"data.path={path / 'data.npz'}")
    recipe = toy(*data, *NET, *QUIET, f"train.steps={steps}", "sample.grid.steps=20")
    examples = recipe.data.load()
    for _ in Trainer(begin(path / "run", recipe, examples), examples):
        pass
    return load(path / "run")


@pytest.mark.slow
def test_fifty_digits_for_long_are_memorised(tmp_path):
    found = audit_run(run_of(tmp_path, 800, trained=50, held=600), SETTINGS)
    assert found.memorises
    assert found.finding("near_copies").low > 0.5
    assert found.finding("closer").value > 0.9
    assert found.finding("membership").low > 0.9
    assert found.finding("gap").low > 0.5
    assert all(f.adjusted < 0.01 for f in found.findings if f.adjusted is not None)


@pytest.mark.slow
def test_fifty_digits_are_seen_to_be_memorised_with_next_to_nothing_held_out(tmp_path):
    found = audit_run(run_of(tmp_path, 800, trained=50, held=5), SETTINGS)
    assert found.memorises
    assert found.finding("near_copies").low > 0.5


@pytest.mark.slow
def test_many_digits_for_a_short_time_are_not(tmp_path):
    found = audit_run(run_of(tmp_path, 300, trained=1200, held=597), SETTINGS)
    assert found.verdict.word == "no sign of memorising"
    assert found.finding("near_copies").value < 0.05
    assert found.finding("membership").value < 0.6
