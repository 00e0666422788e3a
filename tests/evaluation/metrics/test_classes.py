import numpy as np
import pytest
import torch

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics import Unfit
from reverie.evaluation.metrics.inception_score import InceptionScore
from reverie.evaluation.metrics.label_accuracy import LabelAccuracy

REAL = Features(np.zeros((5, 2)))


def draws(*key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def told(probabilities, labels=None):
    return Features(np.zeros((len(probabilities), 2)), np.asarray(probabilities, np.float64), labels)


class Given(torch.nn.Module):
    def forward(self, x):
        return x


def test_inception_score_equals_torchmetrics():
    from torchmetrics.image.inception import InceptionScore as Theirs

    logits = torch.from_numpy(3 * draws(1).standard_normal((150, 10)))
    theirs = Theirs(feature=Given(), splits=1).set_dtype(torch.float64)
    theirs.update(logits)
    assert InceptionScore()(told(logits.softmax(1).numpy()), REAL) == pytest.approx(
        float(theirs.compute()[0]), rel=1e-6
    )


@pytest.mark.parametrize(("count", "score"), [(1, 1.0), (3, 3.0), (10, 10.0)])
def test_inception_score_counts_the_classes_that_are_sure(count, score):
    """Zeros among the probabilities are no obstacle."""
    assert InceptionScore()(told(np.eye(10)[np.arange(30) % count]), REAL) == pytest.approx(score, rel=1e-12)


def test_inception_score_of_what_is_never_sure_is_one():
    assert InceptionScore()(told(np.full((20, 7), 1 / 7)), REAL) == pytest.approx(1, rel=1e-12)


def test_inception_score_is_the_exponential_of_the_mutual_information():
    p = np.array([[0.9, 0.1], [0.4, 0.6]])
    joint, class_alone = p / 2, p.mean(0)
    information = (joint * np.log(joint / (0.5 * class_alone))).sum()
    assert InceptionScore()(told(p), REAL) == pytest.approx(np.exp(information), rel=1e-12)


@pytest.mark.parametrize("right", [0, 3, 10])
def test_label_accuracy_is_the_share_that_shows_what_was_asked_for(right):
    shown = np.arange(10) % 4
    asked = np.where(np.arange(10) < right, shown, (shown + 1) % 4)
    probabilities = 0.1 + 0.6 * np.eye(4)[shown]
    assert LabelAccuracy()(told(probabilities, asked), REAL) == right / 10


def test_what_lacks_classes_is_refused():
    with pytest.raises(Unfit, match="inception_score needs an extractor that tells classes apart"):
        InceptionScore().check(REAL, REAL)
    with pytest.raises(Unfit, match="label_accuracy needs an extractor that tells classes apart"):
        LabelAccuracy().check(Features(np.zeros((5, 2)), labels=np.zeros(5, int)), REAL)
    with pytest.raises(Unfit, match="the class that each sample was asked to be of"):
        LabelAccuracy().check(told(np.eye(5)), REAL)
