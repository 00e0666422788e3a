"""Weights of a diffusers `AutoencoderKL` as those of a `KLNet`: the autoencoders of Stable Diffusion and FLUX.

Letters in shapes: C channels of images, Z channels of latents, E channels inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reverie.autoencoders import KLConfig
from reverie.interop.converted_autoencoder import ConvertedAutoencoder, Weights
from reverie.interop.diffusers_unet_weights import current

SETTINGS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
    "block_out_channels": (64,),
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
"""What diffusers 0.42 takes for granted, of what its encoder and decoder are built from."""
OUTSIDE = {"sample_size", "scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast"}
"""Settings that say what is done with its results; they change none."""


def converted(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> ConvertedAutoencoder:
    """An `AutoencoderKL` as a `KLNet` with the same posterior and the same images.

    Latents are as they leave the encoder: their `scaling_factor` and `shift_factor` stay the caller's. A convolution
    of kernel 1 that theirs has not is the identity in ours.

    Args:
        config: its configuration, as in its `config.json`; what is missing is as in `SETTINGS`.
        state: its weights by their names, as from `state_dict()`; those of attention may have their old names.

    Raises:
        ValueError: the configuration has what a `KLNet` has not, or weights are missing or left over; the message
            says which.
    """
    name = config.get("_class_name", "AutoencoderKL")
    if name != "AutoencoderKL":
        raise ValueError(f"this reads the configuration of an AutoencoderKL; given that of a {name}")
    known = SETTINGS.keys() | OUTSIDE
    unknown = sorted(key for key, value in config.items() if key not in known and key[0] != "_" and value)
    if unknown:
        raise ValueError(f"an AutoencoderKL that a KLNet equals has no setting {', '.join(unknown)}")
    told = {**SETTINGS, **config}
    ours = _settings(told)
    weights = Weights("an AutoencoderKL", {current(name): value for name, value in state.items()})
    _half(weights, "encoder", _encoder(ours, told["use_quant_conv"]), 2 * ours.channels)
    _half(weights, "decoder", _decoder(ours, told["use_post_quant_conv"]), ours.channels)
    weights.finish()
    return ConvertedAutoencoder(config=ours, channels=told["in_channels"], state=weights.ours)


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"no KLNet equals an AutoencoderKL with {what}")


def _settings(told: Mapping[str, Any]) -> KLConfig:
    """Our settings.

    Raises:
        ValueError: there are none that say the same.
    """
    widths, groups = tuple(told["block_out_channels"]), told["norm_num_groups"]
    for way, usual in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
        for block in told[f"{way}_block_types"]:
            _need(block == usual, f"a {block}")
        _need(len(told[f"{way}_block_types"]) == len(widths), f"another number of {way}_block_types than of widths")
    _need(told["act_fn"] in ("silu", "swish"), f"act_fn {told['act_fn']!r}; it must be 'silu'")
    _need(told["in_channels"] == told["out_channels"], "other channels out than in")
    _need(all(w % widths[0] == 0 for w in widths), f"widths {widths}, which are not multiples of the first")
    _need(widths[0] % groups == 0, f"norms in {groups} groups, which do not divide {widths[0]} channels")
    return KLConfig(
        width=widths[0],
        multipliers=tuple(w // widths[0] for w in widths),
        blocks=told["layers_per_block"],
        channels=told["latent_channels"],
        attention=told["mid_block_add_attention"],
        groups=groups,
        group_width=1,
        eps=1e-6,
        straight=False,
    )


IDENTITY = ""
"""In the place of a layer that theirs has not."""


def _encoder(ours: KLConfig, quant: bool) -> list[str]:
    """Their names of the layers of our encoder, in order."""
    names = ["encoder.conv_in"]
    for i in range(len(ours.multipliers)):
        if i > 0:
            names.append(f"encoder.down_blocks.{i - 1}.downsamplers.0")
        names += [f"encoder.down_blocks.{i}.resnets.{j}" for j in range(ours.blocks)]
    return [*names, *_middle("encoder", ours), *_end("encoder"), "quant_conv" if quant else IDENTITY]


def _decoder(ours: KLConfig, quant: bool) -> list[str]:
    """Their names of the layers of our decoder, in order."""
    names = ["post_quant_conv" if quant else IDENTITY, "decoder.conv_in", *_middle("decoder", ours)]
    last = len(ours.multipliers) - 1
    for i in range(last + 1):
        names += [f"decoder.up_blocks.{i}.resnets.{j}" for j in range(ours.blocks + 1)]
        if i < last:
            names.append(f"decoder.up_blocks.{i}.upsamplers.0")
    return [*names, *_end("decoder")]


def _middle(half: str, ours: KLConfig) -> list[str]:
    between = [f"{half}.mid_block.attentions.0"] if ours.attention else []
    return [f"{half}.mid_block.resnets.0", *between, f"{half}.mid_block.resnets.1"]


def _end(half: str) -> list[str]:
    return [f"{half}.conv_norm_out", f"{half}.conv_out"]


def _half(weights: Weights, half: str, names: list[str], channels: int) -> None:
    """The weights of the encoder or the decoder; `channels` is what its convolution of kernel 1 keeps."""
    for i, their in enumerate(names):
        our = f"{half}.{i}"
        if their == IDENTITY:
            like = weights.ours.get(f"{half}.{i - 1}.weight", next(iter(weights.ours.values())))
            weights.ours[f"{our}.weight"] = torch.eye(channels, dtype=like.dtype)[:, :, None, None]
            weights.ours[f"{our}.bias"] = torch.zeros(channels, dtype=like.dtype)
        elif "resnets" in their:
            _residual(weights, our, their)
        elif "attentions" in their:
            _attention(weights, our, their)
        elif "samplers" in their:
            weights.layer(f"{our}.conv", f"{their}.conv")
        else:
            weights.layer(our, their)


def _residual(weights: Weights, our: str, their: str) -> None:
    weights.layer(f"{our}.norm_in", f"{their}.norm1")
    weights.layer(f"{our}.conv_in", f"{their}.conv1")
    weights.layer(f"{our}.norm_out", f"{their}.norm2")
    weights.layer(f"{our}.conv_out", f"{their}.conv2")
    if f"{their}.conv_shortcut.weight" in weights.theirs:
        weights.layer(f"{our}.skip", f"{their}.conv_shortcut")


def _attention(weights: Weights, our: str, their: str) -> None:
    """Queries, keys and values in one; in old files they are convolutions with a kernel of 1."""
    weights.layer(f"{our}.norm", f"{their}.group_norm")
    for part, axes in (("weight", 2), ("bias", 1)):
        q, k, v, out = (
            weights.take(f"{their}.{name}.{part}").flatten(axes - 1) for name in ("to_q", "to_k", "to_v", "to_out.0")
        )
        weights.ours[f"{our}.attention.qkv.{part}"] = torch.cat([q, k, v])
        weights.ours[f"{our}.attention.out.{part}"] = out
