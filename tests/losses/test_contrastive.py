import math

import pytest
import torch
from helpers import DOUBLE, close, randn, seeded

from reverie.conditioning import Cond
from reverie.losses.contrastive import Contrastive
from reverie.models.pair import captions
from reverie.prediction import Prediction
from reverie.schedules import Flow

B = 6
U = torch.linspace(0.1, 0.9, B, dtype=DOUBLE)
X0, EPS = randn(B, 3, seed=1), randn(B, 3, seed=2)
WORDS = torch.tensor([[1, 2], [3, 0], [1, 2], [4, 4], [5, 0], [3, 0]])
MASK = torch.tensor([[True, True], [True, False]]).repeat(3, 1)[[0, 1, 0, 0, 1, 1]]


class Known:
    """A pair whose image is x itself and whose texts are given."""

    schedule = Flow()

    def __init__(self, texts, scale=3.0):
        self.texts, self.scale = torch.nn.functional.normalize(texts, dim=1), scale

    def __call__(self, x, t, cond):
        return self.scale * torch.nn.functional.normalize(x, dim=1) @ self.texts.T


def test_it_is_the_symmetric_formula_and_one_caption_is_no_counterexample():
    f = Known(randn(B, 3, seed=4))
    value = Contrastive()(f, X0, U, Cond(words=WORDS, mask=MASK), lambda like: EPS)
    t = Contrastive().times_at(U, f.schedule)
    logits = f(Prediction.of(X0, EPS, f.schedule.at(t, like=X0)).x, t, None)
    same = {0: {2}, 2: {0}, 1: {5}, 5: {1}}
    for i in range(B):
        others = [j for j in range(B) if j not in same.get(i, set())]
        texts = sum(math.exp(logits[i, j]) for j in others)
        images = sum(math.exp(logits[j, i]) for j in others)
        assert close(value[i], -(2 * logits[i, i] - math.log(texts) - math.log(images)) / 2, 1e-12)


def test_pairs_alike_cost_nothing_and_random_ones_the_logarithm_of_the_batch():
    apart = torch.eye(B, dtype=DOUBLE)
    cond = Cond(words=torch.arange(B)[:, None])
    fitting = Contrastive()(Known(apart, 1000.0), apart, U, cond, torch.zeros_like)
    assert float(fitting.max()) == 0
    equal = Contrastive()(Known(torch.ones(B, B, dtype=DOUBLE)), apart, U, cond, torch.zeros_like)
    assert close(equal, torch.full((B,), math.log(B), dtype=DOUBLE), 1e-12)


def test_an_example_without_a_caption_is_none_to_the_others_either():
    texts, drop = randn(B, 3, seed=4), torch.tensor([False, False, True, False, True, False])
    value = Contrastive()(Known(texts), X0, U, Cond(words=WORDS, mask=MASK, drop=drop), lambda like: EPS)
    kept = ~drop
    alone = Contrastive()(
        Known(texts[kept]), X0[kept], U[kept], Cond(words=WORDS[kept], mask=MASK[kept]), lambda like: EPS[kept]
    )
    assert torch.equal(value[drop], torch.zeros(2, dtype=DOUBLE))
    assert close(value[kept], alone, 1e-12)
    with pytest.raises(ValueError, match="captions"):
        Contrastive()(Known(texts), X0, U, Cond(label=torch.arange(B)))


def test_captions_are_the_same_by_what_is_seen_of_them():
    tokens = torch.randn(3, 2, 4, generator=seeded(1))
    tokens[2] = tokens[0]
    tokens[2, 1] = float("nan")
    same = torch.tensor([[True, False, True], [False, True, False], [True, False, True]])
    mask = torch.tensor([[True, False]] * 3)
    assert torch.equal(captions(Cond(tokens=tokens, mask=mask), 3)[0], same)
    assert torch.equal(captions(Cond(pooled=tokens[:, 0]), 3)[0], same)
    assert torch.equal(captions(Cond(words=torch.tensor([[7, 1], [8, 1], [7, 2]]), mask=mask), 3)[0], same)
