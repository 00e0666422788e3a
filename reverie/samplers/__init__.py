"""Samplers, one file each: `step` moves x from noise level t to s < t."""

from reverie.samplers.ancestral import Ancestral
from reverie.samplers.base import Sampler, State
from reverie.samplers.ddim import DDIM
from reverie.samplers.heun import Heun

__all__ = ["DDIM", "Ancestral", "Heun", "Sampler", "State"]
