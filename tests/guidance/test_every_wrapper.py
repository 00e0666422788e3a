"""What all kinds of guidance share."""

import pytest
import torch
from guided import DROP, TEXT, Deaf, Saying, Seeing, WithVariance
from helpers import DOUBLE, close, named, randn

from reverie.conditioning import Cond
from reverie.exact import Gaussian
from reverie.guidance import AdaptiveProjected, AutoGuided, ClassifierFree, ClassifierGuided, ClipGuided, Thresholded
from reverie.guidance.evaluations import TOGETHER
from reverie.schedules import LinearVP
from reverie.tensors import host

B = TOGETHER + 1
ROWS = randn(B, 2, seed=6)
EACH = torch.linspace(0.05, 0.95, B, dtype=DOUBLE)
LABELS = torch.arange(B) % 2
ASKED = Cond(label=LABELS)
WEAK = Gaussian(LinearVP(), torch.tensor([0.2, -0.1]).double(), 1.2)
CLASSIFIER = Saying(None).data.classifier()

GUIDED = {
    "classifier_free": lambda f: ClassifierFree(f, 3.0),
    "interval": lambda f: ClassifierFree(f, 3.0, interval=(0.01, 5.0)),
    "rescale": lambda f: ClassifierFree(f, 3.0, rescale=0.7),
    "negative": lambda f: ClassifierFree(f, 3.0, negative=Cond(label=torch.tensor([1]))),
    "scales": lambda f: ClassifierFree(f, 1.0, scales={"label": 3.0}),
    "classifier": lambda f: ClassifierGuided(f, CLASSIFIER, 3.0),
    "clip": lambda f: ClipGuided(f, Seeing(LinearVP()), TEXT, 50.0),
    "adaptive_projected": lambda f: AdaptiveProjected(f, 3.0, eta=0.2, norm=0.8),
    "momentum": lambda f: AdaptiveProjected(f, 3.0, momentum=-0.5),
}
"""Those that leave an example alone whose condition is dropped."""
ALL = {
    **GUIDED,
    "auto": lambda f: AutoGuided(f, WEAK, 3.0),
    "thresholded": lambda f: Thresholded(ClassifierFree(f, 3.0), 0.9),
}


@pytest.mark.parametrize("guided", **named(**ALL))
@pytest.mark.parametrize("notation", [None, "v"])
def test_a_batch_is_its_examples(guided, notation):
    for t in (EACH, EACH[4]):
        f = Saying(notation)
        q = guided(f)(ROWS, t, ASKED)
        for i in range(B):
            one = guided(Saying(notation))(ROWS[i : i + 1], t[i : i + 1] if t.ndim else t, ASKED[torch.tensor([i])])
            assert close(one.x0[0], q.x0[i], 1e-11)
            assert close(one.eps[0], q.eps[i], 1e-11)
        assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, ROWS, 1e-11)


@pytest.mark.parametrize("guided", **named(**GUIDED))
@pytest.mark.parametrize("notation", [None, "v"])
def test_a_dropped_example_is_left_as_it_is(guided, notation):
    drop = torch.cat([DROP, torch.ones(1, dtype=torch.bool)])
    for hidden in (drop, drop[:, None].expand(-1, 4)):
        cond = Cond(label=LABELS[:5], drop=hidden)
        for t in (EACH[:5], EACH[4]):
            plain = Saying(notation)(ROWS[:5], t, cond)
            q = guided(Saying(notation))(ROWS[:5], t, cond)
            assert torch.equal(q.x0[drop], plain.x0[drop])
            assert torch.equal(q.eps[drop], plain.eps[drop])
            assert not close(q.x0[~drop], plain.x0[~drop], 1e-3)


@pytest.mark.parametrize("guided", **named(**ALL))
def test_a_learned_variance_is_kept_and_a_type_too(guided):
    f = WithVariance(Saying(None))
    for rows in (ROWS, ROWS[:2].float()):  # two calls, and one
        q = guided(f)(rows, host(0.4), ASKED[: len(rows)])
        assert q.var.eq(1).all()
        assert q.var.shape == q.x0.shape == rows.shape
        assert q.x0.dtype == q.eps.dtype == rows.dtype
        with torch.no_grad():
            assert torch.equal(guided(f)(rows, host(0.4), ASKED[: len(rows)]).x0, q.x0)


def test_wrappers_wrap_wrappers():
    f = Saying(None)
    t = host(0.4)
    both = ClassifierGuided(ClassifierFree(f, 2.0), CLASSIFIER, 1.5)(ROWS, t, ASKED)
    assert close(both.x0, ClassifierFree(f, 3.5)(ROWS, t, ASKED).x0, 1e-11)
    inside = ClassifierFree(ClassifierGuided(Deaf(f), CLASSIFIER, 1.0), 2.0)(ROWS, t, ASKED)
    assert close(inside.x0, ClassifierFree(f, 2.0)(ROWS, t, ASKED).x0, 1e-11)
