"""Handwritten digits of 8 x 8 pixels: small enough to train on in a minute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reverie.data.base import Data, Examples


@dataclass(frozen=True)
class Digits(Data, kind="digits"):
    """The 1,797 digits that scikit-learn carries (Alpaydin and Kaynak, 1998; CC BY 4.0): (N, 1, 8, 8).

    Their values 0 to 16 become round(255 v / 16).
    """

    def load(self) -> Examples:
        """The digits.

        Raises:
            ValueError: scikit-learn is not installed.
        """
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ValueError("the digits come with scikit-learn: pip install scikit-learn") from error
        found = load_digits()
        items = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
        return Examples(items, found.target.astype(np.int64), tuple("0123456789"), image=True)
