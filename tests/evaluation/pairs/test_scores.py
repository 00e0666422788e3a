import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from reverie.evaluation.collection import Collection
from reverie.evaluation.metrics.base import Unfit
from reverie.evaluation.pairs import Clip, OpenedPair, Trained, from_text, scores
from reverie.evaluation.pairs.base import unit
from reverie.evaluation.pairs.embedding import embedded
from reverie.evaluation.team import Team


def random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


class Read(OpenedPair):
    """Pixels and texts are read as numbers. A wide product, so that the last bits depend on what is in a batch."""

    def __init__(self):
        super().__init__("read")
        self.weight = torch.from_numpy(random(0).normal(size=(4, 4))).float()

    def _read(self, x):
        return unit((x - 127.5) @ self.weight @ torch.linalg.inv(self.weight))

    def images(self, items):
        assert len(items) == self.block
        return self._read(items.float().flatten(1))

    def texts(self, texts: Sequence[str]):
        return self._read(torch.tensor([[float(word) for word in text.split()] for text in texts]))


def collection(items, said=None):
    said = items if said is None else said
    return Collection(items[:, None, :, None], True, "samples", captions=tuple(" ".join(map(str, row)) for row in said))


def pixels(n, *key):
    return random(*key).integers(0, 256, (n, 4), dtype=np.uint8)


def values(made, real=None, **more):
    return {n.name: n for n in scores(Read(), made, real, Team(), "cpu", **more)}


def test_images_that_are_their_captions():
    found = values(collection(pixels(120, 1)), among=40)
    assert list(found) == ["caption_score", "retrieval", "recall_at_5"]
    assert [n.value for n in found.values()] == pytest.approx([1, 1, 1], abs=1e-6)
    assert found["retrieval"].sets == (1, 1, 1)
    assert found["retrieval"].error == 0
    assert found["retrieval"].title == "retrieval among 40"
    assert found["retrieval"].note == "a guess is right in 2.5 %; 2.5 % with captions dealt at random"
    assert found["retrieval"].floor is None
    assert found["retrieval"].unit == "%"


def test_value_error_and_expectation_by_their_definitions():
    items, said = pixels(90, 2), pixels(90, 3)[random(4).integers(0, 30, 90)]
    found = values(collection(items, said), among=7)
    a, b = (torch.nn.functional.normalize(torch.from_numpy(x).double() - 127.5, dim=1).numpy() for x in (items, said))
    every = a @ b.T
    score = found["caption_score"]
    assert score.value == pytest.approx(np.diag(every).mean(), abs=1e-6)
    assert score.error == pytest.approx(np.diag(every).std(ddof=1) / math.sqrt(90), rel=1e-5)
    assert score.note == f"mean cosine; {every.mean():.3f} with captions dealt at random"
    assert np.mean(score.sets) == pytest.approx(score.value, rel=1e-12)  # three parts of 30
    p = found["retrieval"].value
    assert found["retrieval"].error == pytest.approx(math.sqrt(p * (1 - p) / 89), rel=1e-12)


def test_the_floor_is_the_same_number_of_real_images():
    made, real = collection(pixels(80, 5), pixels(80, 6)), collection(pixels(60, 7), pixels(60, 8))
    beside, alone = values(made, real), values(real, among=60)
    assert beside["retrieval"].title == "retrieval among 60"  # as many as both have
    for name, number in beside.items():
        assert number.floor == alone[name].value
        assert number.floor_n == 60
    assert {n.floor_n for n in values(real, made).values()} == {60}
    assert values(made, replace(real, captions=()))["retrieval"].floor is None


@pytest.mark.parametrize("key", range(3))
def test_numbers_do_not_depend_on_the_order_of_samples(key):
    made = collection(pixels(150, 9), pixels(150, 10)[random(11).integers(0, 40, 150)])
    real = collection(pixels(70, 12), pixels(70, 13))
    mixed = made.take(random(14, key).permutation(150)), real.take(random(15, key).permutation(70))
    assert scores(Read(), made, real, Team(), "cpu") == scores(Read(), *mixed, Team(), "cpu")


def test_threads_change_nothing():
    made, before = collection(pixels(200, 16), pixels(200, 17)), torch.get_num_threads()
    one = values(made)
    torch.set_num_threads(2)
    try:
        assert values(made) == one
    finally:
        torch.set_num_threads(before)


def test_better_samples_have_better_numbers():
    """The numbers fall as noise is added to images that were their captions."""
    said = pixels(120, 18)
    noise = random(19).normal(size=said.shape)
    found = [
        [n.value for n in values(collection(np.clip(said + s * noise, 0, 255).astype(np.uint8), said)).values()]
        for s in (0, 40, 150)
    ]
    assert all(a > b for one, other in pairwise(found) for a, b in zip(one, other, strict=True))


def test_embeddings_are_of_the_images_and_captions_they_stand_for():
    made = collection(pixels(50, 20), pixels(50, 21)[np.arange(50) % 11])
    found = embedded(Read(), made, Team(), "cpu")
    assert len(found.texts) == 11
    for each in (found.images, found.texts):
        np.testing.assert_allclose(np.linalg.norm(each, axis=1), 1, atol=1e-6)
    back = Read()
    for image, own in zip(found.images, found.own, strict=True):
        near = [
            i
            for i in range(50)
            if np.abs(back.images(torch.from_numpy(made.items[[i] * 32]))[0].numpy() - image).max() < 1e-5
        ]
        assert any(np.abs(back.texts([made.captions[i]])[0].numpy() - found.texts[own]).max() < 1e-5 for i in near)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Collection(np.zeros((9, 2), np.float32), False, "points"), "points holds arrays"),
        (replace(collection(pixels(9, 1)), captions=()), "samples has no captions; put metadata.jsonl"),
        (collection(pixels(9, 1), np.ones((9, 4), int)), "all 9 images of samples have one caption"),
    ],
)
def test_samples_without_two_captions_are_refused(made, said):
    with pytest.raises(Unfit, match=said):
        scores(Read(), made, None, Team(), "cpu")


def test_few_samples_have_no_sets_and_few_captions_no_five():
    found = values(collection(pixels(4, 1)))
    assert list(found) == ["caption_score", "retrieval"]
    assert found["retrieval"].sets == ()
    assert found["retrieval"].title == "retrieval among 4"


def test_words_on_the_command_line(tmp_path):
    assert from_text("trained") == Trained()
    assert from_text(str(tmp_path)) == Clip(str(tmp_path))
    assert from_text("owner/name") == Clip("owner/name")
    with pytest.raises(ValueError, match=r"no image-text pair 'trianed' \(clip, trained are known\); write trained"):
        from_text("trianed")
