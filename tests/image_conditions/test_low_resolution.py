"""Small pictures that are spoilt before they are told: the law of the noise, its level, the blur, any axes of space."""

import math

import pytest
import torch
from helpers import DOUBLE, close, randn
from torch import Tensor

from reverie.image_conditions import LowResolution
from reverie.schedules import VE, Cosine, Flow

SPOILT = (LowResolution(2, 0.6), LowResolution(2, 0.0, 1.5), LowResolution(2, 1.0, 0.7))


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shrunk(image: Tensor, side: int, axes: int) -> Tensor:
    """The small picture that was enlarged by 2 to this image (B, C, ...): enlarging has full rank, axis by axis."""
    enlarged = LowResolution(2).enlarged(torch.eye(side, dtype=DOUBLE)[None])[0].T
    back = torch.linalg.pinv(enlarged)
    for axis in range(2, 2 + axes):
        image = (image.double().movedim(axis, -1) @ back.T).movedim(-1, axis)
    return image


def uniform(values: Tensor, top: float) -> bool:
    """Whether values are of the uniform law on [0, top], by Kolmogorov's distance; one in 10^4 such would not be."""
    n = len(values)
    assert float(values.min()) >= 0
    rank = torch.arange(1, n + 1, dtype=DOUBLE) / n
    return float((values.double().sort().values / top - rank).abs().max()) < 2.23 / math.sqrt(n) + 1 / n


def test_noise_is_laid_on_the_small_picture_and_keeps_the_variance():
    """cos small + sin eps: linear in both, and weights whose squares sum to 1."""
    told, small, eps = LowResolution(2, 0.9), randn(4, 3, 4, 6), randn(4, 3, 4, 6, seed=1)
    level, nothing = torch.tensor([0.0, 0.3, 0.5, 0.9], dtype=DOUBLE), torch.zeros(4, 3, 4, 6, dtype=DOUBLE)
    made = told.told(small, level, eps)
    assert torch.equal(made.level, level)
    cos = told.told(small, level, nothing).image / told.enlarged(small)
    sin = told.told(nothing, level, eps).image / told.enlarged(eps)
    for i, s in enumerate(level.tolist()):
        assert close(cos[i], torch.full_like(cos[i], math.cos(math.pi * s / 2)))
        assert close(sin[i], torch.full_like(sin[i], math.sin(math.pi * s / 2)))
    assert close(cos**2 + sin**2, torch.ones_like(cos))
    assert close(made.image, cos * told.enlarged(small) + sin * told.enlarged(eps))
    assert torch.equal(told.told(small, 0.3, eps).image[1], made.image[1])


def test_the_level_told_is_the_level_of_the_noise():
    """Two pictures under the same draws differ by cos(π s / 2), whatever the noise; and the noise is standard."""
    told, x, zero = LowResolution(2, 0.8), randn(2000, 1, 8), torch.zeros(2000, 1, 8, dtype=DOUBLE)
    noisy, noise = told.of(x, drawn()), told.of(zero, drawn())
    kept = (noisy.image - noise.image) / told.given(x).image
    assert torch.equal(noisy.level, noise.level)
    assert close(kept, torch.cos(math.pi / 2 * noisy.level)[:, None, None].expand_as(kept), 1e-6)
    assert uniform(noisy.level, 0.8)
    eps = shrunk(noise.image, 4, 1) / torch.sin(math.pi / 2 * noise.level)[:, None, None]
    n = eps.numel()
    assert abs(float(eps.mean())) < 5 / math.sqrt(n)
    assert abs(float(eps.var()) - 1) < 5 * math.sqrt(2 / n)
    half = noise.level < 0.4
    assert abs(float(eps[half].var()) - 1) < 5 * math.sqrt(2 / eps[half].numel()), "at low levels too"


@pytest.mark.parametrize("condition", SPOILT, ids=str)
def test_draws_are_of_the_whole_batch_and_of_its_shape_alone(condition):
    x, draw, other = randn(6, 3, 8, 12).float(), drawn(), drawn()
    told = condition.of(x, draw)
    changed = condition.of(torch.cat([5 * x[:1] + 2, x[1:]]), other)
    assert torch.equal(draw.get_state(), other.get_state())
    assert torch.equal(changed.image[1:], told.image[1:])
    assert not torch.equal(changed.image[:1], told.image[:1])
    assert not torch.equal(condition.of(x, drawn(1)).image, told.image)
    assert (told.level is None) == (condition.noise == 0)


def test_nothing_is_drawn_where_nothing_is_spoilt():
    draw = drawn()
    told = LowResolution(2).of(randn(2, 1, 4, 4), draw)
    assert torch.equal(draw.get_state(), drawn().get_state())
    assert told.level is None


@pytest.mark.parametrize("condition", SPOILT, ids=str)
def test_at_level_0_a_picture_is_told_as_it_is(condition):
    x = randn(3, 2, 8, 8)
    plain = LowResolution(2).given(x).image
    assert torch.equal(condition.given(x).image, plain)
    small = condition.small(x)
    assert torch.equal(condition.told(small, 0.0, None).image, plain)
    assert torch.equal(condition.told(small, 0.0, randn(3, 2, 4, 4, seed=1)).image, plain)
    assert torch.equal(condition.truncated(3 * small, 3.0, 0.0).image, condition.enlarged(3 * small / 3))
    level = condition.given(x).level
    assert level is None if condition.noise == 0 else torch.equal(level, torch.zeros(3, dtype=DOUBLE))


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), VE()], ids=["cosine", "flow", "ve"])
@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_an_x_t_of_the_first_stage_is_told_as_if_noised_so(schedule, t):
    """x_t / sqrt(alpha^2 + sigma^2) is cos x0 + sin eps at the level that is told."""
    told, x0, eps = LowResolution(2, 1.0), randn(2, 1, 4, 4), randn(2, 1, 4, 4, seed=1)
    at = torch.tensor([t], dtype=DOUBLE)
    alpha, sigma = float(schedule.alpha(at)), float(schedule.sigma(at))
    made = told.truncated(alpha * x0 + sigma * eps, alpha, sigma)
    assert close(torch.tan(math.pi / 2 * made.level), torch.full((2,), sigma / alpha, dtype=DOUBLE), 1e-9)
    assert close(made.image, told.told(x0, made.level, eps).image, 1e-9)


def test_half_of_the_examples_are_blurred_by_gaussians():
    """Of a single bright pixel: log(w_0 / w_k) = k^2 / 2 std^2 along each axis, in one example out of two."""
    n, side, blur = 4000, 21, 2.0
    spot = torch.zeros(n, 1, 2 * side, 2 * side)
    spot[..., side - 1 : side + 1, side - 1 : side + 1] = 1
    seen = shrunk(LowResolution(2, 0.0, blur).of(spot, drawn()).image, side, 2)[:, 0]
    assert close(seen.sum((1, 2)), torch.ones(n), 1e-4)
    blurred = seen[:, 10, 10] < 1 - 1e-4
    assert close(seen[~blurred], spot[~blurred][:, 0, ::2, ::2].double(), 2e-4)
    across, down = seen.sum(1), seen.sum(2)
    assert close(across, down, 1e-4)
    assert close(seen, across[:, :, None] * across[:, None, :], 1e-4)
    wide = across[blurred]
    std = (2 * (wide[:, 10] / wide[:, 11]).log()) ** -0.5
    wide, std = wide[std > 0.7], std[std > 0.7]  # which reach two pixels far
    assert close((wide[:, 10] / wide[:, 12]).log(), 2 / std**2, 0.05)
    assert uniform(std - 0.7, blur - 0.7)
    share = (1 - 0.7 / blur) / 2
    assert abs(len(std) / n - share) < 5 * math.sqrt(share * (1 - share) / n)


def test_a_blur_repeats_the_border():
    level = torch.full((40, 2, 8, 8), 3.0, dtype=DOUBLE)
    assert close(LowResolution(2, 0.0, 9.0).of(level, drawn()).image, level, 1e-5)
    step = torch.cat([torch.zeros(40, 1, 8), torch.ones(40, 1, 8)], 2)
    told = LowResolution(2, 0.0, 0.5).of(step, drawn()).image  # no pixel reaches further than two
    assert torch.equal(told[..., 0], step[..., 0])
    assert close(told[..., -1], step[..., -1], 1e-6)
    assert bool(((told - LowResolution(2).given(step).image).abs() > 0.05).any())


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_any_axes_of_space_are_told_each_as_one_alone(axes):
    """Means and interpolation take the axes one by one: what is told of a product is the product of what is told."""
    told, letters = LowResolution(2), "ijk"[:axes]
    lines = [randn(1, 1, 2 * k + 4, seed=k) for k in range(axes)]
    product = f"{','.join(letters)}->{letters}"
    whole = torch.einsum(product, *(line[0, 0] for line in lines))[None, None]
    parts = torch.einsum(product, *(told.given(line).image[0, 0] for line in lines))
    assert close(told.given(whole).image[0, 0], parts)
    assert told.channels(whole.shape[1:]) == 1
    spoilt = LowResolution(2, 0.5, 0.5).of(whole, drawn())
    assert spoilt.image.shape == whole.shape
    assert spoilt.level.shape == (1,)


SMALL = torch.zeros(2, 1, 4, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowResolution(2, 1.1), r"noise in \[0, 1\].*given 1.1"),
        (lambda: LowResolution(2, -0.1), r"noise in \[0, 1\].*given -0.1"),
        (lambda: LowResolution(2, math.nan), r"noise in \[0, 1\].*given nan"),
        (lambda: LowResolution(2, 0.1, math.inf), "blur of at least 0 pixels; given inf"),
        (lambda: LowResolution(2, 0.1, -1.0), "blur of at least 0 pixels; given -1"),
        (lambda: LowResolution(2, 0.5).told(SMALL, 0.6, SMALL), "at most noise=0.5; given 0.6"),
        (lambda: LowResolution(2, 0.5).told(SMALL, -0.1, SMALL), "at least 0 and at most noise=0.5; given -0.1"),
        (lambda: LowResolution(2, 0.5).told(SMALL, torch.tensor([0.1, 0.7]), SMALL), "given 0.7"),
        (lambda: LowResolution(2).told(SMALL, 0.6, SMALL), "0, for its noise is 0; given 0.6"),
        (lambda: LowResolution(2, 0.5).told(SMALL, 0.3, None), "needs its noise; given 0.3 and none"),
        (lambda: LowResolution(2, 0.5).truncated(SMALL, 1.0, 1.5), "at most noise=0.5; given 0.6257"),
        (lambda: LowResolution(2, 0.5).given(SMALL, SMALL), "give no mask"),
        (lambda: LowResolution(2).channels((1, 4, 5, 6)), "given 4x5x6"),
        (lambda: LowResolution(2).channels((1, 4, 4, 4, 4)), "one or three axes of space"),
    ],
)
def test_what_was_not_in_training_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_largest_level_is_told_at_any_rounding():
    for noise in (0.1, 0.3, 0.7, 1.0):
        told = LowResolution(2, noise).told(SMALL, noise, SMALL)
        assert close(told.level, torch.full((2,), noise))
