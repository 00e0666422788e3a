"""A run that reads captions, judged by an image-text pair: what samples are asked for, and what the pair learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from told import tiles, written
from toys import MLP, SHORT

from reverie.cli.compose import composed
from reverie.evaluation.evaluate import Settings
from reverie.evaluation.extractors import Pixels
from reverie.evaluation.job import Job
from reverie.evaluation.metrics.sliced_wasserstein import SlicedWasserstein
from reverie.evaluation.pairs import OpenedPair, Trained
from reverie.evaluation.pairs.base import unit
from reverie.evaluation.reading import of_run
from reverie.evaluation.subject import Subject
from reverie.runs import begin, load, new_model

READ = ("text.kind=transformer", "text.words=256", "text.width=16", "text.depth=1", "text.heads=2")


class Knows(OpenedPair):
    """Finds the picture of every caption."""

    def __init__(self, pictures):
        super().__init__("knows")
        self.pictures = pictures

    def images(self, items):
        return unit(items.float().flatten(1) - 100)

    def texts(self, texts):
        return self.images(torch.stack([self.pictures[text] for text in texts]))


@pytest.fixture
def tiled(tmp_path):
    """A run of 60 tiles whose captions all differ, but for those that have none; and the picture of each caption."""
    made = tiles(60)
    made = replace(made, texts=tuple(f"{text} {i}" if text else "" for i, text in enumerate(made.texts)))
    words = (str(written(tmp_path / "a.npz", made)), *MLP, *SHORT, *READ)
    recipe = composed(list(words))[0]
    run = begin(tmp_path / "run", recipe, recipe.data.load())
    run.save_model(new_model(run.recipe, run.facts).net.state_dict(), 0)
    return load(run.path), dict(zip(made.texts, torch.from_numpy(made.items), strict=True))


@pytest.mark.parametrize(("learns", "like"), [(True, "held-out examples"), (False, "the reference")])
def test_a_pair_that_learns_judges_captions_that_it_has_not_learnt(tiled, monkeypatch, learns, like):
    """And finds all, as it does of real pictures, where each sample is the picture that its caption is of."""
    run, pictures = tiled
    learnt, asked = [], []

    class Learns(Trained):
        def open(self, real, device="cpu"):
            learnt.extend(real.captions)
            return Knows(pictures)

    Learns.learns = learns

    def perfect(who, *_):
        asked.extend(who.request().texts)
        items = np.stack([pictures[text].numpy() for text in who.request().texts])
        return replace(real, items=items, labels=None, classes=(), captions=who.request().texts, about=who.about())

    monkeypatch.setattr("reverie.evaluation.pairs.from_text", lambda text: Learns())
    own = of_run(run)
    real = replace(own.train, prompts=(), captions=())
    monkeypatch.setattr(Subject, "draw", perfect)
    job = Job(Settings((Pixels(),), (SlicedWasserstein(),)), pair="trained")
    found = job.of_run(Subject(run, run.settings(), 12), lambda what, share: None)
    train, held_out = ({text for text in some.captions if text} for some in (own.train, own.held_out))
    assert set(learnt) == train
    assert set(asked) <= (held_out if learns else train)
    assert found.protocol["samples"]["classes"] == f"as in {like}"
    assert found.number("retrieval").value == 1
    assert found.number("retrieval").floor == 1


def test_a_run_told_captions_draws_what_is_judged(tiled, monkeypatch):
    run, pictures = tiled

    class Never(Trained):
        def open(self, real, device="cpu"):
            return Knows(pictures)

    monkeypatch.setattr("reverie.evaluation.pairs.from_text", lambda text: Never())
    job = Job(Settings((Pixels(),), (SlicedWasserstein(),)), pair="trained")
    found = job.of_run(Subject(run, run.settings(), 12), lambda what, share: None)
    assert found.number("retrieval").value < 1  # it has learnt nothing
    assert found.number("retrieval").floor == 1


def test_a_run_that_reads_nothing_has_no_captions_to_judge(tmp_path):
    recipe = composed(["digits", *MLP, *SHORT])[0]
    run = begin(tmp_path / "run", recipe, recipe.data.load())
    with pytest.raises(ValueError, match="draws samples without captions, so there are none to judge"):
        Job(Settings(), pair="trained").of_run(Subject(run, run.settings(), 12), lambda what, share: None)
