"""Sines and cosines, labels, and the vector they make."""

import math

import pytest
import torch

from reverie.conditioning import Cond
from reverie.nets import check_labels, sinusoidal
from reverie.nets.embeddings import Conditioning, grid_positions


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


def test_positions_name_row_and_column():
    p = grid_positions(3, 5, 8).reshape(3, 5, 8)
    assert torch.equal(p[:, :1, :4].expand(3, 5, 4), p[..., :4])  # the row's half is the same in every column
    assert torch.equal(p[:1, :, 4:].expand(3, 5, 4), p[..., 4:])
    two, four = (sinusoidal(torch.tensor(v), 4) for v in (2, 4))
    torch.testing.assert_close(p[2, 4], torch.cat([two, four]))
    assert torch.cdist(p.flatten(0, 1), p.flatten(0, 1)).fill_diagonal_(1).min() > 0.1
    with pytest.raises(ValueError, match="multiple of 4"):
        grid_positions(2, 2, 6)


def test_classes_read_their_row_and_none_the_last():
    torch.manual_seed(0)
    module, label, y = Conditioning(8, 3).double(), torch.full((4,), 2.5), torch.tensor([0, 1, 2, 2])
    with torch.no_grad():
        time = module.time_out(torch.nn.functional.silu(module.time_in(sinusoidal(label, 8).double())))
        drop = torch.tensor([False, False, False, True])
        rows = module.table.weight[torch.tensor([0, 1, 2, 3])]
        expected = torch.nn.functional.silu(time + rows)
        torch.testing.assert_close(module(label, Cond(label=y, drop=drop)), expected)
        assert torch.equal(module(label, None)[0], module(label, Cond(label=y, drop=drop))[3])


def test_dropped_examples_may_carry_any_label():
    module, label = Conditioning(8, 3), torch.zeros(2)
    cond = Cond(label=torch.tensor([-1, 99]), drop=torch.tensor([True, True]))
    assert torch.equal(module(label, cond), module(label, None))


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
