"""What a network is told of images: shapes, independence of rows, closed forms."""

import pytest
import torch
from helpers import DOUBLE, cases, close, randn

from reverie.image_conditions import Edges, Grey, ImageCondition, LowResolution, Masked
from reverie.image_conditions.grey import LUMA, luminance


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("condition", **cases(ImageCondition))
def test_an_image_is_told_row_by_row_and_again_for_the_same_draws(condition):
    x = randn(6, 3, 8, 12).float()
    told = condition.of(x, drawn())
    assert told.image.shape == (6, condition.channels((3, 8, 12)), 8, 12)
    assert told.image.dtype == x.dtype
    assert (told.level is None) == (not condition.levels)
    assert torch.equal(condition.of(x, drawn()).image, told.image)
    other = torch.cat([randn(1, 3, 8, 12, seed=5).float(), x[1:]])
    assert torch.equal(condition.of(other, drawn()).image[1:], told.image[1:])
    with pytest.raises(ValueError, match="is made of images"):
        condition.channels((5,))


def test_a_mask_hides_and_says_so():
    x = randn(400, 3, 8, 8) + 5
    told = Masked().of(x, drawn()).image
    known = told[:, 3:] > 0
    assert set(told[:, 3:].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(told[:, :3], torch.where(known, x, 0.0))
    shares = known.double().mean((1, 2, 3))
    everything = int((shares == 0).sum())  # binomial, 400 x 0.1 = 40 +- 6; beyond 6 of these one time in 10^8
    assert 4 <= everything <= 76
    for kind, name in enumerate(("rectangles", "strokes", "halves")):
        masks = Masked(**{n: float(n == name) for n in ("rectangles", "strokes", "halves")}).masks(50, 16, 16, drawn())
        unknown = 1 - masks.double()
        assert int((unknown.sum((1, 2, 3)) == 0).sum()) <= 5  # a stroke may be too small for a pixel's middle
        box = unknown.amax(2, keepdim=True) * unknown.amax(3, keepdim=True)
        if kind != 1:  # a rectangle fills its box
            assert torch.equal(box, unknown)
        if kind == 2:
            assert bool((unknown.mean((1, 2, 3)) == 0.5).all())
            assert len({m.numpy().tobytes() for m in masks}) == 4


def test_a_users_mask_is_told_as_in_training():
    x, mask = randn(2, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    told = Masked().given(x, mask).image
    assert torch.equal(told[:, :3, :, :2], x[..., :2])
    assert not told[:, :3, :, 2:].any()
    assert torch.equal(told[:, 3:], mask.expand(2, 1, 4, 4).double())
    with pytest.raises(ValueError, match="needs a mask"):
        Masked().given(x)
    with pytest.raises(ValueError, match="give no mask"):
        Edges().given(x, mask)
    assert torch.equal(Edges().given(x).image, Edges().of(x, drawn()).image)


def test_low_resolution_knows_means_of_squares_alone():
    x, told = randn(1, 3, 8, 8), LowResolution(4)
    same = x + torch.cat([torch.ones(4, 4), -torch.ones(4, 4)]).repeat(1, 2) * torch.tensor([[1.0, -1.0] * 4])
    assert close(told.of(same.double(), drawn()).image, told.of(x, drawn()).image)
    assert close(told.of(torch.full((1, 1, 8, 8), 3.0, dtype=DOUBLE), drawn()).image, torch.full((1, 1, 8, 8), 3.0))
    assert close(told.enlarged(torch.nn.functional.avg_pool2d(x, 4)), told.given(x).image)


def test_edges_are_the_slope_and_grey_is_luminance():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    plane = (2 * x - 1.5 * y).double().expand(1, 3, 5, 6)
    assert close(Edges().of(plane, drawn()).image[0, 0, 1:-1, 1:-1], torch.full((3, 4), 2.5))
    colours = randn(2, 3, 4, 4)
    assert close(Grey().of(colours, drawn()).image[:, 0], sum(w * colours[:, i] for i, w in enumerate(LUMA)))
    assert close(luminance(colours[:, :2])[:, 0], colours[:, :2].mean(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Masked(rectangles=-0.1), "shares of masks"),
        (lambda: Masked(0.5, 0.5, 0.5), "shares of masks"),
        (lambda: LowResolution(1), "factor of at least 2"),
        (lambda: LowResolution(3).of(randn(1, 3, 8, 8), drawn()), "given 8x8"),
        (lambda: Grey().channels((1, 8, 8)), "3 colours; given 1"),
    ],
)
def test_what_cannot_be_told_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
