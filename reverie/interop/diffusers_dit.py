"""Weights of diffusers' `DiTTransformer2DModel` as those of a `DiT`; diffusers itself is not needed.

The two compute the same, up to what is said here.

- diffusers keeps an embedding of time and class in every block, where the published network has one for all.
  In checkpoints converted from the published weights all of them are copies of one. What diffusers initialises,
  or trains on, has as many different ones as blocks: that is another network, and refused.
- diffusers' sines and cosines of the time end at a period of 10,000 exactly, where the published network's stop
  one step short of it; and it adds 1e-5 to the variance before the MLP, where the published network adds 1e-6.
  What is read here computes what diffusers does. Published weights were trained without either:
  `replace(config, period=10_000.0, mlp_eps=1e-6)` gives the network as it was published.

Letters in shapes: C channels, H height, W width of an image, E width, p side of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from reverie.conditioning import Conditions
from reverie.interop.converted import Converted
from reverie.nets.dit import DiTConfig

SETTINGS = {
    "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": None, "num_layers": 28,
    "dropout": 0.0, "norm_num_groups": 32, "attention_bias": True, "sample_size": 32, "patch_size": 2,
    "activation_fn": "gelu-approximate", "num_embeds_ada_norm": 1000, "upcast_attention": False,
    "norm_type": "ada_norm_zero", "norm_elementwise_affine": False, "norm_eps": 1e-5,
}  # fmt: skip
"""What diffusers 0.42 takes for granted; `norm_num_groups` and `upcast_attention` make no difference here."""

ONLY = {
    "dropout": 0.0, "activation_fn": "gelu-approximate", "norm_type": "ada_norm_zero", "norm_elementwise_affine": False,
}  # fmt: skip
"""Settings that a `DiT` has one value for."""

HALF = 128
"""Sines, and as many cosines, of the time."""


def converted(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """A `DiTTransformer2DModel` as a `DiT` with the same outputs.

    A class beyond the last is diffusers' way of saying "none": here no label is given, or it is dropped.

    Args:
        config: its configuration, as in its `config.json`.
        state: its weights by their names, as from `state_dict()`; they are copied where their layout differs only.

    Raises:
        ValueError: the configuration has what a `DiT` has not, weights are missing or left over, or the blocks
            embed time and class differently; the message says which.
    """
    told = _settings(config)
    channels, out = told["in_channels"], told["out_channels"] or told["in_channels"]
    if out % channels:
        raise ValueError(f"out_channels must be a multiple of in_channels, the channels of an example; given {out} "
                         f"and {channels}")  # fmt: skip
    ours = DiTConfig(
        patch=told["patch_size"],
        width=told["num_attention_heads"] * told["attention_head_dim"],
        depth=told["num_layers"],
        heads=told["num_attention_heads"],
        period=10_000.0 ** (HALF / (HALF - 1)),
        mlp_eps=told["norm_eps"],
    )
    return Converted(
        config=ours,
        shape=(channels, told["sample_size"], told["sample_size"]),
        conditions=Conditions(classes=told["num_embeds_ada_norm"]),
        outputs=out // channels,
        state=_weights(dict(state), ours, told["patch_size"]),
    )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings, those not given as diffusers takes them for granted; what is off does no harm."""
    name = config.get("_class_name", "DiTTransformer2DModel")
    if name not in ("DiTTransformer2DModel", "Transformer2DModel"):
        raise ValueError(f"this reads the configuration of a DiTTransformer2DModel; given that of a {name}")
    told = {**SETTINGS, **{k: v for k, v in config.items() if k in SETTINGS}}
    for key, only in ONLY.items():
        if told[key] != only:
            raise ValueError(
                f"{key} of a DiTTransformer2DModel must be {only!r}, all that a DiT has; given {told[key]!r}"
            )
    for key, value in config.items():
        if key not in SETTINGS and not key.startswith("_") and value and (key, value) != ("attention_type", "default"):
            raise ValueError(f"a DiTTransformer2DModel that a DiT equals has no setting {key}; given {value!r}")
    return told


def _weights(theirs: dict[str, Tensor], config: DiTConfig, patch: int) -> dict[str, Tensor]:
    """The weights under our names."""
    theirs.pop("pos_embed.pos_embed", None)  # a table in old files of what is computed
    ours: dict[str, Tensor] = {}

    def take(name: str, theirs_name: str, layout: Callable[[Tensor], Tensor] = lambda w: w) -> None:
        for part in ("weight", "bias"):
            ours[f"{name}.{part}"] = layout(_popped(theirs, f"{theirs_name}.{part}"))

    _embedding(theirs, ours, config.depth)
    ours["enter.weight"] = _popped(theirs, "pos_embed.proj.weight").flatten(1)
    ours["enter.bias"] = _popped(theirs, "pos_embed.proj.bias")
    for i in range(config.depth):
        block, peer = f"blocks.{i}", f"transformer_blocks.{i}"
        take(f"{block}.modulation", f"{peer}.norm1.linear")
        qkv = [_popped(theirs, f"{peer}.attn1.to_{part}.weight") for part in "qkv"]
        ours[f"{block}.attention.qkv.weight"] = torch.cat(qkv)
        biases = [theirs.pop(f"{peer}.attn1.to_{part}.bias", qkv[0].new_zeros(config.width)) for part in "qkv"]
        ours[f"{block}.attention.qkv.bias"] = torch.cat(biases)
        take(f"{block}.attention.out", f"{peer}.attn1.to_out.0")
        take(f"{block}.inner", f"{peer}.ff.net.0.proj")
        take(f"{block}.outer", f"{peer}.ff.net.2")
    take("modulation", "proj_out_1")
    take("out", "proj_out_2", lambda w: w.unflatten(0, (patch * patch, -1)).transpose(0, 1).flatten(0, 1))
    if theirs:
        raise ValueError(f"weights that this DiT has no place for: {', '.join(sorted(theirs)[:5])}")
    return ours


def _embedding(theirs: dict[str, Tensor], ours: dict[str, Tensor], depth: int) -> None:
    """The embedding of time and class, the same in all blocks; theirs has the cosines before the sines.

    Raises:
        ValueError: it is not the same in all blocks.
    """
    names = {
        "conditioning.time_in.weight": "timestep_embedder.linear_1.weight",
        "conditioning.time_in.bias": "timestep_embedder.linear_1.bias",
        "conditioning.time_out.weight": "timestep_embedder.linear_2.weight",
        "conditioning.time_out.bias": "timestep_embedder.linear_2.bias",
        "conditioning.table.weight": "class_embedder.embedding_table.weight",
    }
    for name, theirs_name in names.items():
        first, *others = (_popped(theirs, f"transformer_blocks.{i}.norm1.emb.{theirs_name}") for i in range(depth))
        for i, other in enumerate(others, start=1):
            if not torch.equal(first, other):
                raise ValueError(
                    f"block {i} embeds time and class by other weights ({theirs_name}) than block 0; a DiT has one "
                    "embedding for all blocks, of which converted checkpoints hold copies. If one is meant, copy "
                    "block 0's tensors under norm1.emb into the others"
                )
        ours[name] = first.roll(HALF, 1) if name == "conditioning.time_in.weight" else first


def _popped(theirs: dict[str, Tensor], name: str) -> Tensor:
    """The weight of that name, taken out.

    Raises:
        ValueError: there is none.
    """
    if name not in theirs:
        raise ValueError(f"the weight {name} of a DiTTransformer2DModel is missing")
    return theirs.pop(name)
