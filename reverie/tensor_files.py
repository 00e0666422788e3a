"""Tensors in safetensors files, checked when read and written whole or not at all; and networks filled with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from reverie.digests import digest
from reverie.files import atomic

if TYPE_CHECKING:
    from reverie.models import Model


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: the file is missing or damaged.
    """
    return read_with_metadata(path)[0]


def read_with_metadata(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and what else it says; its `sha256`, if it has one, is checked.

    Raises:
        ValueError: the file is missing or damaged.
    """
    with _opened(path) as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    if "sha256" in metadata and metadata["sha256"] != digest(tensors):
        raise ValueError(f"{path} is damaged: its tensors are not what was written")
    return tensors, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says besides its tensors, which are not read.

    Raises:
        ValueError: the file is missing, or its beginning is damaged.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"{path} is missing")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    from safetensors.torch import save

    plain = {name: t.detach().to("cpu").contiguous() for name, t in tensors.items()}
    with atomic(path) as temp:
        temp.write_bytes(save(plain, dict(metadata) if metadata else None))  # no tensors and {} make a damaged file


def fill(model: Model, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights read from `path` into the network.

    Raises:
        ValueError: they are another network's; the first few misfits are named.
    """
    wrong = misfits(model.net.state_dict(), weights)
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path} holds the weights of another network: {'; '.join(wrong[:3])}{more}")
    model.net.load_state_dict(dict(weights))


def misfits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """In what the names and shapes of `weights` differ from those of a network's `own`, in words."""
    wrong = [f"{k} is missing" for k in own if k not in weights]
    wrong += [f"{k} is not in the network" for k in weights if k not in own]
    wrong += [
        f"{k} has shape {tuple(weights[k].shape)} and should have {tuple(v.shape)}"
        for k, v in own.items()
        if k in weights and weights[k].shape != v.shape
    ]
    return wrong
