"""What a backbone is: settings that build a network for one shape of example.

Letters in shapes: B batch, C channels, H height, W width of an image, `shape` the shape of one example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from reverie.config import Part, registered


class NetConfig(Part, ABC, family="net"):
    """Settings of a backbone, a frozen dataclass.

    What `build` returns is called as `net(x, label, cond)`:

    - `x`, (B, inputs C, ...), the input, for examples of shape (C, ...);
    - `label`, (B,), the time label: about 0..1000 or a log-SNR of about -5..5;
    - `cond`, a `reverie.conditioning.Cond` or None.

    It returns a tensor of (B, outputs C, ...) in the dtype of `x`, exactly 0 before any training, and
    treats every example alone: no result depends on the other examples of the batch.
    """

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int = 0, inputs: int = 1, outputs: int = 1) -> nn.Module:
        """A new network, initialised from torch's global generator.

        Args:
            shape: the shape of one example, such as (C, H, W).
            classes: how many labels there are; 0 for none.
            inputs: how many tensors like an example come in, stacked along their first axis.
            outputs: how many go out.

        Raises:
            ValueError: this kind has no use for such a shape; the message names the kinds that do.
        """

    @classmethod
    @abstractmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Whether this kind takes examples of that shape."""

    def require(self, shape: tuple[int, ...]) -> None:
        """Refuse a shape that does not fit.

        Raises:
            ValueError: as in `build`.
        """
        if not self.fits(shape):
            fitting = [kind for kind, cls in registered(NetConfig).items() if cls.fits(shape)]  # type: ignore[attr-defined]
            raise ValueError(
                f"net {self.kind!r} has no use for examples of shape {tuple(shape)}; "
                f"kinds that fit: {', '.join(fitting) or 'none'}"
            )


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether `shape` is (C, H, W) with at least one of each."""
    return len(shape) == 3 and min(shape) >= 1


def at_least_one(kind: str, **settings: int) -> None:
    """Refuse settings below 1.

    Raises:
        ValueError: one of them is; the message names it.
    """
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"{name} of net {kind!r} must be at least 1, given {value}")


def a_fraction(kind: str, dropout: float) -> None:
    """Refuse a dropout outside [0, 1).

    Raises:
        ValueError: it is outside.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout of net {kind!r} must be at least 0 and below 1, given {dropout}")
