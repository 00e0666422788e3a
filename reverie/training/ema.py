"""Moving averages of the weights: the exponential one, which is the model, and power-function ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from reverie.training.profiles import exponent


def ema_decay(step: int, decay: float) -> float:
    """min(decay, (1 + step) / (10 + step)): a short memory while little has been learned."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def ema_update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average = decay average + (1 - decay) model, for every parameter; buffers are copied."""
    ours = [p.detach() for p in average.parameters()]
    theirs = [p.detach() for p in model.parameters()]
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for a, b in zip(average.buffers(), model.buffers(), strict=True):
        a.copy_(b)


def power_decay(step: int, gamma: float) -> float:
    """beta(n) = (1 - 1/n)^(gamma + 1) for step n = 1, 2, ... (Karras et al., 2024, section 3.1)."""
    return (1 - 1 / step) ** (gamma + 1)


class PowerAverages:
    """Power-function averages of a network's parameters, one for each relative length.

        average = beta(n) average + (1 - beta(n)) w_n

    after step n = 1, 2, ...; beta(1) = 0. An average that begins later takes the weights for what
    they had been all along.

    Args:
        net: whose parameters are averaged.
        lengths: the relative lengths.

    Raises:
        ValueError: a length out of range.
    """

    def __init__(self, net: nn.Module, lengths: Iterable[float]) -> None:
        self._gammas = {length: exponent(length) for length in lengths}
        self._averages = {length: {name: p.clone() for name, p in parameters(net).items()} for length in self._gammas}

    @property
    def lengths(self) -> tuple[float, ...]:
        """Those asked for."""
        return tuple(self._gammas)

    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step number `step`, from 1."""
        theirs = list(parameters(net).values())
        for length, ours in self._averages.items():
            torch._foreach_lerp_(list(ours.values()), theirs, 1 - power_decay(step, self._gammas[length]))

    def of(self, net: nn.Module) -> dict[float, dict[str, Tensor]]:
        """For each length the state of `net` with its parameters averaged."""
        return {length: {**net.state_dict(), **averages} for length, averages in self._averages.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The averages as `<length>/<parameter>`."""
        return {f"{length}/{name}": t for length, ours in self._averages.items() for name, t in ours.items()}

    def restore(self, net: nn.Module, tensors: Mapping[str, Tensor]) -> list[float]:
        """Put back what `tensors` gave; the lengths that are not in it, which begin with the weights of `net`."""
        missing: list[float] = []
        for length, ours in self._averages.items():
            if all(f"{length}/{name}" in tensors for name in ours):
                found = {name: tensors[f"{length}/{name}"] for name in ours}
            else:
                missing, found = [*missing, length], parameters(net)
            for name, t in ours.items():
                t.copy_(found[name])
        return missing


def parameters(net: nn.Module) -> dict[str, Tensor]:
    """The parameters of a network by every name they go by, without their gradients."""
    return {name: p.detach() for name, p in net.named_parameters(remove_duplicate=False)}
