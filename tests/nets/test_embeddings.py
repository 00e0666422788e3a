"""Sines and cosines of a number, and labels that are known."""

import math

import pytest
import torch

from reverie.conditioning import Cond, Conditions
from reverie.nets import check_labels, sinusoidal
from reverie.nets.embeddings import Conditioning, Fourier


@pytest.mark.parametrize("width", [2, 6, 64])
@pytest.mark.parametrize("max_period", [100.0, 10000.0])
def test_sinusoidal_is_its_formula(width, max_period):
    labels = [-5.0, -0.3, 0.0, 1.0, 17.5, 999.0]
    got = sinusoidal(torch.tensor(labels, dtype=torch.float64), width, max_period)
    for row, label in zip(got, labels, strict=True):
        angles = [label / max_period ** (2 * i / width) for i in range(width // 2)]
        expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_sinusoidal_turns_with_its_label():
    """A shift of the label is a rotation that does not depend on it (Vaswani et al., 2017, section 3.5)."""
    a, b, shift = (sinusoidal(torch.tensor(v, dtype=torch.float64), 32) for v in (3.0, 7.5, 4.5))
    (sin_a, cos_a), (sin_s, cos_s) = a.chunk(2), shift.chunk(2)
    torch.testing.assert_close(b, torch.cat([sin_a * cos_s + cos_a * sin_s, cos_a * cos_s - sin_a * sin_s]))


def test_sinusoidal_in_float32_keeps_a_thousand_steps():
    label = torch.arange(1000)
    rough, exact = sinusoidal(label, 64), sinusoidal(label.double(), 64)
    assert (rough.dtype, exact.dtype) == (torch.float32, torch.float64)
    assert (rough - exact).abs().max() < 2e-4


@pytest.mark.parametrize("width", [0, 1, 7])
def test_an_odd_width_is_refused(width):
    with pytest.raises(ValueError, match=f"even and at least 2, given {width}"):
        sinusoidal(torch.zeros(1), width)


@pytest.mark.parametrize(
    ("label", "classes", "said"),
    [
        (torch.tensor([0, 3]), 3, r"0\.\.2 for 3 classes, given 3"),
        (torch.tensor([-1, 7, 0]), 3, "given -1, 7"),
        (torch.arange(10, 20), 3, r"given 10, 11, 12, 13, 14, \.\.\."),
        (torch.tensor([0.0]), 3, "integers"),
        (torch.tensor([True]), 3, "integers"),
        (torch.tensor([0]), 0, "without labels"),
    ],
)
def test_unknown_labels_are_refused(label, classes, said):
    with pytest.raises(ValueError, match=said):
        check_labels(label, classes)


def test_known_labels_pass():
    check_labels(torch.tensor([0, 1, 2]), 3)
    check_labels(torch.tensor([], dtype=torch.int64), 3)


def test_labels_that_are_no_integers_are_refused_where_values_cannot_be_read():
    """Reading them would stall a device; their dtype costs nothing. As integers 1.7 and 10 would be other classes."""
    told = Conditioning(8, Conditions(classes=10)).to("meta")
    label = torch.zeros(3, device="meta")
    with pytest.raises(ValueError, match=r"integers in 0\.\.9, given torch.float32"):
        told(label, Cond(label=torch.zeros(3, device="meta")))
    assert told(label, Cond(label=torch.zeros(3, dtype=torch.int32, device="meta"))).e.shape == (3, 8)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_random_frequencies_are_never_rounded(half):
    """At frequency 48 and label 6 a phase is 1,800: bfloat16 would be off by some radians."""
    torch.manual_seed(0)
    waves, label = Fourier(64, 16.0), torch.linspace(-6, 6, 25)
    before, exact = waves(label), waves.frequencies.clone()
    waves.to(half)
    assert torch.equal(waves.frequencies, exact)
    assert torch.equal(waves(label), before)
    assert torch.equal(waves.double().frequencies, exact.double())
    assert waves.to("meta").frequencies.device.type == "meta"
    assert waves.to(half).frequencies.dtype == torch.float32
