"""The prior of a run, put to the question."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from embedded import captioned, embeddings, unclip
from torch import nn

from reverie.data.smaller import smaller
from reverie.diagnosis import Case, case, diagnoses
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


def test_what_a_prior_is_compared_with(run, monkeypatch):
    """Held-out captions, those of related pictures as one, and for each the picture of the nearest caption known."""
    prior, seen = load(run.path / "prior"), []
    pictures = smaller(captioned(160), 2)
    examples = replace(embeddings(prior.stage("pair"), pictures), related=np.arange(160) // 2)
    split = prior.recipe.data.split(examples, prior.recipe.train.validation, prior.recipe.train.seed)
    cosines = case.cosines
    monkeypatch.setattr(case, "cosines", lambda *of: (seen.append(of), cosines(*of))[1])
    assert Case(prior, examples).prior(5).n <= 5
    assert len(seen[-1][0]) == 5
    found = Case(prior, examples).prior()

    _, true, nearest, mean, group = seen[-1]
    items = torch.from_numpy(np.array(examples.items))
    rows = [int((items - one).norm(dim=1).argmin()) for one in true]
    assert all(torch.equal(items[row], one) for row, one in zip(rows, true, strict=True))
    captioned_rows = [row for row in split.validation.tolist() if examples.texts[row]]
    assert sorted(rows) == captioned_rows
    related = [row // 2 if row // 2 < 79 else 0 for row in rows]  # the first picture is there twice
    assert (
        len(set(group.tolist())) == len(set(related)) == len(set(zip(group.tolist(), related, strict=True))) == found.n
    )
    train = [row for row in split.train.tolist() if examples.texts[row]]
    texts = prior.joint.texts([examples.texts[row] for row in train])
    for row, one in zip(rows, nearest, strict=True):
        near = (prior.joint.texts([examples.texts[row]]) @ texts.T)[0]
        found = [k for k, other in enumerate(train) if torch.equal(items[other], one)]
        assert max(float(near[k]) for k in found) >= float(near.max()) - 1e-4
    assert torch.equal(mean, items[split.train].mean(0))
