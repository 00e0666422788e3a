"""CLIP, with weights that the user has.

Letters in shapes: B batch, C channels, H height, W width, E numbers of one embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reverie import config
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.vision import OpenedVision
from reverie.evaluation.extractors.weights import is_name
from reverie.evaluation.pairs.base import EXTRA, OpenedPair, Pair, unit
from reverie.evaluation.pairs.words import tokenized
from reverie.text.hub import digest_of, silent

WANTED = (
    "config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.json", "merges.txt", "*.safetensors*",
)  # fmt: skip
"""Files of a repository that are downloaded."""
RIGHT = "right is a folder of a CLIPModel with its tokenizer, as transformers saves them"


@dataclass(frozen=True)
class Clip(Pair, kind="clip"):
    """CLIP (Radford et al., 2021): two networks trained so that a picture's and its caption's vectors are near."""

    path: str
    """A folder as transformers saves it, or the name of a repository on the hub, owner/name, which is downloaded."""

    def open(self, real: Collection, device: torch.device | str = "cpu") -> OpenedPair:
        """Both networks with those weights."""
        if not real.image:
            raise ValueError(f"captions are compared with images, and {real.source} holds arrays")
        return OpenedClip(_folder(self.path), self.path).to(device)


def _folder(path: str) -> Path:
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not is_name(path):
        raise ValueError(f"there is no folder {path!r} of an image-text pair; {RIGHT}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(f"{path} is downloaded by huggingface_hub: {EXTRA}") from error
    # Of the network, the hub, its cache or the name: each has errors of its own, none of which is a fault of ours.
    try:
        return Path(snapshot_download(path, allow_patterns=list(WANTED)))
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is no folder here, and cannot be had from the hub ({why}); {RIGHT}") from error


class OpenedClip(OpenedPair):
    """CLIP from a folder. The whole picture is seen, as by the extractor of the same folder.

    Args:
        folder: of a CLIPModel and its tokenizer.
        source: what the user gave, for messages.

    Raises:
        ValueError: the folder holds something else, or not all of it.
        ImportError: transformers is missing.
    """

    def __init__(self, folder: Path, source: str) -> None:
        path = folder / "config.json"
        kind = config.read_file(path).get("model_type") if path.is_file() else None
        if kind != "clip":
            what = "no config.json" if kind is None else f"a network of type {kind!r}"
            raise ValueError(f"{source} has {what}; {RIGHT}")
        vision = OpenedVision(folder, source)
        net, tokenizer = _text(folder, source)
        longest = net.config.text_config.max_position_embeddings
        digest = sha256(f"{vision.digest} {digest_of(net, tokenizer)}".encode()).hexdigest()[:16]
        super().__init__(digest, {**vision.about, "text": f"the first {longest} tokens"})
        self.vision, self.net, self.tokenizer, self.longest = vision, net, tokenizer, longest
        self.eval().requires_grad_(False)

    def images(self, items: Tensor) -> Tensor:
        """Unit vectors (B, E) of images."""
        return unit(self.vision(items))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, E) of texts."""
        tokens = tokenized(self.tokenizer, texts, self.longest, next(self.net.parameters()).device)
        return unit(self.net.text_projection(self.net.text_model(**tokens).pooler_output))


def _text(folder: Path, source: str) -> tuple[Any, Any]:
    """The text network and the tokenizer."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"CLIP needs transformers: {EXTRA}") from error
    words: Any = transformers.AutoTokenizer
    load: Any = transformers.CLIPModel
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ValueError(f"{source} has no tokenizer (tokenizer.json, or vocab.json and merges.txt); {RIGHT}")
    # What transformers raises of a damaged folder is of many types, and it names the file.
    try:
        with silent():
            tokenizer = words.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            net, report = load.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:
        raise ValueError(f"the text network or the tokenizer in {source} cannot be read ({error}); {RIGHT}") from error
    missing = sorted(report["missing_keys"]) + sorted(str(each) for each in report["mismatched_keys"])
    if missing:
        raise ValueError(f"{source} is no whole CLIP; missing: {', '.join(missing[:3])}; {RIGHT}")
    for image in ("vision_model", "visual_projection"):
        delattr(net, image)
    return net.float(), tokenizer
