"""The noise of a loss that draws more than once: a stream for each draw, the same however a step is divided."""

import numpy as np
import pytest
import torch

from reverie.data import Examples
from reverie.losses import Denoising
from reverie.schedules import Flow
from reverie.spaces import Pixels
from reverie.tensors import generator
from reverie.training.batches import STEP, VALIDATION, Batches
from reverie.training.noise import Draws
from reverie.training.validation import LEVELS, validate

ITEMS = np.random.default_rng(0).integers(0, 256, (23, 1, 4, 4), np.uint8)
EXAMPLES = Examples(ITEMS, image=True)


def batches(**settings):
    return Batches(EXAMPLES, np.arange(20), Pixels(), **{"seed": 3, "batch": 12, **settings})


def drawn(batch, count, like=None):
    """The first draws of a batch."""
    noise = batch.noise()
    return [noise(batch.x0 if like is None else like) for _ in range(count)]


def test_each_draw_is_its_own_stream():
    (batch,) = batches().step(5)
    for k, z in enumerate(drawn(batch, 4)):
        assert torch.equal(z, torch.randn(12, 1, 4, 4, generator=generator(3, STEP, 5, 1 + k)))


def test_an_evaluation_begins_again():
    (batch,) = batches().step(0)
    assert all(torch.equal(a, b) for a, b in zip(drawn(batch, 3), drawn(batch, 3), strict=True))


@pytest.mark.parametrize(("batch", "parts", "world"), [(4, 1, 3), (2, 3, 2), (6, 2, 1), (1, 1, 12)])
def test_however_a_step_is_divided_the_draws_are_the_same(batch, parts, world):
    (whole,) = batches().step(2)
    split = [batches(batch=batch, parts=parts, world=world, rank=r).step(2) for r in range(world)]
    pieces = [drawn(split[r][p], 3) for p in range(parts) for r in range(world)]
    for k, z in enumerate(drawn(whole, 3)):
        assert torch.equal(torch.cat([piece[k] for piece in pieces]), z)


def test_a_draw_is_made_once_for_all_parts_and_not_before_it_is_asked_for():
    asked = []

    def stream(k):
        asked.append(k)
        return generator(k)

    draws, like = Draws(6, stream), torch.empty(2, 3)
    parts = [draws.noise(slice(first, first + 2)) for first in (0, 2, 4)]
    assert asked == []
    for noise in parts:
        noise(like)
    assert asked == [0]
    for noise in parts:
        noise(like)
    assert asked == [0, 1]


def test_a_draw_has_the_shape_and_type_asked_for():
    (batch,) = batches().step(0)
    z = drawn(batch, 1, torch.empty(12, dtype=torch.float64))[0]
    assert (z.shape, z.dtype) == ((12,), torch.float64)
    assert torch.equal(z.float(), torch.randn(12, generator=generator(3, STEP, 0, 1)))
    with pytest.raises(ValueError, match=r"for its own 12 examples.*given \(13, 2\)"):
        drawn(batch, 1, torch.empty(13, 2))


def test_draws_are_independent():
    """Correlations of 9,600 numbers: beyond 4.5 standard deviations with probability 7e-6 each."""
    z = torch.stack([torch.cat([drawn(batches().step(s)[0], 3)[k].flatten() for s in range(50)]) for k in range(3)])
    off = torch.corrcoef(z.double()) - torch.eye(3)
    assert float(off.abs().max()) < 4.5 / z.shape[1] ** 0.5


# ---------------------------------------------------------------------------------- validation


class Drawing(Denoising):
    """Keeps what it draws."""

    def __call__(self, f, x0, u, cond=None, noise=torch.randn_like, memory=None):
        kept = [noise(x0) for _ in range(3)]
        SEEN.append(kept)
        assert memory is None
        return kept[0].flatten(1).mean(1)


SEEN = []


def seen(batch):
    """The three draws of every level of a validation."""
    SEEN.clear()
    f = type("F", (), {"schedule": Flow()})()
    validate(f, Drawing(), EXAMPLES, np.arange(20), Pixels(), 7, labels=False, batch=batch)
    return [torch.cat([kept[k] for kept in SEEN]).reshape(LEVELS, 128, 1, 4, 4) for k in range(3)]


def test_the_draws_of_a_validation():
    """Draw 0 follows the times in one stream; the others have one for each level. None depends on the batch."""
    whole, parts = seen(128), seen(37)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    draw = generator(7, VALIDATION)
    for level in range(LEVELS):
        torch.rand(128, generator=draw, dtype=torch.float64)
        assert torch.equal(whole[0][level], torch.randn(128, 1, 4, 4, generator=draw))
        for k in (1, 2):
            expected = torch.randn(128, 1, 4, 4, generator=generator(7, VALIDATION, level, k))
            assert torch.equal(whole[k][level], expected)
