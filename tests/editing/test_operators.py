"""Linear operators against their own dense matrix: adjoint, pseudo-inverse, singular values."""

import pytest
import torch
from helpers import DOUBLE, close, defaults, named, randn

from reverie.config import from_data
from reverie.editing import Blur, Chain, Downsample, Grey, Mask, Matrix, Operator
from reverie.image_conditions.grey import luminance

SHAPE = (3, 4, 6)
CASES = {
    "mask": Mask((randn(1, 4, 6, seed=1) > 0).double()),
    "pixels": Mask((randn(*SHAPE, seed=2) > 0).double()),
    "downsample": Downsample(2),
    "grey": Grey(),
    "blur": Blur(0.7),
    "chain": Chain((Blur(0.6), Downsample(2), Grey())),
    "wide": Matrix(randn(10, 72, seed=3), SHAPE),
    "tall": Matrix(randn(80, 72, seed=4), SHAPE),
    "of_low_rank": Matrix(randn(20, 5, seed=5) @ randn(5, 72, seed=6), SHAPE),
}


def dense(h: Operator) -> torch.Tensor:
    """H (m, n)."""
    return h.forward(torch.eye(72, dtype=DOUBLE).reshape(72, *SHAPE)).flatten(1).T


@pytest.mark.parametrize("h", **named(**CASES))
def test_an_operator_is_its_matrix(h):
    x, matrix = randn(2, *SHAPE, seed=7), dense(h)
    y, inverse = h.forward(x), torch.linalg.pinv(matrix, rtol=1e-8)
    assert h.shape(y.shape[1:]) == SHAPE
    assert close(y.flatten(1), x.flatten(1) @ matrix.T)
    z = randn(*y.shape, seed=8)
    assert close(h.transpose(z).flatten(1), z.flatten(1) @ matrix)
    assert close(h.pinv(z).flatten(1), z.flatten(1) @ inverse.T, 1e-9)
    assert close(h.forward(h.pinv(y)), y, 1e-9)
    assert close(h.pinv(h.forward(h.pinv(z))), h.pinv(z), 1e-9)


@pytest.mark.parametrize("h", **named(**CASES))
def test_singular_values_and_vectors_are_those_of_the_matrix(h):
    x, s = randn(2, *SHAPE, seed=9), h.spectrum(torch.empty(0, *SHAPE, dtype=DOUBLE))
    whole = torch.zeros(72, dtype=DOUBLE)
    found = torch.linalg.svdvals(dense(h))[:72]
    whole[: len(found)] = found
    assert close(s.values.sort(descending=True).values, whole, 1e-9)
    z = s.of(x)
    assert close(s.back(z), x)
    assert close(z.square().sum(), x.square().sum())
    assert close(s.measured(h.forward(x)), s.values * z)
    y = randn(*h.forward(x).shape, seed=10)
    assert close(s.back(s.values * s.measured(y)), h.transpose(y))


def test_what_each_operator_sees():
    x = randn(2, *SHAPE)
    assert close(Downsample(2).forward(x)[0, 1, 0, 2], x[0, 1, :2, 4:].mean())
    assert close(Downsample(2).pinv(Downsample(2).forward(x))[0, 1, :2, 4:], x[0, 1, :2, 4:].mean().expand(2, 2))
    assert close(Grey().forward(x), luminance(x))
    assert close(Blur(0.7).forward(torch.ones_like(x)), torch.ones_like(x))
    ratio = torch.exp(torch.tensor(-0.5 / 0.9**2))
    assert close(Blur(0.9).forward(torch.eye(9)[4][None, None, None].expand(1, 1, 4, 9).double())[0, 0, 0, 5]
                 / Blur(0.9).forward(torch.eye(9)[4][None, None, None].expand(1, 1, 4, 9).double())[0, 0, 0, 4],
                 ratio, 1e-6)  # fmt: skip
    one_by_one = Grey().forward(Downsample(2).forward(Blur(0.6).forward(x)))
    assert close(CASES["chain"].forward(x), one_by_one)


def test_values_too_small_for_float32_count_as_nothing_measured():
    s = Blur(1.8).spectrum(torch.empty(0, 1, 16, 16))
    assert int((s.values == 0).sum()) > 0
    assert float(s.inverse().max()) < 1.01e4


def test_operators_of_settings_alone_are_read_by_name():
    assert set(defaults(Operator)) == {"blur", "downsample", "grey"}
    assert from_data(Operator, {"kind": "downsample", "factor": 2}, "operator") == Downsample(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Downsample(0), "factor of at least 1"),
        (lambda: Downsample(4).forward(randn(1, *SHAPE)), "sides that it divides; given 4x6"),
        (lambda: Downsample().forward(randn(1, 6)), "acts on images"),
        (lambda: Grey().forward(randn(1, 2, 4, 4)), "3 colours; given 2"),
        (lambda: Blur(0.0), "sigma above 0"),
        (lambda: Blur(3.0).forward(randn(1, *SHAPE)), "reaches 12 pixels"),
        (lambda: Chain(()), "none"),
        (lambda: Chain((CASES["mask"],)), "given Mask"),
        (lambda: Mask(torch.tensor([0.5])), "1 where the picture is known"),
        (lambda: CASES["mask"].forward(randn(1, 3, 4, 5)), "does not fit examples"),
        (lambda: Matrix(randn(2, 3), (4,)), "acts on n numbers"),
        (lambda: CASES["wide"].pinv(randn(1, 9)), "measurements have the shape"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
