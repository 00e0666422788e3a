import math

import pytest
import torch
from helpers import DOUBLE, cases, close, named

from reverie.losses import Huber, Penalty, PseudoHuber, Squared

E = torch.tensor([0.0, 1e-9, 0.003, 0.3, 0.999, 1.0, 1.001, 7.0, 300.0, 1e6], dtype=DOUBLE)
ROBUST = named(huber=Huber, pseudo_huber=PseudoHuber)


@pytest.mark.parametrize("penalty", **cases(Penalty))
def test_a_penalty_is_even_and_0_at_0_grows_and_is_the_square_of_a_small_error(penalty):
    assert torch.equal(penalty(-E), penalty(E))
    assert penalty(E)[0] == 0
    assert (penalty(E).diff() > 0).all()
    small = E[1:3] / 10
    assert close(penalty(small) / small**2, torch.ones(2), 1e-6)


@pytest.mark.parametrize("penalty", **cases(Penalty))
def test_a_penalty_never_counts_more_than_the_square(penalty):
    assert (penalty(E) <= E**2 * (1 + 1e-12)).all()


@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("kind", **ROBUST)
def test_far_out_a_robust_penalty_grows_by_two_delta_an_error(kind, delta):
    e = torch.tensor([1e4, 1e7], dtype=DOUBLE) * delta
    slope = (kind(delta)(2 * e) - kind(delta)(e)) / e
    assert close(slope / (2 * delta), torch.ones(2), 1e-6)


@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("kind", **ROBUST)
def test_a_wide_robust_penalty_is_the_square_and_delta_is_its_unit(kind, delta):
    assert close(kind(1e9)(E[:8]), Squared()(E[:8]), 1e-12)
    assert close(kind(delta)(delta * E[:8]), delta**2 * kind(1.0)(E[:8]), 1e-12)


@pytest.mark.parametrize("delta", [0.2, 1.0])
def test_the_formulas_are_as_published(delta):
    e = torch.linspace(-5, 5, 1001, dtype=DOUBLE)
    half_square = torch.where(e.abs() <= delta, 0.5 * e**2, delta * (e.abs() - 0.5 * delta))  # Huber (1964)
    assert close(Huber(delta)(e), 2 * half_square)
    charbonnier = delta**2 * ((1 + (e / delta) ** 2).sqrt() - 1)
    assert close(PseudoHuber(delta)(e), 2 * charbonnier, 1e-13)


@pytest.mark.parametrize("delta", [0.2, 1.0])
@pytest.mark.parametrize("kind", **named(squared=lambda delta: Squared(), huber=Huber, pseudo_huber=PseudoHuber))
def test_the_derivative_is_continuous_and_that_of_the_value(kind, delta):
    e = torch.cat([torch.linspace(-4, 4, 4001, dtype=DOUBLE), torch.tensor([delta, -delta, 0.0], dtype=DOUBLE)])
    leaf = e.clone().requires_grad_()
    (slope,) = torch.autograd.grad(kind(delta)(leaf).sum(), leaf)
    h = 1e-6
    assert close(slope, (kind(delta)(e + h) - kind(delta)(e - h)) / (2 * h), 1e-5)
    # second derivatives are at most 2: no jump between neighbours
    assert slope[:4001].diff().max() <= 2 * 0.002 + 1e-12
    assert (slope[:4001].diff() >= -1e-12).all()
    assert slope[-1] == 0


def test_a_tiny_error_keeps_its_digits():
    e = torch.tensor([1e-9], dtype=DOUBLE)
    assert close(PseudoHuber(1.0)(e) / e**2, torch.ones(1), 1e-12)
    assert float(PseudoHuber(1.0)(torch.tensor(1e-4))) == pytest.approx(1e-8, rel=1e-5)


@pytest.mark.parametrize("kind", **ROBUST)
@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan])
def test_settings_that_make_no_penalty_are_refused(kind, delta):
    with pytest.raises(ValueError, match="needs delta > 0"):
        kind(delta)
