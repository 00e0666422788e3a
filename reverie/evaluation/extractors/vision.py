"""Vision networks as the library transformers saves them: a config.json beside *.safetensors.

Letters in shapes: B batch, F features, S side of the square that a network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from reverie import config
from reverie.config import Plain
from reverie.digests import digest
from reverie.evaluation.extractors.base import Opened
from reverie.evaluation.extractors.preparing import Preparation, Resize, Triple, bicubic, bilinear

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RESAMPLE: dict[Plain, Resize] = {2: bilinear, 3: bicubic}
"""By the numbers that Pillow gives them, which preprocessor_config.json holds."""

Feature = Callable[[Any, Tensor], Tensor]
"""A network and prepared pictures (B, 3, S, S) -> (B, F)."""


def _class_token(net: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    return net(pixel_values=x).last_hidden_state[:, 0]


def _image_embedding(net: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    return net.visual_projection(net.vision_model(pixel_values=x).pooler_output)


@dataclass(frozen=True)
class Family:
    """What is known of networks with one `model_type`."""

    name: str
    load: str
    """The class of transformers that loads it."""
    feature: Feature
    in_words: str
    scale: tuple[Triple, Triple]
    """Mean and standard deviation of values in [0, 1], unless the folder says otherwise."""
    side: int | None
    """Of the square, unless the folder says otherwise; None for networks that take one size alone, their own."""


FAMILIES = {
    "dinov2": Family("DINOv2", "Dinov2Model", _class_token, "class token", IMAGENET, 224),
    "dinov2_with_registers": Family(
        "DINOv2 with registers", "Dinov2WithRegistersModel", _class_token, "class token", IMAGENET, 224
    ),
    "clip": Family("CLIP", "CLIPModel", _image_embedding, "image embedding", CLIP, None),
    "clip_vision_model": Family(
        "CLIP", "CLIPVisionModelWithProjection", _image_embedding, "image embedding", CLIP, None
    ),
}
"""By the `model_type` of config.json."""


class OpenedVision(Opened):
    """A vision network from a folder.

    Args:
        folder: with config.json, weights as safetensors and, if it is there, preprocessor_config.json.
        source: what the user gave, for messages.

    Raises:
        ValueError: the folder holds another kind of network, or not all of one.
        ImportError: transformers is missing.
    """

    block: ClassVar[int] = 16

    def __init__(self, folder: Path, source: str) -> None:
        settings, family = _family(folder, source)
        net = _loaded(folder, family, source)
        preparation = _preparation(folder, settings, family, source)
        about: dict[str, Plain] = {"network": family.name, "feature": family.in_words}
        width = net.config.hidden_size if family.feature is _class_token else net.visual_projection.out_features
        super().__init__(width, digest(net.state_dict())[:16], {**about, **preparation.about()})
        self.net, self.preparation, self.feature = net, preparation, family.feature
        self.eval().requires_grad_(False)

    def both(self, items: Tensor) -> tuple[Tensor, None]:
        """Features (B, F) of pictures."""
        return self.feature(self.net, self.preparation(items)), None


def _family(folder: Path, source: str) -> tuple[dict[str, Plain], Family]:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{source} has no config.json; give a folder as transformers saves it, of DINOv2 or CLIP")
    settings = config.read_file(folder / "config.json")
    kind = settings.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"{source} holds a network of type {kind!r}; known are {', '.join(FAMILIES)}")
    return settings, FAMILIES[kind]


def _loaded(folder: Path, family: Family, source: str) -> Any:  # noqa: ANN401  # of a package without annotations
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"{family.name} needs transformers: pip install 'reverie[text]'") from error
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{source} has no *.safetensors; weights in another form are not read")
    # What transformers raises of a damaged folder is of many types.
    try:
        with _quiet():
            net, report = getattr(transformers, family.load).from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"{source} does not hold the {family.name} that its config.json tells of: {why}") from error
    missing = sorted(report["missing_keys"]) + sorted(str(each) for each in report["mismatched_keys"])
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"{source} is no whole {family.name}; missing: {', '.join(missing[:3])}{more}")
    for unused in ("text_model", "text_projection", "logit_scale"):
        if hasattr(net, unused):
            delattr(net, unused)
    return net.float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, transformers shows no bars and no reports: what is wrong is said by us."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _preparation(folder: Path, settings: Mapping[str, Plain], family: Family, source: str) -> Preparation:
    """As preprocessor_config.json has it, less the cropping: the whole picture is judged.

    Raises:
        ValueError: it asks for something else than a square of three colours, each less a mean and over a deviation.
    """
    path = folder / "preprocessor_config.json"
    told = config.read_file(path) if path.is_file() else {}
    own = settings.get("vision_config", settings)
    size = told.get("crop_size" if told.get("do_center_crop") else "size", family.side or own.get("image_size"))
    side, patch = _number(size), own.get("patch_size", 1)
    mean, std = (told.get(name, usual) for name, usual in zip(("image_mean", "image_std"), family.scale, strict=True))
    plain = all(told.get(name, True) for name in ("do_rescale", "do_normalize"))
    if not (side and plain and _is_triple(mean) and _is_triple(std)):
        raise ValueError(
            f"{path} prepares pictures in a way that is not known; right are a square size, and image_mean and "
            "image_std of three numbers each"
        )
    if side % patch or (family.side is None and side != own.get("image_size")):
        right = f"a multiple of {patch}" if family.side else own.get("image_size")
        raise ValueError(f"{source} wants pictures of {side}x{side}, and its network has another size: {right}")
    resize = RESAMPLE.get(told.get("resample", 3), bicubic)
    return Preparation(side, _scaled(mean), _scaled(std), resize)


def _scaled(each: Triple) -> Triple:
    """Of values in [0, 1], to values in [0, 255]."""
    red, green, blue = each
    return 255 * red, 255 * green, 255 * blue


def _number(size: Plain) -> int | None:
    """One side out of the ways in which transformers writes sizes; None of a rectangle."""
    sides = set(size.values()) if isinstance(size, dict) else {size}
    found = sides.pop() if len(sides) == 1 else None
    return found if isinstance(found, int) and found > 0 else None


def _is_triple(value: Plain) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int | float) for v in value)
