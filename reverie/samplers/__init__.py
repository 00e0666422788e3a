"""Samplers, one file each: `step` moves x from noise level t to s < t."""

from reverie.samplers.adams import Adams
from reverie.samplers.adaptive import Adaptive
from reverie.samplers.ancestral import Ancestral
from reverie.samplers.base import Sampler, State
from reverie.samplers.consistency import Consistency
from reverie.samplers.corrected import Corrected
from reverie.samplers.ddim import DDIM
from reverie.samplers.deis import DEIS
from reverie.samplers.dpmpp import DPMSolverPP
from reverie.samplers.dpmpp_2s import DPMSolverPP2S
from reverie.samplers.dpmpp_sde import DPMSolverPPSDE
from reverie.samplers.euler_maruyama import EulerMaruyama
from reverie.samplers.heun import Heun
from reverie.samplers.jump import Jump
from reverie.samplers.langevin import AnnealedLangevin
from reverie.samplers.lms import LMS
from reverie.samplers.picard import Picard
from reverie.samplers.pndm import PLMS, PNDM
from reverie.samplers.restart import Restart
from reverie.samplers.reverse_diffusion import ReverseDiffusion
from reverie.samplers.runge_kutta import RK4, Midpoint
from reverie.samplers.sa_solver import SASolver
from reverie.samplers.unipc import UniPC
from reverie.samplers.weighed import Weighed

__all__ = [
    "DDIM",
    "DEIS",
    "LMS",
    "PLMS",
    "PNDM",
    "RK4",
    "Adams",
    "Adaptive",
    "Ancestral",
    "AnnealedLangevin",
    "Consistency",
    "Corrected",
    "DPMSolverPP",
    "DPMSolverPP2S",
    "DPMSolverPPSDE",
    "EulerMaruyama",
    "Heun",
    "Jump",
    "Midpoint",
    "Picard",
    "Restart",
    "ReverseDiffusion",
    "SASolver",
    "Sampler",
    "State",
    "UniPC",
    "Weighed",
]
