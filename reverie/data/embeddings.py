"""What an image-text pair makes of the images of another source, for the prior of unCLIP to learn.

Letters in shapes: N examples, E numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from reverie.data.base import Data, Examples, Split, groups, joined


@dataclass(frozen=True)
class Embeddings(Data, kind="embeddings"):
    """Embeddings (N, E) of the images of another source, of length sqrt(E), with their captions and labels.

    Every split of the same share and seed is that of the images.

    Attributes:
        data: the source of the images.
        pair: a run of kind=pair.
    """

    data: Data
    pair: str

    def load(self) -> Examples:
        """The embeddings.

        Raises:
            ValueError: there is no such pair, or it is for other images.
        """
        from reverie.joint import Joint
        from reverie.runs import fingerprint, load
        from reverie.stages import weights_of

        images, run = self.data.load(), load(Path(self.pair))
        if images.shape != run.facts.shape:
            raise ValueError(f"data.pair={self.pair} is for images of {run.facts.shape}; these are of {images.shape}")
        items = Joint(run).kept(images.items)
        related = joined(groups(images.items), images.related)
        return replace(
            images, items=items, image=False, related=related, origin=f"{fingerprint(images)} {weights_of(run)}"
        )

    def split(self, examples: Examples, validation: float, seed: int) -> Split:
        """That of the images.

        Raises:
            ValueError: as for their source.
        """
        assert examples.related is not None
        return self.data.split(replace(examples, items=examples.related[:, None], image=False), validation, seed)
