import numpy as np
import pytest
import torch
from PIL import Image

from reverie.evaluation.extractors.preparing import (
    IN_WORDS,
    Preparation,
    bicubic,
    bilinear,
    rgb,
    shrunk,
    tensorflow,
)


def pictures(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_grey_is_repeated():
    x = pictures(2, 1, 5, 4)
    assert torch.equal(rgb(x), x.float().repeat(1, 3, 1, 1))


def test_colours_stay():
    x = pictures(2, 3, 5, 4)
    assert torch.equal(rgb(x), x.float())


def test_alpha_is_laid_over_white():
    x = pictures(2, 4, 5, 4)
    share = x[:, 3:].double() / 255
    assert torch.allclose(rgb(x).double(), share * x[:, :3] + (1 - share) * 255, atol=1e-4)
    x[:, 3] = 255
    assert torch.equal(rgb(x), x[:, :3].float())
    x[:, 3] = 0
    assert torch.equal(rgb(x), torch.full((2, 3, 5, 4), 255.0))


@pytest.mark.parametrize("resize", list(IN_WORDS), ids=lambda f: f.__name__)
@pytest.mark.parametrize("side", [5, 9, 40])
def test_a_flat_picture_stays_flat(resize, side):
    found = resize(torch.full((1, 3, 9, 13), 77.0), side)
    assert found.shape == (1, 3, side, side)
    assert torch.allclose(found, torch.tensor(77.0), atol=1e-4)


@pytest.mark.parametrize("resize", list(IN_WORDS), ids=lambda f: f.__name__)
def test_a_square_of_the_right_size_stays(resize):
    x = pictures(2, 3, 11, 11).float()
    assert torch.allclose(resize(x, 11), x, atol=1e-3)


@pytest.mark.parametrize(("resize", "filter"), [(bicubic, Image.BICUBIC), (bilinear, Image.BILINEAR)])
@pytest.mark.parametrize("side", [7, 64])
def test_pillow_resizes_alike(resize, filter, side):
    x = pictures(1, 1, 31, 20).float()
    theirs = np.asarray(Image.fromarray(x[0, 0].numpy()).resize((side, side), filter))
    assert np.abs(resize(x, side)[0, 0].numpy() - theirs.clip(0, 255)).max() < 1e-3


@pytest.mark.parametrize(("size", "side"), [(8, 32), (8, 30), (30, 8), (100, 299)])
def test_tensorflow_reads_a_ramp_where_it_should(size, side):
    """Of a picture whose value is its row, or its column, pixel i is i H / S, or the last one."""
    ramp = torch.arange(size, dtype=torch.float32)
    right = (torch.arange(side, dtype=torch.float64) * size / side).clamp(max=size - 1)
    rows = tensorflow(ramp[:, None].expand(1, 1, size, size), side)[0, 0]
    columns = tensorflow(ramp.expand(1, 1, size, size), side)[0, 0]
    assert torch.allclose(rows.double(), right[:, None].expand(side, side), atol=1e-4)
    assert torch.equal(columns, rows.T)


def test_shrinking_takes_means_over_areas():
    x = pictures(2, 3, 8, 12).float()
    blocks = x.reshape(2, 3, 4, 2, 6, 2).mean((3, 5))
    assert torch.allclose(shrunk(x, 6), blocks, atol=1e-4)
    assert shrunk(x, 12) is x


def test_shrinking_keeps_proportions():
    assert shrunk(torch.zeros(1, 1, 100, 40), 50).shape == (1, 1, 50, 20)
    assert shrunk(torch.zeros(1, 1, 200, 1), 50).shape == (1, 1, 50, 1)


def test_preparation_is_resize_shift_and_scale():
    x, prepare = pictures(2, 1, 10, 10), Preparation(6, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), bilinear)
    resized = bilinear(x.float(), 6)[:, 0]
    for channel, (mean, std) in enumerate([(1, 4), (2, 5), (3, 6)]):
        assert torch.allclose(prepare(x)[:, channel], (resized - mean) / std, atol=1e-5)
    assert prepare.about()["resize"].endswith("6x6")
    assert prepare.about()["quantization"].startswith("none")
