"""Methods by name: settings that, given a measurement, change the denoiser or the sampler."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from reverie.config import Part
from reverie.denoiser import Denoises
from reverie.editing.ddrm import DDRM, MeasuredPath
from reverie.editing.dps import DPS
from reverie.editing.measurement import Measurement
from reverie.editing.operators import Mask
from reverie.editing.pigdm import MomentMatched, PiGDM
from reverie.editing.resampling import repaint
from reverie.samplers import Sampler

Pair = tuple[Denoises, Sampler]


class Method(Part, abc.ABC, family="method"):
    """How a measurement is heeded."""

    own: bool = False
    """Whether the method is a sampler of its own, in place of the one it is given."""

    @abc.abstractmethod
    def on(self, f: Denoises, sampler: Sampler, measurement: Measurement) -> Pair:
        """The denoiser and the sampler to generate with.

        Raises:
            ValueError: settings out of range, or a measurement that the method cannot use.
        """


@dataclass(frozen=True)
class DPSMethod(Method, kind="dps"):
    """See `reverie.editing.DPS`."""

    zeta: float = 1.0

    def on(self, f: Denoises, sampler: Sampler, measurement: Measurement) -> Pair:
        return f, DPS(measurement, sampler, self.zeta)


@dataclass(frozen=True)
class PiGDMMethod(Method, kind="pigdm"):
    """See `reverie.editing.PiGDM`."""

    variance: float = 1.0

    def on(self, f: Denoises, sampler: Sampler, measurement: Measurement) -> Pair:
        return PiGDM(f, measurement, self.variance), sampler


@dataclass(frozen=True)
class MomentsMethod(Method, kind="moments", aliases={"mmps": {}, "tmpd": {}}):
    """See `reverie.editing.MomentMatched`."""

    iterations: int = 1
    variance: float = 1.0

    def on(self, f: Denoises, sampler: Sampler, measurement: Measurement) -> Pair:
        return MomentMatched(f, measurement, self.iterations, self.variance), sampler


@dataclass(frozen=True)
class DDRMMethod(Method, kind="ddrm"):
    """See `reverie.editing.DDRM`."""

    eta: float = 0.85
    eta_b: float = 1.0

    own = True

    def on(self, f: Denoises, sampler: Sampler, measurement: Measurement) -> Pair:
        return f, DDRM(measurement, self.eta, self.eta_b)


@dataclass(frozen=True)
class PathMethod(Method, kind="path"):
    """See `reverie.editing.MeasuredPath`."""

    eta: float = 1.0

    own = True

    def on(self, f: Denoises, sampler: Sampler, measurement: Measurement) -> Pair:
        return f, MeasuredPath(measurement, self.eta)


@dataclass(frozen=True)
class RePaintMethod(Method, kind="repaint", aliases={"replacement": {"times": 1}}):
    """See `reverie.editing.repaint`; for masks, whose known pixels have no noise."""

    length: int = 10
    times: int = 10

    def on(self, f: Denoises, sampler: Sampler, measurement: Measurement) -> Pair:
        operator = measurement.operator
        if not isinstance(operator, Mask) or measurement.noise:
            what = "noisy pixels" if isinstance(operator, Mask) else type(operator).__name__.lower()
            raise ValueError(
                f"repaint is for known pixels without noise, given {what}; take --method pigdm or --method path"
            )
        return f, repaint(measurement.y, operator.known, sampler, self.length, self.times)
