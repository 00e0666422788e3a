"""What a guide is: the settings that say how samples are guided, without the scale."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from reverie.conditioning import Cond
from reverie.config import Part
from reverie.denoiser import Denoises


@dataclass(frozen=True)
class Guide(Part, abc.ABC, family="guide"):
    """Wraps a denoiser, for one trajectory."""

    usual = "classifier_free"
    neutral: ClassVar[float] = 1.0
    """The scale at which nothing is guided: 1 where two predictions are weighed, 0 where a gradient is added."""

    @property
    def needs(self) -> str:
        """The run of the other model that guides; '' where there is none."""
        return ""

    @abc.abstractmethod
    def wrap(self, f: Denoises, scale: float, helper: object | None = None, negative: Cond | None = None) -> Denoises:
        """The denoiser, guided.

        Args:
            f: the denoiser.
            scale: how strongly; `neutral` is not at all.
            helper: the other model, opened.
            negative: what is led away from in the place of no condition, one row or one for each example.

        Raises:
            ValueError: the other model is missing, or a negative condition is given that means nothing here.
        """


@dataclass(frozen=True)
class GuideByRun(Guide):
    """One whose other model is that of a run, as the class's `needed` says.

    Raises:
        ValueError: no run.
    """

    run: str
    """The folder of the other model's run."""

    def __post_init__(self) -> None:
        if not self.run:
            raise ValueError(f"guide.kind={self.kind} needs guide.run, {self.needed}; given none")

    @property
    def needs(self) -> str:
        return self.run

    def checked(self, helper: object | None, negative: Cond | None) -> object:
        """The other model, which alone guides.

        Raises:
            ValueError: it is not given, or a negative condition is.
        """
        if helper is None:
            raise ValueError(f"guide.kind={self.kind} needs the opened run {self.run}; given none")
        if negative is not None:
            raise ValueError(
                f"guide.kind={self.kind} leads away from no condition; leave the negative one out, or take "
                f"guide.kind=classifier_free"
            )
        return helper
