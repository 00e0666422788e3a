"""Weights of TAESD and of its like, TAEF2 among them, as those of a `TinyNet`.

Letters in shapes: C channels of images, Z channels of latents, E channels inside.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reverie.autoencoders import TinyConfig
from reverie.interop.converted_autoencoder import ConvertedAutoencoder, Weights


def converted(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> ConvertedAutoencoder:
    """A tiny autoencoder, from its two published files, as a `TinyNet` with the same latents and images.

    The names there count layers: "0.weight" is of the first of the encoder. Our network sees images in [-1, 1] where
    theirs sees them in [0, 1]. Weights in half precision become float32.

    Args:
        encoder: weights by their names, as in `taesd_encoder` or `taef2_encoder`.
        decoder: as in `taesd_decoder` or `taef2_decoder`.

    Raises:
        ValueError: they are not those of such an autoencoder; the message names a weight that is missing or has no
            place.
    """
    config, channels = _settings(encoder)
    down, up = Weights("a tiny encoder", _single(encoder)), Weights("a tiny decoder", _single(decoder))
    _encoder(down, config)
    _decoder(up, config)
    for weights in (down, up):
        weights.finish()
    return ConvertedAutoencoder(config=config, channels=channels, state={**down.ours, **up.ours})


def _single(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(torch.promote_types(value.dtype, torch.float32)) for name, value in state.items()}


def _settings(encoder: Mapping[str, Tensor]) -> tuple[TinyConfig, int]:
    """Our settings and C, from the names and shapes of the encoder's weights.

    Raises:
        ValueError: the encoder is none of a tiny autoencoder.
    """
    layers = sorted({int(name.split(".")[0]) for name in encoder if name.split(".")[0].isdigit()})
    # Convolutions that halve are the only ones without a bias.
    halving = [i for i in layers if f"{i}.weight" in encoder and f"{i}.bias" not in encoder]
    last = layers[-1] if layers else 0
    if not halving or halving[0] != 2 or f"{last}.weight" not in encoder or "0.weight" not in encoder:
        raise ValueError(
            "these are no weights of a tiny encoder, which are called 0.weight, 1.conv.0.weight, 2.weight and so on; "
            f"given {', '.join(sorted(encoder)[:3]) or 'none'}"
        )
    width, channels = encoder["0.weight"].shape[:2]
    config = TinyConfig(
        width=width,
        halvings=len(halving),
        blocks=(last - halving[0]) // len(halving) - 1,
        channels=encoder[f"{last}.weight"].shape[0],
        pooled=f"{last - 1}.pool.0.weight" in encoder,
    )
    return config, channels


def _encoder(weights: Weights, config: TinyConfig) -> None:
    weights.layer("encoder.0", "0")
    _block(weights, "encoder.1", "1", False)
    at = 2
    for i in range(config.halvings):
        _resampling(weights, f"encoder.{at}.conv", str(at))
        for j in range(at + 1, at + 1 + config.blocks):
            _block(weights, f"encoder.{j}", str(j), config.pooled and i == config.halvings - 1)
        at += 1 + config.blocks
    weights.layer(f"encoder.{at}", str(at))


def _decoder(weights: Weights, config: TinyConfig) -> None:
    """What doubles is two layers there, one of ours."""
    weights.layer("decoder.1", "1")
    our = their = 3
    for i in range(config.halvings):
        for j in range(config.blocks):
            _block(weights, f"decoder.{our + j}", str(their + j), config.pooled and i == 0)
        our, their = our + config.blocks, their + config.blocks + 1
        _resampling(weights, f"decoder.{our}.conv", str(their))
        our, their = our + 1, their + 1
    _block(weights, f"decoder.{our}", str(their), False)
    weights.layer(f"decoder.{our + 1}", str(their + 1))


def _block(weights: Weights, our: str, their: str, pooled: bool) -> None:
    for name in ("conv.0", "conv.2", "conv.4", *(["pool.1"] if pooled else [])):
        weights.layer(f"{our}.{name}", f"{their}.{name}")
    for name in ("pool.0.weight", "pool.3.weight") if pooled else ():
        weights.ours[f"{our}.{name}"] = weights.take(f"{their}.{name}")


def _resampling(weights: Weights, our: str, their: str) -> None:
    """A convolution that has a bias in ours alone, where it is 0."""
    weight = weights.take(f"{their}.weight")
    weights.ours[f"{our}.weight"], weights.ours[f"{our}.bias"] = weight, weight.new_zeros(len(weight))
