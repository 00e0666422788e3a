"""Images and texts in the space that an image-text pair has learned for both.

Letters in shapes: N images or texts, E numbers of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.devices import usable
from reverie.digests import digest
from reverie.kept import folder, kept, key_of
from reverie.tensors import host, sent

if TYPE_CHECKING:
    from reverie.runs import Run

CLEAN = 0.01
"""sigma / alpha at which images are looked at: next to no noise."""
VERSION = 1
"""Part of every key of the cache; raise it when the same weights would make other embeddings."""
ROWS = 64
"""Images or texts at a time."""
LINE = 1e-6
"""The sine of an angle below which two vectors lie on one line, to rounding."""


class Joint:
    """The embeddings of a run of kind=pair, of length sqrt(E), so that their numbers are of about unit size.

    Args:
        run: of the pair.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.model = run, run.pair

    @property
    def width(self) -> int:
        """E."""
        return int(self.model.net.text.out.out_features)

    def images(self, items: np.ndarray | Tensor) -> Tensor:
        """(N, E) float32, of images as data."""
        like = next(self.model.parameters())
        t = self.run.schedule.time(host(-2 * math.log(CLEAN)))
        level = self.run.schedule.at(t, like=like)
        made = []
        with torch.no_grad():
            for first in range(0, len(items), ROWS):
                some = items[first : first + ROWS]
                if not isinstance(some, Tensor):
                    some = torch.from_numpy(np.array(some))  # a map that is read alone would be warned of
                x0 = self.run.space.encode(some)
                made.append(self.model.image(level.alpha * sent(x0, like), t).float().cpu())
        return math.sqrt(self.width) * torch.cat(made)

    def kept(self, items: np.ndarray) -> np.ndarray:
        """The same of a whole data set, computed once: see `reverie.kept`."""
        about = f"{VERSION} {self.run.encoding} {digest(self.model.net.state_dict())}"
        path, before = folder("embeddings") / f"{key_of(items, about)}.npy", next(self.model.parameters()).device

        def part(rows: slice) -> np.ndarray:
            self.model.to(usable(None))
            made: np.ndarray = self.images(items[rows]).numpy()
            return made

        found = kept(path, (len(items), self.width), part, "embeddings")
        self.model.to(before)
        return found

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, E) float32; a row of NaN for a text that is empty. Each different text is read once, by itself."""
        like = next(self.model.parameters())
        found: dict[str, Tensor] = {"": torch.full((self.width,), float("nan"))}
        reader = self.run.vocabulary.reader
        with torch.no_grad():
            for text in dict.fromkeys(text.strip() for text in texts):
                if text:
                    found[text] = self.model.text(reader.encode([text]).to(like.device))[0].float().cpu()
        return math.sqrt(self.width) * torch.stack([found[text.strip()] for text in texts])


def spherical(a: Tensor, b: Tensor, share: Tensor | float) -> Tensor:
    """Between a and b (N, E) on the sphere (Shoemake, 1985).

        cos(w o) u + sin(w o) c,  u = a / |a|, o the angle from a to b, c of unit length, across u and towards b

    Args:
        a: where w = 0.
        b: where w = 1; it comes out with the length of a. Where it is 0, a stays; where it is opposite to a, there is
            no shortest way, and the nearer of the two is taken.
        share: w, a number or (N,).
    """
    w = torch.as_tensor(share, dtype=a.dtype, device=a.device).expand(len(a))[:, None]
    u, v = F.normalize(a, dim=1), F.normalize(b, dim=1)
    cosine = (u * v).sum(1, keepdim=True)
    across = v - cosine * u
    sine = across.norm(dim=1, keepdim=True)
    angle = torch.atan2(sine, cosine)
    turned = (w * angle).cos() * u + (w * angle).sin() * across / sine.clamp(min=LINE)
    mixed = torch.where(sine > LINE, turned, torch.where((w < 0.5) | (cosine >= 0), u, v))
    return a.norm(dim=1, keepdim=True) * F.normalize(mixed, dim=1)
