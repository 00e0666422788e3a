"""Weights that the user has: a file, a folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Opened
from reverie.evaluation.extractors.inception import OpenedInception, recognised
from reverie.evaluation.extractors.vision import OpenedVision
from reverie.tensor_files import read_tensors

PICKLES = (".pth", ".pt")
RIGHT = (
    "right are Inception v3 as a .safetensors, .pth or .pt file, of FID or of torchvision, and a folder as "
    "transformers saves it, of DINOv2 or CLIP"
)


@dataclass(frozen=True)
class Weights(Extractor, kind="weights"):
    """A network whose weights the user has.

    Inception v3 is known by the names and shapes of its tensors, the networks of a folder by its config.json.
    """

    path: str
    """A file, a folder, or the name of a repository on the hub, owner/name, which is downloaded."""

    def open(self, real: Collection, device: torch.device | str = "cpu") -> Opened:
        """The network with those weights."""
        self.check(real)
        return self._read().to(device)

    def _read(self) -> Opened:
        path = Path(self.path).expanduser()
        if path.is_dir():
            return OpenedVision(path, self.path)
        if path.is_file():
            return _of_file(path, self.path)
        if is_name(self.path):
            return OpenedVision(_downloaded(self.path), self.path)
        raise ValueError(f"there are no weights {self.path!r}; {RIGHT}")


def is_name(text: str) -> bool:
    """Whether a text may be the name of a repository on the hub: owner/name, and no name of a file of weights."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None and not text.endswith((*PICKLES, ".safetensors"))


def _of_file(path: Path, given: str) -> Opened:
    if path.suffix not in (*PICKLES, ".safetensors"):
        raise ValueError(f"{given} is no file of weights; {RIGHT}")
    tensors = read_tensors(path) if path.suffix == ".safetensors" else _of_pickle(path)
    if not recognised(tensors):
        first = ", ".join(list(tensors)[:3]) or "nothing"
        raise ValueError(f"{given} holds a network that is not known ({first}, ...); {RIGHT}")
    return OpenedInception(tensors, given)


def _of_pickle(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file that `torch.save` wrote; code in it is not run.

    Raises:
        ValueError: it is damaged, or holds more than tensors by name.
    """
    # A file from elsewhere may raise nearly anything: a zip, a pickle or an operator of torch may be what is wrong.
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} was not read: it is damaged, or holds code beside its weights, which is never run; "
            "save the state_dict alone, best as .safetensors"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(f"{path} holds a {type(found).__name__}, not tensors by name; save the state_dict alone")
    return {str(k): v for k, v in found.items()}


def _downloaded(name: str) -> Path:
    """The folder of a repository of the hub, in the user's own cache of it.

    Raises:
        ValueError: it cannot be had.
        ImportError: the package that downloads is missing.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(f"{name} is downloaded by huggingface_hub: pip install 'reverie[text]'") from error
    # Of the network, the hub, its cache or the name: each has errors of its own, none of which is a fault of ours.
    try:
        found = snapshot_download(name, allow_patterns=["config.json", "preprocessor_config.json", "*.safetensors*"])
    except Exception as error:
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"{name} is neither a file nor a folder here, and cannot be had from the hub ({why}); {RIGHT}"
        ) from error
    return Path(found)
