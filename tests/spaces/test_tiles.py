"""Decoding in tiles: what is decoded at once, wherever the decoder looks no further than a quarter of a border."""

import pytest
import torch
import torch.nn.functional as F
from helpers import close, randn

from reverie.spaces.tiles import BORDER, tiled

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SIDES = {1: (61,), 2: (19, 50), 3: (9, 34, 17)}


def enlarged(z, factor):
    for axis in range(2, z.ndim):
        z = z.repeat_interleave(factor, axis)
    return z


@pytest.mark.parametrize("tile", [8, 11, 16])
@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_weights_sum_to_one_and_no_place_is_moved(axes, factor, tile):
    z = randn(2, 3, *SIDES[axes])
    assert close(tiled(lambda part: enlarged(part, factor), z, tile), enlarged(z, factor), 1e-13)


def local(axes, factor, reach):
    """Convolutions that look so many latents far, the last of them at what is enlarged."""
    weights = [randn(3, 3, *(3,) * axes, seed=i) / 3 for i in range(reach)]

    def decode(z):
        for i, weight in enumerate(weights):
            z = enlarged(z, factor) if i == reach - 1 else z
            z = torch.tanh(CONV[axes](z, weight, padding=1))
        return z

    return decode


@pytest.mark.parametrize(
    ("axes", "factor", "tile"), [(1, 1, 16), (1, 4, 32), (2, 1, 16), (2, 2, 16), (2, 1, 32), (3, 1, 16)]
)
def test_it_is_exact_where_the_decoder_looks_no_further_than_a_quarter_of_a_border(axes, factor, tile):
    z, reach = randn(1, 3, *SIDES[axes]), int(BORDER * tile / 4)
    assert max(z.shape[2:]) > tile
    decode = local(axes, factor, reach)
    assert close(tiled(decode, z, tile), decode(z), 1e-13)
    further = local(axes, factor, 3 * reach)  # what misses something beyond a tile is told from it
    assert not close(tiled(further, z, tile), further(z), 1e-6)


def test_a_place_deep_inside_one_tile_is_what_the_tile_says():
    """A decoder that treats every place by all there are: the mean of its tile."""
    z = torch.arange(40.0)[None, None]
    made = tiled(lambda part: part.mean(-1, keepdim=True).expand_as(part), z, 16)[0, 0]
    assert close(made[:12], z[0, 0, :16].mean().expand(12))
    assert close(made[-12:], z[0, 0, -16:].mean().expand(12))
    assert bool((made.diff() >= 0).all())  # between two tiles it goes from one to the other, and does not jump
    assert float(made.diff().max()) < 8


def test_what_is_no_larger_than_a_tile_is_decoded_at_once():
    seen = []
    z = randn(2, 3, 16, 9)
    tiled(lambda part: seen.append(part.shape) or part, z, 16)
    assert seen == [z.shape]
    tiled(lambda part: seen.append(part.shape) or part, randn(2, 3, 17, 9), 16)
    assert seen[1:] == [(2, 3, 16, 9)] * 2
