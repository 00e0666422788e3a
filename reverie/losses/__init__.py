"""Losses: what is compared, at which times, with which weight."""

from reverie.losses.base import Loss, OneLevel, Pointwise
from reverie.losses.bound import Hybrid, VariationalBound
from reverie.losses.contrastive import Contrastive
from reverie.losses.cross_entropy import CrossEntropy
from reverie.losses.denoising import Denoising
from reverie.losses.pairings import Independent, OptimalTransport, Pairing
from reverie.losses.penalties import Huber, Penalty, PseudoHuber, Squared
from reverie.losses.perceptual import Perceptual
from reverie.losses.reconstruction import Reconstruction
from reverie.losses.resampling import Resampled
from reverie.losses.score_matching import SlicedScoreMatching
from reverie.losses.self_conditioning import SelfConditioned
from reverie.losses.times import KnotTimes, LogitNormalTimes, LogNormalTimes, Times, UniformTimes
from reverie.losses.uncertainty import Uncertain
from reverie.losses.weights import (
    P2,
    EDMWeight,
    LikelihoodWeight,
    MinSNR,
    SigmaSquared,
    SigmoidWeight,
    SoftMinSNR,
    Unit,
    Weight,
)

__all__ = [
    "P2",
    "Contrastive",
    "CrossEntropy",
    "Denoising",
    "EDMWeight",
    "Huber",
    "Hybrid",
    "Independent",
    "KnotTimes",
    "LikelihoodWeight",
    "LogNormalTimes",
    "LogitNormalTimes",
    "Loss",
    "MinSNR",
    "OneLevel",
    "OptimalTransport",
    "Pairing",
    "Penalty",
    "Perceptual",
    "Pointwise",
    "PseudoHuber",
    "Reconstruction",
    "Resampled",
    "SelfConditioned",
    "SigmaSquared",
    "SigmoidWeight",
    "SlicedScoreMatching",
    "SoftMinSNR",
    "Squared",
    "Times",
    "Uncertain",
    "UniformTimes",
    "Unit",
    "VariationalBound",
    "Weight",
]
