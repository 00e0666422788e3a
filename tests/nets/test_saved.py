"""Going through alike blocks once gives what going through each gives; what is alike differs by numbers alone."""

import pytest
import torch
from torch import nn

from reverie.conditioning import Conditions
from reverie.nets import DiTConfig, MLPConfig, RefineNetConfig, UNetConfig, WaveNetConfig
from reverie.nets.cost import cost
from reverie.nets.saved import kind_of

TOLD = Conditions(classes=4)
REPEATING = {
    "mlp": (MLPConfig(width=32, depth=3), (5,), TOLD),
    "unet": (UNetConfig(width=16, multipliers=(1, 2), attention=8, head_width=8, dropout=0.1), (3, 16, 16), TOLD),
    "unet of magnitude": (UNetConfig(width=16, multipliers=(1, 2), attention=8, magnitude=True), (3, 16, 16), TOLD),
    "dit": (DiTConfig(width=32, depth=5, heads=4, long_skips=True), (3, 16, 12), Conditions(classes=4, tokens=6)),
    "dit with rotations": (DiTConfig(width=32, depth=4, heads=4, positions="rotary"), (3, 16, 12), TOLD),
    "dit of frames": (DiTConfig(width=32, depth=6, heads=4, factorised=True), (3, 4, 8, 12), TOLD),
    "refinenet": (RefineNetConfig(width=16), (3, 16, 16), TOLD),
    "wavenet": (WaveNetConfig(width=16, depth=6, cycle=3), (1, 200), TOLD),
}


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("repeating", REPEATING)
def test_blocks_that_are_alike_count_as_if_each_were_gone_through(repeating, precision, monkeypatch):
    config, shape, told = REPEATING[repeating]
    with monkeypatch.context() as each:
        for module in ("cost", "saved"):
            each.setattr(f"reverie.nets.{module}.kind_of", lambda block, told: object())
        wanted = cost.__wrapped__(config, shape, told, precision=precision)
    assert cost.__wrapped__(config, shape, told, precision=precision) == wanted


def test_blocks_that_differ_are_not_alike():
    """By a setting, by the size of a weight, by what they are given, or by who gives the same twice."""
    h, other = torch.zeros(2, 8), torch.zeros(2, 8)
    one = kind_of(nn.Linear(8, 8), (h, None))
    assert kind_of(nn.Linear(8, 8), (other, None)) == one
    assert kind_of(nn.Linear(8, 9), (h, None)) != one
    assert kind_of(nn.Linear(8, 8), (h[:1], None)) != one
    assert kind_of(nn.Linear(8, 8), (h.double(), None)) != one
    assert kind_of(nn.Linear(8, 8).eval(), (h, None)) != one
    assert kind_of(nn.Sequential(nn.Linear(8, 8)), (h, None)) != one
    assert kind_of(nn.Linear(8, 8), (h, h)) != kind_of(nn.Linear(8, 8), (h, other))
    assert kind_of(nn.Dropout(0.1), (h,)) != kind_of(nn.Dropout(0.2), (h,))
