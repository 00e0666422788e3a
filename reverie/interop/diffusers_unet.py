"""Weights of a diffusers `UNet2DModel` as those of a `UNet`: the layouts of DDPM, ADM and NCSN++.

Letters in shapes: C channels, H height, W width, E width of the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reverie.conditioning import Conditions
from reverie.interop.converted import Converted
from reverie.interop.diffusers_unet_weights import Renaming, current
from reverie.nets.unet import UNetConfig

# A kind of block on the way down or up, less its "Down" or "Up": what resamples beside it, whether it has attention.
KINDS = {
    "{}Block2D": ("conv", False),
    "Attn{}Block2D": ("as set", True),
    "Resnet{}sampleBlock2D": ("resnet", False),
    "Skip{}Block2D": ("skip", False),
    "AttnSkip{}Block2D": ("skip", True),
}


def converted(config: Mapping[str, Any], state: Mapping[str, Tensor], size: tuple[int, int] | None = None) -> Converted:
    """A `UNet2DModel` as a `UNet` with the same outputs.

    Two conventions stay the caller's where its time is embedded by Fourier features: diffusers is given
    sigma, a `UNet` log sigma, and what diffusers returns is what a `UNet` returns over sigma
    (`reverie.parameterizations.Score`). Without a label, which diffusers refuses, the row of the table is 0.

    Args:
        config: its configuration, as in its `config.json`; what is missing is as in `SETTINGS`.
        state: its weights by their names, as from `state_dict()`.
        size: (H, W) of the examples, where it is not the `sample_size` of the configuration.

    Raises:
        ValueError: the configuration has what a `UNet` has not, or weights are missing or left over; the message
            says which.
    """
    name = config.get("_class_name", "UNet2DModel")
    if name != "UNet2DModel":
        raise ValueError(f"this reads the configuration of a UNet2DModel; given that of a {name}")
    unknown = sorted(key for key, value in config.items() if key not in SETTINGS and key[0] != "_" and value)
    if unknown:
        raise ValueError(f"a UNet2DModel that a UNet equals has no setting {', '.join(unknown)}")
    told = {**SETTINGS, **config}
    layout = _layout(told)
    shape, inputs, outputs = _shape(told, size)
    ours = _settings(told, layout, shape)
    classes = told["num_class_embeds"] or 0
    names = Renaming({current(name): value for name, value in state.items()})
    names.unet(ours, layout.attends, bool(told["flip_sin_to_cos"]), classes)
    if names.theirs:
        raise ValueError(f"weights that this UNet has no place for: {', '.join(sorted(names.theirs)[:5])}")
    return Converted(
        config=ours,
        shape=shape,
        conditions=Conditions(classes=classes),
        inputs=inputs,
        outputs=outputs,
        state=names.ours,
    )


SETTINGS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
"""What diffusers 0.42 takes for granted."""


@dataclass(frozen=True)
class _Layout:
    """What the kinds of blocks say, levels from the highest resolution to the lowest."""

    widths: tuple[int, ...]
    attends: tuple[bool, ...]
    resample: str
    """conv, resnet or skip."""


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"no UNet equals a UNet2DModel with {what}")


def _layout(told: Mapping[str, Any]) -> _Layout:
    """The blocks, after checking that all of one kind are alike, down and up."""
    down = [_kind(name, "Down", told["downsample_type"]) for name in told["down_block_types"]]
    up = [_kind(name, "Up", told["upsample_type"]) for name in reversed(told["up_block_types"])]
    _need([a for _, a in down] == [a for _, a in up], "attention in other levels on the way up than on the way down")
    ways = {way for way, _ in down[:-1]} | {way for way, _ in up[1:]}
    skips = {way == "skip" for way, _ in down + up}
    _need(len(ways) <= 1 and len(skips) == 1, f"several ways of resampling ({', '.join(sorted(ways))})")
    resample = "skip" if skips == {True} else next(iter(ways), "conv")
    return _Layout(tuple(told["block_out_channels"]), tuple(a for _, a in down), resample)


def _kind(name: str, way: str, attending: str | None) -> tuple[str, bool]:
    known = {pattern.format(way): kind for pattern, kind in KINDS.items()}
    _need(name in known, f"a {name}")
    resample, attends = known[name]
    return (attending or "conv") if resample == "as set" else resample, attends


def _shape(told: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[tuple[int, int, int], int, int]:
    """The shape of one example, and how many come in and go out."""
    found = size or told["sample_size"]
    if found is None:
        raise ValueError("the config has no sample_size; give the size (H, W) of the examples")
    height, width = (found, found) if isinstance(found, int) else found
    channels = math.gcd(told["in_channels"], told["out_channels"])
    return (channels, height, width), told["in_channels"] // channels, told["out_channels"] // channels


def _settings(told: Mapping[str, Any], layout: _Layout, shape: tuple[int, ...]) -> UNetConfig:
    """Our settings.

    Raises:
        ValueError: there are none that say the same.
    """
    width, widths, skip = layout.widths[0], layout.widths, layout.resample == "skip"
    head, shift = told["attention_head_dim"], told["resnet_time_scale_shift"]
    fourier = told["time_embedding_type"] == "fourier"
    _need(told["act_fn"] in ("silu", "swish"), f"act_fn {told['act_fn']!r}; it must be 'silu'")
    _need(not told["center_input_sample"], "center_input_sample")
    _need(told["mid_block_type"] == "UNetMidBlock2D" and told["add_attention"], "no middle, or no attention in it")
    _need(fourier or told["time_embedding_type"] == "positional", "a learned table of times")
    _need(told["time_embedding_dim"] in (None, 4 * width), "an embedding that is not four times as wide as a level")
    _need(told["class_embed_type"] is None, f"class_embed_type {told['class_embed_type']!r}")
    _need(shift in ("default", "scale_shift"), f"resnet_time_scale_shift {shift!r}")
    _need(all(w % width == 0 for w in widths), f"widths {widths}, which are not multiples of the first")
    _need(not head or all(w % head == 0 for w in widths), f"heads of {head} channels, which do not divide {widths}")
    _need(math.isclose(told["mid_block_scale_factor"], 2**0.5 if skip else 1, rel_tol=1e-3),
          f"mid_block_scale_factor {told['mid_block_scale_factor']} beside blocks of another")  # fmt: skip
    _need(not (fourier or skip) or fourier == skip, "Fourier features without skip blocks, or the other way round")
    groups, group_width = _groups(told, layout)
    last = len(widths) - 1
    longer = max(n + -n % 2**last for n in shape[1:])
    half = width // 2
    return UNetConfig(
        width=width,
        multipliers=tuple(w // width for w in widths),
        blocks=told["layers_per_block"],
        attention=tuple(longer // 2**i for i, attends in enumerate(layout.attends) if attends),
        attention_up="last" if skip else "every",
        head_width=head or 32,
        heads=0 if head else 1,
        dropout=told["dropout"],
        scale_shift=shift == "scale_shift",
        resample={"conv": "conv", "resnet": "block", "skip": "projected"}[layout.resample],  # type: ignore[arg-type]
        zeros="behind" if layout.resample == "conv" and told["downsample_padding"] == 0 else "around",
        fir=skip,
        rescale=skip,
        pyramid_in="skip" if skip else "none",
        pyramid_out="skip" if skip else "none",
        time="fourier" if fourier else "sinusoidal",
        period=10_000.0 if fourier else 10_000.0 ** (half / (half - told["freq_shift"])),
        groups=groups,
        group_width=group_width,
        eps=told["norm_eps"],
    )


def _groups(told: Mapping[str, Any], layout: _Layout) -> tuple[int, int]:
    """At most how many groups there are in a norm, and of how many channels at least."""
    said, attention = told["norm_num_groups"], told["attn_norm_num_groups"]
    if layout.resample != "skip":
        usual = said if told["resnet_time_scale_shift"] == "default" else None
        _need(said is not None and (attention or usual) == said, "a middle whose attention has another norm, or none")
        return said, 1
    deepest = min(32, layout.widths[-1] // 4)
    _need(
        (attention or said or deepest) == deepest, f"a middle in {attention or said} groups among others in {deepest}"
    )
    _need(said in (None, min(32, layout.widths[0] // 4)), f"a last norm in {said} groups")
    attended = [w for w, a in zip(layout.widths, layout.attends, strict=True) if a]
    _need(min(attended, default=128) >= 128, f"skip blocks with attention at {attended} channels; at least 128")
    return 32, 4
