import pytest
import torch
import torch.nn.functional as F
from guided import COND, DROP, TEXT, TIMES, Encoded, Seeing, X
from helpers import cases, close, labelled, randn

from reverie.conditioning import Cond
from reverie.denoiser import FixedRows, Rescheduled
from reverie.guidance import ClipGuided
from reverie.parameterizations import Parameterization
from reverie.schedules import VE, Flow, LinearVP
from reverie.tensors import host

PAIR = Seeing(LinearVP())
TEXTS = randn(4, 3, seed=10)


def similarity(x, t, text, pair=PAIR):
    return F.cosine_similarity(pair.image(x, t), text.expand(len(x), -1))


@pytest.mark.parametrize("t", [TIMES, TIMES[1]])
@pytest.mark.parametrize("text", [TEXT, 7 * TEXTS])
def test_the_score_moves_by_the_gradient_of_the_similarity(t, text):
    # By central differences of the cosine, which knows nothing of lengths.
    f, h = labelled(LinearVP()), 1e-5
    q, p = ClipGuided(f, PAIR, text, 30.0)(X, t, COND), f(X, t, COND)
    steps = h * torch.eye(2).double()
    slope = torch.stack([(similarity(X + d, t, text) - similarity(X - d, t, text)) / (2 * h) for d in steps], 1)
    assert close(q.score, p.score + 30 * slope, 1e-7)
    assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, X, 1e-11)
    assert torch.equal(ClipGuided(f, PAIR, text, 0.0)(X, t, COND).x0, p.x0)


@pytest.mark.parametrize("parameterization", **cases(Parameterization))
def test_it_is_the_same_in_every_notation(parameterization):
    f = labelled(LinearVP())
    q, p = (ClipGuided(g, PAIR, TEXTS, 20.0)(X, TIMES, COND) for g in (Encoded(f, parameterization), f))
    assert close(q.x0, p.x0, 1e-9)
    assert close(q.eps, p.eps, 1e-9)


def test_on_another_schedule_the_pair_is_asked_at_the_same_noise_level():
    f = labelled(LinearVP())
    other = ClipGuided(Rescheduled(f, Flow()), PAIR, TEXT, 20.0)
    plain = Rescheduled(ClipGuided(f, PAIR, TEXT, 20.0), Flow())
    assert close(other(X, TIMES).x0, plain(X, TIMES).x0, 1e-9)
    beyond = ClipGuided(labelled(VE()), PAIR, TEXT, 20.0)(X, host(0.999))  # noisier than the pair has seen
    assert bool(beyond.x0.isfinite().all())


def test_examples_whose_text_is_dropped_are_left_as_they_are():
    f = labelled(LinearVP())
    g, free = ClipGuided(f, PAIR, TEXTS, 20.0), f(X, TIMES)
    for cond in (Cond(drop=DROP), Cond(drop=torch.stack([~DROP, DROP, DROP, DROP], 1))):
        q = g(X, TIMES, cond)
        assert torch.equal(q.x0[DROP], free.x0[DROP])
        assert torch.equal(q.eps[DROP], free.eps[DROP])
        assert close(q.x0[~DROP], g(X, TIMES).x0[~DROP])


def test_texts_stay_with_their_examples():
    f, t = labelled(LinearVP()), host(0.4)
    g = ClipGuided(f, PAIR, TEXTS, 20.0)
    q = g(X, t)
    for i in range(4):
        assert close(ClipGuided(f, PAIR, TEXTS[i : i + 1], 20.0)(X[i : i + 1], t).x0[0], q.x0[i])
    assert close(g(X.repeat(3, 1), t).x0, q.x0.repeat(3, 1))
    assert close(FixedRows(g, 6)(X, t).x0, q.x0)
    assert close(ClipGuided(FixedRows(f, 3), PAIR, TEXTS, 20.0)(X, t).x0, q.x0)
    with pytest.raises(ValueError, match="put FixedRows inside"):
        FixedRows(g, 3)(X, t)
    assert close(FixedRows(ClipGuided(f, PAIR, TEXT, 20.0), 3)(X, t).x0, ClipGuided(f, PAIR, TEXT, 20.0)(X, t).x0)
    with pytest.raises(ValueError, match="given 4"):
        g(X[:3], t)
    with pytest.raises(ValueError, match=r"given \(3,\)"):
        ClipGuided(f, PAIR, TEXT[0], 1.0)
