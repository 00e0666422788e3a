"""Reverie: diffusion models whose mathematics is checked and whose runs describe themselves.

    x_t = alpha(t) x0 + sigma(t) eps,    t = 0 the data, t = 1 noise

A `Schedule` says how much signal and noise there is; a denoiser maps (x, t, cond) to a
`Prediction`; a `Sampler` moves x from t to s. `load` opens a run folder, `Trainer` trains one.
"""

import os

# Before torch is loaded: idle threads of its OpenMP (GNU) give way after 20,000 spins instead of millions. On an
# idle machine that costs nothing; beside another busy process the default is up to thirty times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from reverie.bound import variational_bound
from reverie.brownian import paths
from reverie.conditioning import Cond
from reverie.denoiser import Clipped, Denoiser, Denoises, Rescheduled
from reverie.exact import FiniteData, Gaussian, GaussianMixture
from reverie.grids import Angle, Karras, Knots, LogSNR, Sections, Tuned, Uniform
from reverie.guidance import ClassifierFree
from reverie.likelihood import log_likelihood
from reverie.losses import Denoising, Hybrid, VariationalBound
from reverie.parameterizations import EDM, X0, Eps, LearnedVariance, Score, V, Velocity
from reverie.prediction import Prediction, posterior
from reverie.recipe import Recipe, Train
from reverie.runs import Run, begin, load
from reverie.samplers import (
    DDIM,
    DEIS,
    LMS,
    PLMS,
    PNDM,
    RK4,
    Adams,
    Adaptive,
    Ancestral,
    AnnealedLangevin,
    Consistency,
    Corrected,
    DPMSolverPP,
    DPMSolverPP2S,
    DPMSolverPPSDE,
    EulerMaruyama,
    Heun,
    Midpoint,
    Picard,
    Restart,
    ReverseDiffusion,
    Sampler,
    SASolver,
    UniPC,
)
from reverie.sampling import generate, invert, prior, trajectory
from reverie.schedules import VE, Cosine, Flow, Geometric, Level, LinearVP, Schedule, Shifted, SubVP, Table
from reverie.sde import sde
from reverie.tensors import streams
from reverie.training import Report, Trainer
from reverie.version import __version__

__all__ = [
    "DDIM",
    "DEIS",
    "EDM",
    "LMS",
    "PLMS",
    "PNDM",
    "RK4",
    "VE",
    "X0",
    "Adams",
    "Adaptive",
    "Ancestral",
    "Angle",
    "AnnealedLangevin",
    "ClassifierFree",
    "Clipped",
    "Cond",
    "Consistency",
    "Corrected",
    "Cosine",
    "DPMSolverPP",
    "DPMSolverPP2S",
    "DPMSolverPPSDE",
    "Denoiser",
    "Denoises",
    "Denoising",
    "Eps",
    "EulerMaruyama",
    "FiniteData",
    "Flow",
    "Gaussian",
    "GaussianMixture",
    "Geometric",
    "Heun",
    "Hybrid",
    "Karras",
    "Knots",
    "LearnedVariance",
    "Level",
    "LinearVP",
    "LogSNR",
    "Midpoint",
    "Picard",
    "Prediction",
    "Recipe",
    "Report",
    "Rescheduled",
    "Restart",
    "ReverseDiffusion",
    "Run",
    "SASolver",
    "Sampler",
    "Schedule",
    "Score",
    "Sections",
    "Shifted",
    "SubVP",
    "Table",
    "Train",
    "Trainer",
    "Tuned",
    "UniPC",
    "Uniform",
    "V",
    "VariationalBound",
    "Velocity",
    "__version__",
    "begin",
    "generate",
    "invert",
    "load",
    "log_likelihood",
    "paths",
    "posterior",
    "prior",
    "sde",
    "streams",
    "trajectory",
    "variational_bound",
]
