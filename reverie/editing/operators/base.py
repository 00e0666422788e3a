r"""What a linear operator is, and its singular values.

H = U S V^T, with U and V orthogonal and S diagonal. In the coordinates z = V^T x of its spectrum an operator only
scales each number by its singular value, so what is hard to say of images is said of numbers one by one.

Letters in shapes: B batch, n numbers of an example, ... the shape of one example, m... that of one measurement.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

from torch import Tensor

from reverie.config import Part


class Spectrum(abc.ABC):
    """H = U S V^T for examples of one shape, in one dtype on one device."""

    values: Tensor
    """(n,), the singular values, 0 where nothing is measured."""

    @abc.abstractmethod
    def of(self, x: Tensor) -> Tensor:
        """z = V^T x, (B, n), of x (B, ...)."""

    @abc.abstractmethod
    def back(self, z: Tensor) -> Tensor:
        """x = V z, (B, ...), of z (B, n)."""

    @abc.abstractmethod
    def measured(self, y: Tensor) -> Tensor:
        """U^T y, (B, n), of y (B, m...): S z for y = H x, and 0 where the singular value is."""

    def inverse(self) -> Tensor:
        """1 / values, (n,), and 0 where they are."""
        seen = self.values > 0
        return seen / self.values.where(seen, 1.0)


class Operator(Part, abc.ABC, family="operator"):
    """A linear map of images in the model's space to measurements; those with a `kind` are made of settings alone."""

    @abc.abstractmethod
    def shape(self, measured: Sequence[int]) -> tuple[int, ...]:
        """The shape of the examples of which measurements have the shape (m...).

        Raises:
            ValueError: none have.
        """

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """H x, (B, m...), of x (B, ...).

        Raises:
            ValueError: examples of a shape that it does not take.
        """

    @abc.abstractmethod
    def transpose(self, y: Tensor) -> Tensor:
        """H^T y, (B, ...), of y (B, m...): <H x, y> = <x, H^T y>."""

    @abc.abstractmethod
    def spectrum(self, x: Tensor) -> Spectrum:
        """The singular values for examples of the shape, dtype and device of x (B, ...)."""

    def pinv(self, y: Tensor) -> Tensor:
        """H^+ y = V S^+ U^T y, (B, ...): the smallest of the images that come closest to y (B, m...)."""
        spectrum = self.spectrum(y.new_empty((0, *self.shape(y.shape[1:]))))
        return spectrum.back(spectrum.inverse() * spectrum.measured(y))
