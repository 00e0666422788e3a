"""Sheets of a model that is told an image: of held-out examples, in the order that they have."""

import numpy as np
import pytest
import torch
from toys import begun, trained

from reverie.evaluation.reading import of_run
from reverie.evaluation.subject import Subject
from reverie.pictures import read_metadata
from reverie.runs import load
from reverie.tensors import generator
from reverie.training.sheets import ROWS, SHEETS, Shown, draw

SMALL = ("image_condition.kind=low_resolution", "image_condition.factor=2")


def held_out(run):
    examples = run.recipe.data.load()
    return examples, run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed).validation


def test_each_sample_is_told_the_image_and_the_class_of_an_example():
    run = load(trained(*SMALL))
    examples, rows = held_out(run)
    request = Shown(examples, rows[:5]).request(run)
    told = rows[np.arange(ROWS * ROWS) % 5]
    x0 = run.space.encode(torch.from_numpy(examples.items[told]))
    assert torch.equal(request.cond.image, run.recipe.image_condition.given(x0).image)
    assert list(request.labels) == examples.labels[told].tolist()


def test_a_sheet_tells_the_level_of_the_noise_on_its_images(tmp_path):
    run, examples = begun(tmp_path / "run", *SMALL, "image_condition.noise=0.5")
    request = Shown(examples, np.arange(5)).request(run)
    condition, x0 = run.recipe.image_condition, run.space.encode(torch.from_numpy(examples.items[np.arange(64) % 5]))
    told = condition.of(x0, generator(run.recipe.train.seed, SHEETS))
    assert told.level.std() > 0.1
    assert torch.equal(request.cond[:].level, told.level)
    assert torch.equal(request.part(3, 9).cond[:].level, told.level[3:9])
    assert torch.equal(request.cond[:].image, told.image)


@pytest.mark.parametrize("several", [0, 9])
def test_a_sheet_says_whether_it_is_of_images(several, tmp_path):
    run, examples = begun(tmp_path / "run", *SMALL, "sample.grid.steps=2")
    f = load(trained(*SMALL)).denoiser
    path = draw(run, f, 7, torch.device("cpu"), Shown(examples, np.arange(several)))
    assert read_metadata(path)["image"] == ("of held-out examples" if several else "none")


def test_samples_that_are_judged_without_an_image_say_so():
    run, plain = load(trained(*SMALL)), load(trained())
    assert Subject(run, run.settings(), 4).beside(of_run(run, 9).train).about()["image"] == "none"
    assert "image" not in Subject(plain, plain.settings(), 4).about()
