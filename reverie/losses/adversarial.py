"""A judge of whether patches of an example are real, learned beside what makes them.

Letters in shapes: B batch, C channels, `...` the axes of space of one example.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reverie.nets.base import spatial
from reverie.nets.layers import CONVOLUTIONS, GroupNorm, conv, divided

WIDTH = 64
"""Channels of the first layer; each further one has twice as many, up to eight times as many."""
HALVINGS = 3
"""At the most."""
SMALLEST = 8
"""A side is halved where it has at least so many pixels, so that patches are smaller than the example."""
SLOPE = 0.2
"""Of the leaky ReLU."""


class Critic(nn.Module):
    """How real each patch of an example looks: (B, C, ...) -> (B, 1, ...) (Isola et al., 2017, section 3.2).

        leaky(conv_2(x)), leaky(norm(conv_2(h))), ..., leaky(norm(conv(h))), conv(h)

    conv_2 has a kernel of 4 and halves each side of at least `SMALLEST` pixels, `HALVINGS` times at the most; conv has
    a kernel of 3. That is 3 halvings of 64 pixels, 2 of 32, and 1 of 16 or 8. Norms are over groups of channels of
    one example, where theirs are over the batch: no example is judged by its neighbours.

    Raises:
        ValueError: the examples have no axis of space, or more than three.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """`shape` is (C, ...), of one example; others of as many axes may come in, if not much smaller."""
        super().__init__()
        if not spatial(shape):
            raise ValueError(
                f"a patch discriminator needs examples (C, ...) with one to three axes of space or time; these have "
                f"shape {tuple(shape)}: leave loss.adversarial at 0"
            )
        rank, sides, width = len(shape) - 1, shape[1:], WIDTH
        layers: list[nn.Module] = [_halving(sides, shape[0], width), nn.LeakyReLU(SLOPE)]
        for _ in range(HALVINGS - 1):
            sides = tuple(_halved(n) for n in sides)
            if max(sides) < 2 * SMALLEST:
                break
            layers += [_halving(sides, width, 2 * width), _norm(2 * width), nn.LeakyReLU(SLOPE)]
            width *= 2
        layers += [conv(rank, width, 2 * width), _norm(2 * width), nn.LeakyReLU(SLOPE), conv(rank, 2 * width, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """`x` is (B, C, ...); the result has its dtype."""
        return self.layers(x).to(x.dtype)


def _halved(side: int) -> int:
    return side // 2 if side >= SMALLEST else side


def _halving(sides: tuple[int, ...], channels: int, out: int) -> nn.Module:
    halve = [n >= SMALLEST for n in sides]
    kernel, stride = tuple(4 if h else 3 for h in halve), tuple(2 if h else 1 for h in halve)
    return CONVOLUTIONS[len(sides)](channels, out, kernel, stride, padding=1)  # type: ignore[arg-type]  # as many axes


def _norm(channels: int) -> nn.Module:
    return GroupNorm(divided(channels, 32), channels)


def generator_term(critic: nn.Module, made: Tensor) -> Tensor:
    """(B,), minus the mean judgement of `made` (B, C, ...): its gradient reaches what made them, and no critic."""
    frozen = {name: p.detach() for name, p in critic.named_parameters()}
    judged: Tensor = functional_call(critic, frozen, (made,))
    return -judged.flatten(1).mean(1)


def critic_term(critic: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    """(B,), the hinge loss of a critic (Lim & Ye, 2017; Esser et al., 2021): its gradient reaches the critic alone.

    (mean ReLU(1 - D(real)) + mean ReLU(1 + D(made))) / 2
    """
    right, wrong = critic(torch.cat([real, made]).detach()).flatten(1).chunk(2)
    return (F.relu(1 - right).mean(1) + F.relu(1 + wrong).mean(1)) / 2


def untouched(critic: nn.Module) -> Tensor:
    """(), 0, with a gradient of 0 for every parameter: data parallel waits for all of them."""
    return 0 * sum((p.sum() for p in critic.parameters()), start=next(critic.parameters()).new_zeros(()))
