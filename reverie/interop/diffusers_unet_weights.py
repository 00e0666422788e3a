"""The weights of diffusers' `UNet2DModel` under the names of our `UNet`.

Letters in shapes: C channels, E width of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.nets.unet import UNetConfig

OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def current(name: str) -> str:
    """The name of a weight as diffusers has it now; in old files parts of attention have others."""
    parts = name.split(".")
    if "attentions" in parts and parts[-2] in OLD_NAMES:
        parts[-2] = OLD_NAMES[parts[-2]]
    return ".".join(parts)


@dataclass
class Renaming:
    """Takes weights out of `theirs` and puts them into `ours`, block by block."""

    theirs: dict[str, Tensor]
    """Weights by diffusers' names; empty when all have been taken."""
    ours: dict[str, Tensor] = field(default_factory=dict)
    """Weights by our names."""

    def unet(self, config: UNetConfig, attends: tuple[bool, ...], cosines_first: bool, classes: int) -> None:
        """All of it.

        Args:
            config: our settings.
            attends: for each level, the highest resolution first, whether it has attention.
            cosines_first: whether their embedding of the time has cosines before sines.
            classes: how many there are.
        """
        self._told(config, cosines_first, classes)
        self.layer("enter", "conv_in")
        last, skip = len(config.multipliers) - 1, config.pyramid_in == "skip"
        for i, attention in enumerate(attends):
            down, up = f"down_blocks.{i}", f"up_blocks.{last - i}"
            for j in range(config.blocks_at(i)):
                self.stage(f"down.{i}.{j}", f"{down}.resnets.{j}", f"{down}.attentions.{j}" if attention else None)
            for j in range(config.blocks_at(i) + 1):
                k = j if config.attention_up == "every" else 0
                attended = attention and (config.attention_up == "every" or j == config.blocks_at(i))
                self.stage(f"up.{i}.{j}", f"{up}.resnets.{j}", f"{up}.attentions.{k}" if attended else None)
            if i < last:
                self._resampling(f"lower.{i}", f"{down}.resnet_down" if skip else f"{down}.downsamplers.0", config)
            if i > 0:
                self._resampling(f"higher.{i - 1}", f"{up}.resnet_up" if skip else f"{up}.upsamplers.0", config)
            if skip and i < last:
                self.layer(f"inputs_told.{i}.enter", f"{down}.skip_conv")
            if skip and i > 0:
                self.layer(f"outputs_made.{i - 1}.norm", f"{up}.skip_norm")
                self.layer(f"outputs_made.{i - 1}.out", f"{up}.skip_conv")
        self.stage("middle_in", "mid_block.resnets.0", "mid_block.attentions.0")
        self.stage("middle_out", "mid_block.resnets.1", None)
        self.layer("norm", "conv_norm_out")
        self.layer("out", "conv_out")

    def take(self, name: str) -> Tensor:
        """A weight of theirs.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.theirs:
            raise ValueError(f"the weight {name} of a UNet2DModel is missing")
        return self.theirs.pop(name)

    def layer(self, our: str, their: str) -> None:
        """Weight and bias of one layer."""
        for part in ("weight", "bias"):
            self.ours[f"{our}.{part}"] = self.take(f"{their}.{part}")

    def _told(self, config: UNetConfig, cosines_first: bool, classes: int) -> None:
        """What embeds the time and the class; the row for no class is 0."""
        self.layer("conditioning.time_in", "time_embedding.linear_1")
        self.layer("conditioning.time_out", "time_embedding.linear_2")
        weight = self.ours["conditioning.time_in.weight"]
        if config.time == "fourier":
            self.ours["conditioning.fourier.frequencies"] = self.take("time_proj.weight")
            self.theirs.pop("time_proj.W", None)  # the same by an old name
        elif cosines_first:
            self.ours["conditioning.time_in.weight"] = weight.roll(weight.shape[1] // 2, 1)
        if classes:
            table = self.take("class_embedding.weight")
            self.ours["conditioning.table.weight"] = torch.cat([table, torch.zeros_like(table[:1])])

    def _resampling(self, our: str, their: str, config: UNetConfig) -> None:
        if config.resample == "conv":
            self.layer(f"{our}.conv", f"{their}.conv")
        else:
            self.block(our, their)

    def stage(self, our: str, their: str, their_attention: str | None) -> None:
        """A residual block and attention."""
        self.block(f"{our}.block", their)
        if their_attention is not None:
            self.layer(f"{our}.attention.norm", f"{their_attention}.group_norm")
            for part in ("weight", "bias"):
                each = [self.take(f"{their_attention}.to_{which}.{part}") for which in "qkv"]
                self.ours[f"{our}.attention.attention.qkv.{part}"] = torch.cat([w.flatten(1) if w.ndim > 1 else w
                                                                               for w in each])  # fmt: skip
                out = self.take(f"{their_attention}.to_out.0.{part}")
                self.ours[f"{our}.attention.attention.out.{part}"] = out.flatten(1) if out.ndim > 1 else out

    def block(self, our: str, their: str) -> None:
        """A residual block; under scale and shift, weight and bias of the second norm go into them."""
        self.layer(f"{our}.norm_in", f"{their}.norm1")
        self.layer(f"{our}.conv_in", f"{their}.conv1")
        self.layer(f"{our}.modulation", f"{their}.time_emb_proj")
        self.layer(f"{our}.conv_out", f"{their}.conv2")
        if f"{their}.conv_shortcut.weight" in self.theirs:
            self.layer(f"{our}.skip", f"{their}.conv_shortcut")
        weight = self.ours[f"{our}.modulation.weight"]
        if len(weight) == len(self.ours[f"{our}.conv_in.bias"]):
            self.layer(f"{our}.norm_out", f"{their}.norm2")
            return
        bias = self.ours[f"{our}.modulation.bias"]
        w, b = self.take(f"{their}.norm2.weight"), self.take(f"{their}.norm2.bias")
        self.ours[f"{our}.modulation.weight"] = _folded(weight, w[:, None], b[:, None])
        bias = _folded(bias, w, b)
        self.ours[f"{our}.modulation.bias"] = bias + torch.cat([w - 1, b])


def _folded(linear: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Rows for scale and shift of w n + b, (2 C, E) or (2 C,), as rows for those of n, less what is constant.

    (w n + b) (1 + scale) + shift = n (1 + [w scale + w - 1]) + [b scale + b + shift]
    """
    scale, shift = linear.chunk(2)
    return torch.cat([w * scale, b * scale + shift])
