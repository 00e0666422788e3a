from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch

from reverie.conditioning import APART, Cond, Conditions


def full(n: int = 3) -> Cond:
    return Cond(
        label=torch.arange(n),
        vector=torch.rand(n, 4),
        tokens=torch.rand(n, 5, 4),
        mask=torch.ones(n, 5, dtype=torch.bool),
        pooled=torch.rand(n, 6),
        words=torch.ones(n, 5, dtype=torch.int64),
        image=torch.rand(n, 1, 2, 2),
        level=torch.rand(n),
        estimate=torch.rand(n, 3),
        until=torch.rand(n),
        scale=torch.rand(n),
        drop=torch.zeros(n, dtype=torch.bool),
    )


def test_every_field_is_mapped_and_none_stays_none():
    cond = full()
    doubled = cond.map(lambda v: torch.cat([v, v]))
    for f in fields(Cond):
        assert torch.equal(getattr(doubled, f.name), torch.cat([getattr(cond, f.name)] * 2))
    some = Cond(label=torch.arange(3)).map(lambda v: v + 1)
    assert some.label.tolist() == [1, 2, 3]
    assert [f.name for f in fields(Cond) if getattr(some, f.name) is not None] == ["label"]
    assert cond.to("cpu").label.tolist() == [0, 1, 2]


def test_indexing_takes_the_examples():
    cond = full()
    for index in (slice(1, 3), torch.tensor([2, 0])):
        part = cond[index]
        for f in fields(Cond):
            assert torch.equal(getattr(part, f.name), getattr(cond, f.name)[index])


def test_given_counts_nothing_that_tells_how_and_not_what():
    assert not Cond().given()
    assert not Cond(until=torch.zeros(2), scale=torch.ones(2)).given()
    assert not Cond(estimate=torch.zeros(2, 3)).given()
    assert not Cond(drop=torch.ones(2, dtype=torch.bool)).given()
    assert Cond(level=torch.zeros(2)).given()
    assert full().given()


def test_null_drops_everyone_and_keeps_the_rest():
    cond = full().null(3)
    assert cond.drop.tolist() == [True] * 3
    assert cond.label.tolist() == [0, 1, 2]
    assert Cond().null(2).drop.tolist() == [True, True]


def test_cat_joins_and_fills_in_who_is_not_dropped():
    a, b = Cond(label=torch.tensor([1, 2])), Cond(label=torch.tensor([3, 4]), drop=torch.tensor([True, True]))
    joined = Cond.cat(a, b, 2)
    assert joined.label.tolist() == [1, 2, 3, 4]
    assert joined.drop.tolist() == [False, False, True, True]
    assert Cond.cat(b, a, 2).drop.tolist() == [True, True, False, False]
    assert Cond.cat(a, a, 2).drop is None
    both = Cond(drop=torch.tensor([False, True]))
    assert Cond.cat(both, both, 2).drop.tolist() == [False, True, False, True]
    told = Cond(estimate=torch.tensor([[1.0], [2.0]]))
    assert Cond.cat(told, told.null(2), 2).estimate.flatten().tolist() == [1, 2, 1, 2]
    assert told.null(2).drop.tolist() == [True, True]


@pytest.mark.parametrize("name", ["label", "vector", "tokens", "pooled", "words", "image", "level", "estimate"])
def test_cat_refuses_what_one_of_them_lacks(name):
    """In either order; it would be dropped in silence for all."""
    told, other = full(), replace(full(), **{name: None})
    for a, b in ((told, other), (other, told)):
        with pytest.raises(ValueError, match=f"{name} is given in one of two conditions alone"):
            Cond.cat(a, b, 3)


def test_parts_are_dropped_apart():
    cond = full()
    assert cond.parts() == APART
    assert Cond(words=cond.words).parts() == ("text",)
    one = cond.without(3, "text")
    assert one.drop.shape == (3, 4)
    assert one.hidden("text").all()
    assert not one.hidden("label").any()
    two = replace(cond, drop=torch.tensor([True, False, False])).without(3, "image")
    assert two.hidden("image").all()
    assert two.hidden("label").tolist() == [True, False, False]
    assert Cond.cat(cond.null(3), one, 3).drop.tolist() == [[True] * 4] * 3 + [[False, False, True, False]] * 3
    with pytest.raises(ValueError, match="label, vector, text, image; given 'tokens'"):
        cond.without(3, "tokens")


def test_texts_of_other_lengths_are_joined_behind_a_mask():
    long, short = (
        full(),
        replace(full(), tokens=torch.rand(3, 2, 4), words=torch.ones(3, 2, dtype=torch.int64), mask=None),
    )
    for a, b in ((long, short), (short, long)):
        joined = Cond.cat(a, b, 3)
        assert joined.tokens.shape == (6, 5, 4)
        assert joined.words.shape == (6, 5)
        seen = joined.mask if a is long else joined.mask.roll(3, 0)
        assert seen.tolist() == [[True] * 5] * 3 + [[True, True, False, False, False]] * 3


def test_conditions_are_frozen_and_named():
    with pytest.raises(FrozenInstanceError):
        full().label = None
    with pytest.raises(TypeError):
        Cond(torch.arange(3))
    with pytest.raises(TypeError):
        Cond(lable=torch.arange(3))


@pytest.mark.parametrize("name", ["classes", "vector", "tokens", "image"])
def test_a_negative_size_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} of conditions must be at least 0, which is none; given -1"):
        Conditions(**{name: -1})


def test_a_level_lies_on_an_image_or_a_vector():
    with pytest.raises(ValueError, match="no image or vector that it lies on"):
        Conditions(classes=3, tokens=8, level=True)
    assert Conditions(image=1, level=True).level
    assert Conditions(vector=1, level=True).level
    with pytest.raises(FrozenInstanceError):
        Conditions().classes = 3
