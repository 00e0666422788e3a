"""The prior of a run, put to the question."""

import numpy as np
import pytest
import torch
from embedded import embeddings, unclip
from torch import nn

from reverie.diagnosis import Case, diagnoses
from reverie.diagnosis.case import PRIOR
from reverie.prediction import Prediction
from reverie.runs import load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return unclip(tmp_path_factory.mktemp("prior") / "run")


class Knowing(nn.Module):
    """A denoiser that says the same x0 whatever it sees."""

    def __init__(self, schedule, x0):
        super().__init__()
        self.schedule, self.x0 = schedule, x0
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x, t, cond=None):
        return Prediction.from_x0(self.x0.expand(x.shape), x, self.schedule.at(t, like=x))


def test_a_prior_that_says_the_mean_is_as_good_as_the_mean_and_at_fault(run):
    prior = load(run.path / "prior")
    assert PRIOR in diagnoses(prior.recipe)
    assert PRIOR not in diagnoses(run.recipe)
    examples = embeddings(prior.stage("pair"))
    train = prior.recipe.data.split(examples, prior.recipe.train.validation, prior.recipe.train.seed).train
    mean = torch.from_numpy(np.array(examples.items[train])).mean(0, keepdim=True)
    prior.__dict__["denoiser"] = prior.__dict__["model"] = Knowing(prior.schedule, prior.space.encode(mean)).eval()
    found = Case(prior, examples).prior()
    assert found.n > 2
    assert abs(found.over_mean[0]) < 1e-3
    assert found.faulty
    assert abs(found.prior[0] - found.mean[0]) < 1e-3
