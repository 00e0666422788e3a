"""Which rows, times, noise and labels belong to a step."""

import numpy as np
import pytest
import torch

from reverie.data import Attribute, Examples
from reverie.image_conditions import Masked
from reverie.prompts import Known, OfExamples, Vocabulary
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


STYLE = np.arange(N) % 4 - 1


def told(**changes):
    """Of examples with a class, an attribute of which every fourth is unknown, and an image."""
    own = Examples(ITEMS, LABELS, ("a", "b", "c"), image=True, attributes=(Attribute("style", STYLE, ("x", "y", "z")),))
    known = {"classes": own.classes, "attributes": (Known("style", ("x", "y", "z")),), "image": Masked(), **changes}
    return OfExamples(Vocabulary(own.shape, **known), own)


@pytest.mark.parametrize(("batch", "parts", "world"), [(4, 1, 3), (2, 3, 2), (1, 1, 12)])
def test_however_a_step_is_divided_it_is_told_the_same(batch, parts, world):
    settings = {"told": told(), "drop": 0.3, "drop_part": 0.4, "flip": True}
    split = [batches(batch=batch, parts=parts, world=world, rank=r, **settings) for r in range(world)]
    for step in (0, 5):
        (one,) = batches(batch=12, **settings).step(step)
        pieces = [made.step(step) for made in split]
        ordered = [pieces[r][p].cond for p in range(parts) for r in range(world)]
        for name in ("label", "vector", "image", "drop"):
            assert torch.equal(torch.cat([getattr(cond, name) for cond in ordered]), getattr(one.cond, name))


def test_what_is_told_leaves_times_noise_and_pictures_as_they_are():
    plain, more = (batches(drop=0.3, flip=True, drop_part=0.5, told=of).step(3)[0] for of in (None, told()))
    for name in ("x0", "u"):
        assert torch.equal(getattr(plain, name), getattr(more, name))
    assert torch.equal(eps(plain), eps(more))
    assert torch.equal(plain.cond.label, more.cond.label)
    assert bool((more.cond.drop | ~plain.cond.drop[:, None]).all())


def test_a_picture_is_told_as_it_is_seen():
    for step in range(20):
        (batch,) = batches(flip=True, told=told()).step(step)
        picture, known = batch.cond.image[:, :-1], batch.cond.image[:, -1:]
        assert torch.equal(picture, torch.where(known > 0, batch.x0, 0.0))


def test_parts_are_hidden_at_the_given_rates():
    """Each apart with p besides all of them with d, 1 - (1 - p)(1 - d) in all, independently of each other."""
    made = batches(batch=100, drop=0.2, drop_part=0.3, told=told(attributes=()))
    drop = torch.cat([made.step(s)[0].cond.drop for s in range(100)]).double()
    one, both, n = 1 - 0.7 * 0.8, 0.2 + 0.8 * 0.3**2, len(drop)
    assert drop[:, 1:3].eq(drop[:, 1:2]).all()  # neither is told: no more than altogether
    for part, rate in ((0, one), (3, one), (1, 0.2)):
        assert float(drop[:, part].mean()) == pytest.approx(rate, abs=4.5 * (rate * (1 - rate) / n) ** 0.5)
    assert float((drop[:, 0] * drop[:, 3]).mean()) == pytest.approx(both, abs=4.5 * (both * (1 - both) / n) ** 0.5)


def test_an_attribute_that_is_not_known_is_hidden():
    made = batches(told=told(image=None))
    rows = drawn(made, 10)
    drop = torch.cat([made.step(s)[0].cond.drop for s in range(10)])
    assert drop[:, 1].tolist() == (STYLE[rows] < 0).tolist()
    assert not drop[:, [0, 2, 3]].any()


BALANCED = np.array([i % 7 if i < 18 else 7 for i in range(N)])


def test_a_balanced_epoch_has_one_of_each_number():
    """Drawn evenly from its members, anew in each epoch, in an order of its own."""
    epochs = np.array(drawn(batches(batch=8, balanced=BALANCED[ROWS]), 1000)).reshape(-1, 8)
    assert all(sorted(BALANCED[epoch]) == list(range(8)) for epoch in epochs)
    assert len({tuple(BALANCED[epoch]) for epoch in epochs}) > 950  # of 40320 orders
    for i in ROWS:
        share = 1 / int((BALANCED[ROWS] == BALANCED[i]).sum())
        assert (epochs == i).sum() / 1000 == pytest.approx(share, abs=5 * (share * (1 - share) / 1000) ** 0.5)


def test_a_balanced_epoch_is_the_same_however_it_is_divided():
    whole = drawn(batches(batch=12, balanced=BALANCED[ROWS]), 9)
    split = [batches(batch=2, parts=2, world=3, rank=r, balanced=BALANCED[ROWS]) for r in range(3)]
    for step in (8, 2):
        pieces = [made.step(step) for made in split]
        ordered = [Pixels().decode(pieces[r][p].x0)[:, 0, 0, 0] for p in range(2) for r in range(3)]
        assert torch.cat(ordered).tolist() == whole[12 * step : 12 * step + 12]
