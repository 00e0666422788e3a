"""What an autoencoder loses: nothing if it is the identity, and otherwise what is put in."""

import json
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from reverie.diagnosis import Ruler, ceiling, distances
from reverie.evaluation import Collection
from reverie.evaluation.extractors import Extractor, Opened
from reverie.spaces import Pixels, Standardized
from reverie.training.reconstruction import BEST_DB


def pictures(n, seed=0, low=32, high=224):
    """Grey pictures, smooth enough to be told apart by their pixels."""
    small = np.random.default_rng(seed).integers(low, high, (n, 1, 4, 4))
    return Collection(small.repeat(3, 2).repeat(3, 3).astype(np.uint8), True, "pictures")


def arrays(n, seed=0):
    return Collection(np.random.default_rng(seed).standard_normal((n, 2, 5)).astype(np.float32), False, "arrays")


@pytest.fixture(scope="module")
def ruler():
    return Ruler(pictures(80, 1))


def test_the_identity_has_the_floor(ruler):
    found = ceiling(Pixels(), lambda data: data, pictures(40), ruler)
    assert found.rebuilt == found.floor
    assert found.quality == {"psnr": BEST_DB, "snr": BEST_DB, "ssim": pytest.approx(1)}
    assert found.n == 40
    assert not found.faulty
    assert json.loads(json.dumps(found.line()))["rebuilt"] == json.loads(json.dumps(found.line()))["floor"]


def test_an_autoencoder_that_knows_only_the_mean_is_at_fault(ruler):
    held_out = pictures(40)
    grey = torch.from_numpy(held_out.items).double().mean().round().to(torch.uint8)
    found = ceiling(Pixels(), lambda data: grey.expand(data.shape).clone(), held_out, ruler)
    assert found.quality["snr"] == pytest.approx(0, abs=0.01)
    assert found.rebuilt[0].value > 2 * found.floor[0].value
    assert found.faulty
    assert "the autoencoder is at fault" in found.words
    assert "100%" in found.words


def test_errors_are_counted_in_the_model_s_space(ruler):
    """16 grey values up or down, within the range: 20 log10(2 / (16 / 127.5)) dB."""
    sign = torch.where(torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.5, -16, 16)
    found = ceiling(Pixels(), lambda data: (data.int() + sign).to(torch.uint8), pictures(40), ruler)
    assert found.quality["psnr"] == pytest.approx(20 * math.log10(2 / (16 / 127.5)), abs=1e-3)
    assert found.quality["ssim"] < 1
    assert not found.faulty
    assert f"{found.quality['psnr']:.1f}" in found.seen


def test_arrays_have_no_range_and_no_ssim():
    """Noise of a tenth of the variance costs 10 dB."""
    held_out, noise = arrays(400), torch.randn(400, 2, 5, generator=torch.Generator().manual_seed(3))
    space = Standardized().fit(torch.from_numpy(held_out.items))
    found = ceiling(space, lambda data: data + math.sqrt(0.1) * noise, held_out, Ruler(arrays(200, 1)))
    assert set(found.quality) == {"snr"}
    assert found.quality["snr"] == pytest.approx(10, abs=0.2)
    assert "loses 10" in found.words or "loses 9." in found.words
    assert found.floor[0].extractor == "values"


class Corners(Opened):
    def both(self, items):
        return items.flatten(1)[:, :2].double() / 255, None


@dataclass(frozen=True)
class Learned(Extractor):
    """Features that pass for those of a network."""

    kind: ClassVar[str] = "corners"

    def open(self, real, device="cpu"):
        return Corners(2)


def test_features_of_a_network_are_compared_by_kid_and_fid_where_there_are_enough(monkeypatch):
    monkeypatch.setattr(distances, "suited", lambda real: (Learned(),))
    ruler = Ruler(pictures(60, 1))
    assert [d.title for d in ruler(pictures(40))] == ["KID", "FID"]
    assert [d.title for d in ruler(pictures(2))] == ["KID"]  # 2 features need 3 examples
    bright = ceiling(Pixels(), lambda data: data // 4 + 191, pictures(40), ruler)
    assert all(made.value > 10 * abs(real.value) for made, real in zip(bright.rebuilt, bright.floor, strict=True))
    assert [row[0] for row in bright.rows()][1:] == [f"{t} of reconstructions, in corners" for t in ("KID", "FID")]


def test_the_same_distances_twice(ruler):
    assert ruler(pictures(30, 5)) == ruler(pictures(30, 5)) == Ruler(pictures(80, 1))(pictures(30, 5))
