r"""What is known of an image.

Letters in shapes: B batch, ... the shape of one example, m... that of one measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.editing.operators import Operator


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = H x0 + noise z, with z standard normal.

    Raises:
        ValueError: a negative amount of noise.
    """

    operator: Operator
    """H."""
    y: Tensor
    """(B, m...), or (1, m...) for the whole batch."""
    noise: float = 0.0
    """Its standard deviation, in the model's space."""

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ValueError(f"the noise of a measurement is a standard deviation of at least 0; given {self.noise}")

    def rows(self, x: Tensor) -> Tensor:
        """y for each example of x (B, ...), in its dtype on its device; repeated whole for samplers that ask for more.

        Raises:
            ValueError: B is no multiple of the number of measurements.
        """
        n, own = len(x), len(self.y)
        if n % own:
            raise ValueError(f"{own} measurements for a batch of {n}; give one an example, or one for all")
        y = self.y.to(x)
        return y.expand(n, *y.shape[1:]) if own == 1 else y.repeat(n // own, *(1,) * (y.ndim - 1))

    def residual(self, x0: Tensor) -> Tensor:
        """y - H x0, (B, m...)."""
        return self.rows(x0) - self.operator.forward(x0)
