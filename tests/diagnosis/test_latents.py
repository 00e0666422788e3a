"""Latents of the prior's law are let pass; those of another mean or size are named by their channel."""

import math

import pytest
import torch

from reverie.diagnosis import latents


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_standard_normal_passes_with_its_moments():
    found = latents(normal(400, 3, 6, 6))
    assert found.wrong == ()
    assert not found.faulty
    for mean, error in zip(found.mean, found.mean_error, strict=True):
        assert abs(mean) < 4 * error
        assert error == pytest.approx(1 / math.sqrt(400 * 36), rel=0.15)
    for std, error in zip(found.std, found.std_error, strict=True):
        assert abs(std - 1) < 4 * error
        assert error == pytest.approx(1 / math.sqrt(2 * 400 * 36), rel=0.15)
    assert max(map(abs, found.kurtosis)) < 4 * math.sqrt(24 / (400 * 36))
    assert abs(found.correlation) < 4 / math.sqrt(400 * 36)


def test_chance_is_not_taken_for_a_fault():
    assert not any(latents(normal(16, 4, 2, 2, seed=i)).faulty for i in range(200))


def test_channels_that_are_scaled_and_shifted_are_named():
    x = normal(200, 4, 3, 3)
    x[:, 1] *= 1.5
    x[:, 3] += 0.5
    found = latents(x)
    assert found.wrong == (1, 3)
    assert "channels 1 (mean" in found.words
    assert found.words.count("(mean") == 2
    assert "3 (mean 0.4" in found.words
    assert "the latents are at fault" in found.words
    assert found.std[1] == pytest.approx(1.5, abs=0.1)
    assert len(found.rows()) == 5


def test_a_constant_channel_is_wrong_and_its_numbers_are_finite():
    x = normal(50, 2, 3, 3)
    x[:, 0] = 0
    found = latents(x)
    assert found.wrong == (0,)
    assert all(map(math.isfinite, (*found.kurtosis, *found.std_error, found.correlation)))


def test_numbers_of_one_example_are_not_independent():
    """Where they are all the same, the error is that of one number an example."""
    x = normal(30, 1, 1, 1, seed=4).expand(30, 1, 8, 8)
    found = latents(x)
    assert found.mean_error[0] == pytest.approx(float(x[:, 0, 0, 0].std()) / math.sqrt(30))


def test_kurtosis_of_laws_that_are_known():
    u = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    uniform = math.sqrt(12) * (u[:, 0] - 0.5)
    laplace = (u[:, 1] - 0.5).sign() * -(1 - 2 * (u[:, 1] - 0.5).abs()).log() / math.sqrt(2)
    found = latents(torch.stack([uniform, laplace], 1))
    assert found.kurtosis[0] == pytest.approx(-1.2, abs=0.05)
    assert found.kurtosis[1] == pytest.approx(3, abs=0.6)
    assert found.beyond[0] == 0
    assert found.beyond[1] == pytest.approx(math.exp(-4 * math.sqrt(2)), rel=0.3)
    assert not found.faulty  # tails are told, and are no fault


def test_the_two_channels_that_are_most_alike():
    x = normal(500, 3, 4, 4)
    x[:, 2] = -0.8 * x[:, 0] + 0.6 * x[:, 2]
    found = latents(x)
    assert found.pair == (0, 2)
    assert found.correlation == pytest.approx(-0.8, abs=0.02)
    assert latents(x[:, :1]).pair is None


def test_latents_without_axes_of_space_are_those_with_one_place():
    x = normal(60, 5)
    assert latents(x) == latents(x[..., None, None])


def test_one_example_tells_nothing():
    with pytest.raises(ValueError, match="at least 2 examples; given 1"):
        latents(normal(1, 4))
