"""The backbone that is taken where none is named."""

import pytest
import torch

from reverie.conditioning import Conditions
from reverie.nets import DiTConfig, MLPConfig, UNetConfig, parameters, suited


@pytest.mark.parametrize(
    ("shape", "cls"),
    [
        ((2,), MLPConfig),
        ((784,), MLPConfig),
        ((24, 3), MLPConfig),
        ((2, 7), MLPConfig),
        ((1, 3, 64), MLPConfig),
        ((1, 2, 3, 16), MLPConfig),
        ((2, 2, 2, 2, 2), MLPConfig),
        ((1, 8), UNetConfig),
        ((5, 48), UNetConfig),
        ((2, 16000), UNetConfig),
        ((1, 8, 8), DiTConfig),
        ((3, 16, 12), DiTConfig),
        ((1, 28, 28), UNetConfig),
        ((3, 64, 64), UNetConfig),
        ((3, 256, 200), UNetConfig),
        ((1, 2, 24, 24), DiTConfig),
        ((3, 16, 64, 48), DiTConfig),
    ],
)
def test_suited_fits_the_shape(shape, cls):
    config = suited(shape)
    assert type(config) is cls
    assert config.fits(shape)
    with torch.device("meta"):
        x = torch.zeros(1, *shape)
        assert config.build(shape)(x, torch.zeros(1)).shape == x.shape


def test_what_is_taken_for_images():
    """Runs of old were begun with these; another choice is another network for the same recipe."""
    assert suited((1, 8, 8)) == DiTConfig(depth=4)
    assert suited((1, 28, 28)) == UNetConfig(width=32, multipliers=(1, 2, 2), blocks=1, attention=8)
    assert suited((3, 64, 64)) == UNetConfig(width=32, multipliers=(1, 2, 2, 4), blocks=1, attention=8)
    levels = [len(suited((3, side, side)).multipliers) for side in (20, 32, 64, 128, 512)]
    assert levels == [3, 3, 4, 5, 5]
    assert suited((3, 65, 8)).width == 64


def test_it_is_small_where_it_trains_in_minutes():
    def size(shape):
        with torch.device("meta"):
            return parameters(suited(shape).build(shape, Conditions(classes=10)))

    assert 1.1e6 < size((1, 8, 8)) < 1.5e6
    assert 0.9e6 < size((1, 28, 28)) < 1.5e6
    assert size((3, 48)) < 1e6
    assert size((1, 16000)) < 2.5e6
    assert size((1, 16, 64, 64)) < 1.5e6


@pytest.mark.parametrize("length", [8, 100, 4096, 16000, 100_000, 1_000_000])
def test_attention_in_the_middle_sees_a_few_hundred_samples_of_a_wave(length):
    levels = len(suited((1, length)).multipliers)
    assert length / 2 ** (levels - 1) <= 256
    assert length / 2 ** (levels - 1) > 64 or levels <= 5


@pytest.mark.parametrize(("size", "side"), [((16, 12), 2), ((24, 4), 4), ((64, 64), 4), ((48, 128), 8)])
def test_a_video_is_taken_frame_by_frame_in_patches(size, side):
    assert suited((3, 5, *size)) == DiTConfig(depth=4, patch=(1, side, side), factorised=True)


def test_parameters_counts_what_is_trained():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
    assert parameters(net) == 3 * 4 + 4 + 4 + 1
    net[0].requires_grad_(False)
    assert parameters(net) == 5
