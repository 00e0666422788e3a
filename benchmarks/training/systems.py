"""What is trained against the clock: ours by its recipe, and the peers with the settings of their own scripts.

Every system trains in a process of its own, `python -m benchmarks.training.systems JSON`, and leaves its averaged
weights each minute. Writing them does not count, nor do pictures on the way, nor building and reading the data.

Letters in shapes: N images, B batch.
"""

from __future__ import annotations

import contextlib
import json
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.training.clock import Clock, TimeIsUp
from benchmarks.training.stub import without_torchvision
from reverie.data.idx import Fashion
from reverie.tensor_files import read_tensors

SIDE = 28
BATCH = 100
"""Of the peers' samples."""


@dataclass(frozen=True)
class System(ABC):
    """Something that learns to make garments."""

    name: str
    settings: str
    """In words, for the page."""
    sampler: str
    """In words, for the page."""

    @abstractmethod
    def train(self, clock: Clock, seed: int) -> None:
        """Until the clock says so."""

    @abstractmethod
    def sample(self, folder: Path, weights: Path, n: int, seed: int, evaluations: int) -> np.ndarray:
        """uint8 (N, 1, 28, 28); `evaluations` of the network is what the peers' samplers are given."""

    def parameters(self) -> int:
        """Of the network, where it is known beforehand."""
        return 0


# ------------------------------------------------------------------------------------------- ours


@dataclass(frozen=True)
class Ours(System):
    """`reverie train fashion`, through the trainer."""

    overrides: tuple[str, ...] = ()

    def train(self, clock: Clock, seed: int) -> None:
        """Sheets and states are put off: they would be sampling and saving, which do not count for anyone."""
        import reverie
        from reverie.cli.compose import composed
        from reverie.runs import begin

        never = 10**9
        recipe, _ = composed(["fashion", f"train.seed={seed}", *self.overrides])
        late = [f"train.sample_every={never}", f"train.save_every={never}"]
        if recipe.train.decay == "none":  # then nothing depends on the number of steps but where it ends
            late.append("train.steps=1000000")
        recipe, _ = composed(["fashion", f"train.seed={seed}", *late, *self.overrides])
        examples = recipe.data.load()
        run = begin(clock.out / "run", recipe, examples)
        trainer = reverie.Trainer(run, examples)
        for report in trainer:
            if report.stopped is not None:  # the trainer hears signals
                raise KeyboardInterrupt
            if report.loss is None:  # before the first step: the sheet of the untrained network has been drawn
                clock.start()
            elif clock.tick(report.step, recipe.train.batch, trainer.learner.average.net.state_dict):
                break

    def sample(self, folder: Path, weights: Path, n: int, seed: int, evaluations: int) -> np.ndarray:
        """By the run's own sampler, grid and guidance, its classes in turn."""
        import reverie
        from reverie.tensor_files import fill

        run = reverie.load(folder / "run")
        fill(run.denoiser, read_tensors(weights), weights)
        return run.sample(n, seed=seed).numpy()


# ------------------------------------------------------------------------------------------ peers


def garments(side: int) -> Tensor:
    """The training images as float32 in [0, 1], (60000, 1, side, side), with black around them."""
    examples = Fashion().load()
    assert examples.held_out is not None
    items = torch.from_numpy(examples.items[: int(examples.held_out[0])]).float() / 255
    return F.pad(items, ((side - SIDE) // 2,) * 4)


def bytes_of(images: Tensor) -> np.ndarray:
    """(N, 1, side, side) in [0, 1] -> uint8 (N, 1, 28, 28), the middle."""
    edge = (images.shape[-1] - SIDE) // 2
    middle = images[..., edge : edge + SIDE, edge : edge + SIDE]
    return (middle.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


class InMemory(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """In the place of a folder of files: faster than what they have."""

    def __init__(
        self, folder: object, image_size: tuple[int, int], augment_horizontal_flip: bool, convert_image_to: object
    ) -> None:
        """As their own; nothing is mirrored, since all shoes of this set point to the left."""
        self.items = garments(image_size[0])

    def __len__(self) -> int:
        """Images."""
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor:
        """(1, side, side)."""
        return self.items[index]


@dataclass(frozen=True)
class Ddp(System):
    """denoising-diffusion-pytorch, by its own Trainer."""

    dim: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    side: int = 32

    def diffusion(self, evaluations: int | None = None) -> nn.Module:
        """Its network in its process."""
        with without_torchvision():
            from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        net = Unet(dim=self.dim, dim_mults=self.multipliers, channels=1)
        return GaussianDiffusion(net, image_size=self.side, sampling_timesteps=evaluations)

    def parameters(self) -> int:
        """Of the network."""
        return sum(p.numel() for p in self.diffusion().parameters())

    def train(self, clock: Clock, seed: int) -> None:
        """Defaults of the Trainer; its average is updated once a step, which is where we look at the clock."""
        with without_torchvision():
            from denoising_diffusion_pytorch import denoising_diffusion_pytorch as theirs
        theirs.Dataset = InMemory
        torch.manual_seed(seed)
        never = 10**9
        trainer = theirs.Trainer(
            self.diffusion(),
            str(clock.out),
            train_num_steps=never,
            save_and_sample_every=never,
            calculate_fid=False,
            results_folder=str(clock.out),
        )
        update = trainer.ema.update

        def updated() -> None:
            update()
            if clock.tick(trainer.step, trainer.batch_size, trainer.ema.ema_model.state_dict):
                raise TimeIsUp

        trainer.ema.update = updated
        clock.start()
        with contextlib.suppress(TimeIsUp):
            trainer.train()

    @torch.inference_mode()
    def sample(self, folder: Path, weights: Path, n: int, seed: int, evaluations: int) -> np.ndarray:
        """Its own DDIM."""
        diffusion = self.diffusion(evaluations)
        diffusion.load_state_dict(read_tensors(weights))
        diffusion.eval()
        torch.manual_seed(seed)
        return np.concatenate([bytes_of(diffusion.sample(batch_size=k)) for k in parts(n)])


@dataclass(frozen=True)
class Diffusers(System):
    """diffusers with the settings of its script for unconditional training: written anew, in memory."""

    channels: tuple[int, ...] = (128, 128, 256, 256, 512, 512)
    attention: int = 4
    """The level that has it."""
    layers: int = 2
    side: int = 32

    def net(self) -> nn.Module:
        """Its network."""
        from diffusers import UNet2DModel

        levels = len(self.channels)
        down = tuple("AttnDownBlock2D" if i == self.attention else "DownBlock2D" for i in range(levels))
        up = tuple("AttnUpBlock2D" if i == self.attention else "UpBlock2D" for i in reversed(range(levels)))
        return UNet2DModel(
            sample_size=self.side,
            in_channels=1,
            out_channels=1,
            layers_per_block=self.layers,
            block_out_channels=self.channels,
            down_block_types=down,
            up_block_types=up,
        )

    def parameters(self) -> int:
        """Of the network."""
        return sum(p.numel() for p in self.net().parameters())

    def train(self, clock: Clock, seed: int) -> None:
        """Batches of 16, AdamW at 1e-4 after 500 steps of warming up, an average of power 3/4, clipped at 1."""
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        torch.manual_seed(seed)
        net, data, batch = self.net().train(), 2 * garments(self.side) - 1, 16
        chain = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon")
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        total = 100 * -(-len(data) // batch)  # its hundred epochs
        rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=total)
        average = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        names = [name for name, _ in net.named_parameters()]
        assert not list(net.buffers())
        clock.start()
        for step in range(total):
            if step * batch % len(data) < batch:
                order = torch.randperm(len(data))
            x0 = data[order[torch.arange(step * batch, (step + 1) * batch) % len(data)]]
            noise, t = torch.randn_like(x0), torch.randint(0, 1000, (batch,))
            loss = F.mse_loss(net(chain.add_noise(x0, noise, t), t).sample.float(), noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            average.step(net.parameters())
            if clock.tick(step + 1, batch, lambda: dict(zip(names, average.shadow_params, strict=True))):
                return

    @torch.inference_mode()
    def sample(self, folder: Path, weights: Path, n: int, seed: int, evaluations: int) -> np.ndarray:
        """Its DDIM, from the last knot of the chain, clipped as its scheduler for training is."""
        from diffusers import DDIMPipeline, DDIMScheduler

        net = self.net().eval()
        net.load_state_dict(read_tensors(weights))
        chain = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", timestep_spacing="trailing")
        pipeline = DDIMPipeline(net, chain)
        pipeline.set_progress_bar_config(disable=True)
        draw = torch.Generator().manual_seed(seed)

        def drawn(k: int) -> Tensor:
            found = pipeline(k, draw, num_inference_steps=evaluations, output_type="np").images
            return torch.from_numpy(found).permute(0, 3, 1, 2)

        return np.concatenate([bytes_of(drawn(k)) for k in parts(n)])


def parts(n: int) -> list[int]:
    """n as batches."""
    return [min(BATCH, n - first) for first in range(0, n, BATCH)]


SYSTEMS = {
    s.name: s
    for s in (
        Ours(
            "reverie",
            "`reverie train fashion`: its recipe as it is, by class",
            "its own default: the recipe's sampler, grid and guidance, classes in turn",
        ),
        Ours(
            "reverie, without labels",
            "the same with `labels=false`",
            "its own default, without guidance",
            ("labels=false", "sample.guidance=1"),
        ),
        Ddp(
            "denoising-diffusion-pytorch",
            "its `Trainer`'s defaults, `Unet(dim=64)` with four levels as in its README, images padded to 32x32",
            "its DDIM",
        ),
        Diffusers(
            "diffusers",
            "settings of its script for unconditional training with the average of weights, images padded to 32x32",
            "its DDIM, clipped",
        ),
        Ddp(
            "denoising-diffusion-pytorch, small",
            "the same with `Unet(dim=32, dim_mults=(1, 2, 2))`, at 28x28",
            "its DDIM",
            dim=32,
            multipliers=(1, 2, 2),
            side=28,
        ),
        Diffusers(
            "diffusers, small",
            "the same with one layer a block and channels 32, 64, 64, at 28x28",
            "its DDIM, clipped",
            channels=(32, 64, 64),
            attention=2,
            layers=1,
            side=28,
        ),
    )
}
"""The small ones are not what their projects ship: they are what the budget would make one choose."""


def main() -> None:
    """Train the system that the first argument names, as JSON."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    clock = Clock(Path(told["out"]), told["minutes"], told["every"])
    SYSTEMS[told["system"]].train(clock, told["seed"])


if __name__ == "__main__":
    main()
