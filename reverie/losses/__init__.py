"""Losses: what is compared, at which times, with which weight."""

from reverie.losses.base import Loss, OneLevel, Pointwise
from reverie.losses.bound import Hybrid, VariationalBound
from reverie.losses.consistency import ConsistencyMatching
from reverie.losses.continuous_consistency import ContinuousConsistency
from reverie.losses.contrastive import Contrastive
from reverie.losses.cross_entropy import CrossEntropy
from reverie.losses.denoising import Denoising
from reverie.losses.distribution_matching import DistributionMatching
from reverie.losses.imitation import Imitation
from reverie.losses.mean_flow import MeanFlow, Shortcut
from reverie.losses.pairings import Independent, OptimalTransport, Pairing
from reverie.losses.penalties import Huber, Penalty, PseudoHuber, Squared
from reverie.losses.perceptual import Perceptual
from reverie.losses.progressive import Progressive
from reverie.losses.reconstruction import Reconstruction
from reverie.losses.reflow import Reflow
from reverie.losses.resampling import Resampled
from reverie.losses.score_matching import SlicedScoreMatching
from reverie.losses.self_conditioning import SelfConditioned
from reverie.losses.teaching import Taught
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
    TruncatedSNR,
    Unit,
    Weight,
)

__all__ = [
    "P2",
    "ConsistencyMatching",
    "ContinuousConsistency",
    "Contrastive",
    "CrossEntropy",
    "Denoising",
    "DistributionMatching",
    "EDMWeight",
    "Huber",
    "Hybrid",
    "Imitation",
    "Independent",
    "KnotTimes",
    "LikelihoodWeight",
    "LogNormalTimes",
    "LogitNormalTimes",
    "Loss",
    "MeanFlow",
    "MinSNR",
    "OneLevel",
    "OptimalTransport",
    "Pairing",
    "Penalty",
    "Perceptual",
    "Pointwise",
    "Progressive",
    "PseudoHuber",
    "Reconstruction",
    "Reflow",
    "Resampled",
    "SelfConditioned",
    "Shortcut",
    "SigmaSquared",
    "SigmoidWeight",
    "SlicedScoreMatching",
    "SoftMinSNR",
    "Squared",
    "Taught",
    "Times",
    "TruncatedSNR",
    "Uncertain",
    "UniformTimes",
    "Unit",
    "VariationalBound",
    "Weight",
]
