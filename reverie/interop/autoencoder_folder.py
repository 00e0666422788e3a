"""A folder with another project's autoencoder, made into a run folder of ours.

config.json with _class_name AutoencoderKL and *.safetensors      of diffusers
*encoder* and *decoder*, .safetensors or .pth                     TAESD and its kin, such as TAEF2
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from reverie import config
from reverie.data import Examples
from reverie.digests import digest
from reverie.interop import diffusers_autoencoder, tiny_autoencoder
from reverie.interop.converted_autoencoder import ConvertedAutoencoder
from reverie.recipe import LOSSES, Recipe
from reverie.runs import CONFIG, MODEL, Facts, Run, fingerprint, write_config
from reverie.spaces import Pixels
from reverie.tensor_files import read_tensors, write_tensors
from reverie.version import __version__


def read(folder: Path) -> ConvertedAutoencoder:
    """The autoencoder in a folder. No code is run: weights in a .pth file are read as tensors alone.

    Raises:
        ValueError: there is none that is known; or its weights are damaged, or of a layout that ours has not.
    """
    names = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".pth")]
    if (folder / CONFIG).is_file():
        weights = [path for path in names if path.suffix == ".safetensors"]
        if len(weights) != 1:
            raise ValueError(f"{folder} must hold one .safetensors file beside {CONFIG}; it has {len(weights)}")
        return diffusers_autoencoder.converted(config.read_file(folder / CONFIG), tensors(weights[0]))
    halves = {half: [path for path in names if half in path.name] for half in ("encoder", "decoder")}
    if any(len(found) != 1 for found in halves.values()):
        raise ValueError(
            f"{folder} is neither a run of kind=autoencoder nor an autoencoder of another project: an AutoencoderKL of "
            f"diffusers has {CONFIG} and a .safetensors file, a TAESD an encoder and a decoder as .safetensors or .pth"
        )
    return tiny_autoencoder.converted(*(tensors(halves[half][0]) for half in ("encoder", "decoder")))


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file.

    Raises:
        ValueError: it is damaged, or holds something else.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever its reader of zip files and pickles may raise
        raise ValueError(f"{path} cannot be read as weights ({error})") from None
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(f"{path} holds something else than weights by their names")
    return dict(found)


def as_run(source: Path, target: Path, recipe: Recipe, examples: Examples) -> None:
    """Write the autoencoder in `source` as a run folder `target`, for images like these examples.

    Raises:
        ValueError: as `read`; or it is not for such images.
    """
    found = read(source)
    if not examples.image:
        raise ValueError(f"{source} is an autoencoder of images; these data are not images")
    made = Recipe(
        data=recipe.data, kind="autoencoder", space=Pixels(), autoencoder=found.config, loss=LOSSES["autoencoder"]
    )
    facts = Facts(
        shape=examples.shape, image=True, classes=(), train=0, validation=0, skipped=0,
        fingerprint=fingerprint(examples),
    )  # fmt: skip
    about = {
        "reverie": __version__,
        "torch": torch.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "from": source.resolve().name,
    }
    state = weights(found, examples.shape)
    target.mkdir(parents=True)
    write_tensors(target / MODEL, state, {"format": "2", "step": "0", "sha256": digest(state)})
    write_config(Run(target, made, facts, about))


def weights(found: ConvertedAutoencoder, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Those of our network for images of `shape`, in float32.

    Raises:
        ValueError: it is not for such images.
    """
    return {name: t.float() for name, t in found.build(shape).state_dict().items()}
