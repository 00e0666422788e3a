"""Which rows, times, noise and labels belong to a step."""

import numpy as np
import pytest
import torch

from reverie.data import Examples
from reverie.spaces import Pixels
from reverie.training.batches import Batches

N = 23
ITEMS = np.random.default_rng(0).integers(0, 256, (N, 1, 4, 4), np.uint8)
ITEMS[:, 0, 0, 0] = np.arange(N)
LABELS = np.arange(N) % 3
EXAMPLES = Examples(ITEMS, LABELS, ("a", "b", "c"), image=True)
ROWS = np.array([i for i in range(N) if i % 5])


def batches(**settings):
    return Batches(EXAMPLES, ROWS, Pixels(), **{"seed": 3, "batch": 4, **settings})


def eps(batch):
    """Its first draw of noise."""
    return batch.noise()(batch.x0)


def drawn(made, steps, start=0):
    """The rows of each step's examples, told by their first pixel (examples are all different)."""
    first = {float(Pixels().encode(torch.from_numpy(ITEMS[i : i + 1]))[0, 0, 0, 0]): i for i in range(N)}
    return [first[float(x[0, 0, 0])] for s in range(start, start + steps) for b in made.step(s) for x in b.x0]


def test_an_epoch_visits_every_row_once_and_no_held_out_row_ever():
    seen = drawn(batches(batch=5), 5 * len(ROWS))
    epochs = np.array(seen).reshape(-1, len(ROWS))
    assert len(epochs) == 25
    assert all(sorted(epoch) == ROWS.tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 25


@pytest.mark.parametrize(("batch", "parts", "world"), [(4, 1, 3), (2, 3, 2), (6, 2, 1), (1, 1, 12), (3, 4, 1)])
def test_however_a_step_is_divided_it_is_the_same_step(batch, parts, world):
    whole = batches(batch=12, drop=0.4, flip=True)
    split = [batches(batch=batch, parts=parts, world=world, rank=r, drop=0.4, flip=True) for r in range(world)]
    for step in (0, 1, 7):
        (one,) = whole.step(step)
        pieces = [made.step(step) for made in split]
        ordered = [pieces[r][p] for p in range(parts) for r in range(world)]
        assert all(len(b.x0) == batch for b in ordered)
        for name in ("x0", "u"):
            assert torch.equal(torch.cat([getattr(b, name) for b in ordered]), getattr(one, name))
        assert torch.equal(torch.cat([eps(b) for b in ordered]), eps(one))
        assert torch.equal(split[0].times(step), one.u)
        for name in ("label", "drop"):
            assert torch.equal(torch.cat([getattr(b.cond, name) for b in ordered]), getattr(one.cond, name))


def test_a_step_depends_on_seed_and_step_alone():
    made = batches()
    later = made.step(5)[0]
    torch.manual_seed(99)
    for s in range(5):
        batches().step(s)
    again = batches().step(5)[0]
    assert torch.equal(eps(later), eps(again))
    assert torch.equal(later.x0, again.x0)
    assert not torch.equal(eps(later), eps(batches(seed=4).step(5)[0]))
    assert not torch.equal(eps(later), eps(made.step(6)[0]))


def test_u_is_stratified():
    """One in each of as many equal parts of [0, 1) as the step has examples, in random order, uniform within."""
    made = batches(batch=8, parts=2)
    inside = []
    for step in range(50):
        u = torch.cat([b.u for b in made.step(step)])
        assert u.dtype == torch.float64
        assert (u * 16).floor().sort().values.tolist() == list(range(16))
        assert not torch.equal(u, u.sort().values)
        inside.append(u * 16 - (u * 16).floor())
    inside = torch.cat(inside).sort().values
    rank = torch.arange(800) / 800
    assert float((inside - rank).abs().max()) < 0.07  # Kolmogorov: p < 1e-3 for 800


def test_the_noise_is_standard_normal():
    z = torch.cat([eps(b) for s in range(200) for b in batches(batch=8).step(s)]).flatten().double()
    n = len(z)
    assert abs(float(z.mean())) < 4.5 / n**0.5
    assert abs(float(z.var()) - 1) < 4.5 * (2 / n) ** 0.5
    assert abs(float((z**4).mean()) - 3) < 4.5 * (96 / n) ** 0.5


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.6])
def test_conditions_are_hidden_at_the_given_rate(drop):
    hidden = torch.cat([b.cond.drop for s in range(500) for b in batches(batch=8, drop=drop).step(s)]).double()
    assert float(hidden.mean()) == pytest.approx(drop, abs=4.5 * (drop * (1 - drop) / len(hidden)) ** 0.5)


def test_half_of_the_images_are_mirrored_and_nothing_else_is():
    plain, flipped = batches(batch=8), batches(batch=8, flip=True)
    mirrored = []
    for step in range(200):
        a, b = plain.step(step)[0], flipped.step(step)[0]
        assert torch.equal(a.u, b.u)
        assert torch.equal(eps(a), eps(b))
        same = (a.x0 == b.x0).flatten(1).all(1)
        assert bool(((a.x0.flip(-1) == b.x0).flatten(1).all(1) | same).all())
        mirrored.append(~same)
    assert float(torch.cat(mirrored).double().mean()) == pytest.approx(0.5, abs=4.5 * 0.5 / 1600**0.5)


def test_labels_go_with_their_rows():
    made = batches()
    rows = drawn(made, 10)
    labels = [int(v) for s in range(10) for b in made.step(s) for v in b.cond.label]
    assert labels == LABELS[rows].tolist()
    assert made.step(0)[0].cond is not None
    assert batches(labels=False).step(0)[0].cond is None
    bare = Examples(ITEMS, image=True)
    assert Batches(bare, ROWS, Pixels(), 0, 4).step(0)[0].cond is None


def test_a_step_larger_than_the_data():
    seen = drawn(batches(batch=50), 2)
    assert sorted(seen[: len(ROWS)]) == ROWS.tolist()
    assert np.bincount(seen, minlength=N)[ROWS].max() <= -(-100 // len(ROWS)) + 1
