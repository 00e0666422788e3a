"""Samplers, one file each: `step` moves x from noise level t to s < t."""

from reverie.samplers.ancestral import Ancestral
from reverie.samplers.base import Sampler, State
from reverie.samplers.corrected import Corrected
from reverie.samplers.ddim import DDIM
from reverie.samplers.euler_maruyama import EulerMaruyama
from reverie.samplers.heun import Heun
from reverie.samplers.langevin import AnnealedLangevin
from reverie.samplers.reverse_diffusion import ReverseDiffusion

__all__ = [
    "DDIM",
    "Ancestral",
    "AnnealedLangevin",
    "Corrected",
    "EulerMaruyama",
    "Heun",
    "ReverseDiffusion",
    "Sampler",
    "State",
]
