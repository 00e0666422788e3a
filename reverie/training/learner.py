"""What learns in a run, and what its steps go on from: weights, averages, memory, optimizer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from reverie.runs import Run, new_model
from reverie.stages import Bringing
from reverie.tensor_files import fill
from reverie.tensors import global_randomness, non_finite
from reverie.training import state
from reverie.training.batches import INITIAL
from reverie.training.ema import PowerAverages, ema_decay, ema_update
from reverie.training.objective import Objective, memory_tensors, restore_memory
from reverie.training.optim import optimizer, settle
from reverie.training.speed import lay_out
from reverie.training.start import begin_with

if TYPE_CHECKING:
    from accelerate import Accelerator


class Learner:
    """The network of a run as it is trained, its averages, what the loss remembers, and the optimizer.

    Everything random in it is a function of the run's seed.

    Args:
        run: whose recipe says what they are.
        device: to train on.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        train, self.loss = run.recipe.train, run.loss
        self._path, self._decay = run.path, train.ema
        self.denoiser = new_model(run.recipe, run.facts).to(device).train()
        lay_out(self.denoiser.net, train, device)
        self.average = copy.deepcopy(self.denoiser).eval().requires_grad_(False)
        self.powers = PowerAverages(self.denoiser.net, train.ema_lengths)
        with global_randomness(train.seed, INITIAL, 1):
            memory = self.loss.memory(Bringing(run))
        self.memory = None if memory is None else memory.to(device).train()
        self.objective: torch.nn.Module = Objective(self.denoiser, self.loss, self.memory)
        self.optimizer: torch.optim.Optimizer = optimizer(self.objective, train, device)
        self.denoiser.net.checkpointing = train.checkpointing  # type: ignore[assignment]  # of a `Backbone`

    def prepare(self, accelerator: Accelerator) -> None:
        """Let accelerate wrap what takes part in a step, once all is where it should be."""
        self.objective, self.optimizer = accelerator.prepare(self.objective, self.optimizer)

    def begin_with(self, source: str) -> None:
        """Take the weights of another run, before the first step.

        Raises:
            ValueError: it is no run, or one of another network.
        """
        begin_with(self.denoiser, source)
        self.average.load_state_dict(self.denoiser.state_dict())
        self.powers = PowerAverages(self.denoiser.net, list(self.powers.lengths))

    def step(self) -> None:
        """Let the optimizer take its step, forget the gradient, and `constrain` the network."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.denoiser.net.constrain()  # type: ignore[operator]  # of a `Backbone`; before anything averages

    def step_averages(self, step: int) -> None:
        """Take in the weights after step number `step`, from 0."""
        ema_update(self.average, self.denoiser, ema_decay(step, self._decay))
        self.powers.update(self.denoiser.net, step + 1)

    def bad_weight(self) -> str:
        """The first weight that is not finite, in words; empty where all are."""
        learned = () if self.memory is None else self.memory.named_parameters(prefix="loss")
        nets = (self.denoiser.net, self.average.net)
        every = [(name, t) for net in nets for name, t in net.state_dict().items() if t.is_floating_point()]
        for name, p in [*every, *learned]:
            if found := non_finite(p.detach()):
                return f"{name} ({found})"
        return ""

    def files(self) -> dict[str, state.Tensors]:
        """The tensors of each file of a saved state."""
        net, bare = self.denoiser.net, getattr(self.optimizer, "optimizer", self.optimizer)
        files: dict[str, state.Tensors] = {
            state.NETWORK: net.state_dict(),
            state.AVERAGE: self.average.net.state_dict(),
            state.OPTIMIZER: state.optimizer_tensors(net, bare),
        }
        if powers := self.powers.tensors():
            files[state.POWER] = powers
        if self.memory is not None:
            files[state.LOSS] = memory_tensors(self.memory, bare)
        return files

    def restore(self, saved: state.Saved) -> list[float]:
        """Put back what `files` gave; the lengths of power-function averages that are not in it.

        Raises:
            ValueError: it is another network's or another loss's.
        """
        fill(self.denoiser, saved.files[state.NETWORK], self._path)
        fill(self.average, saved.files[state.AVERAGE], self._path)
        state.restore_optimizer(self.denoiser.net, self.optimizer, saved.files[state.OPTIMIZER])
        missing = self.powers.restore(self.denoiser.net, saved.files.get(state.POWER, {}))
        if self.memory is not None:
            restore_memory(self.memory, self.optimizer, saved.files.get(state.LOSS, {}))
        settle(self.optimizer)
        return missing
