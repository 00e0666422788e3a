"""Which stage of a system of several models is at fault, in numbers and a sentence each.

    ceiling     what an autoencoder loses, and a model of its latents cannot bring back
    latents     whether what the model learns is what its sampler begins with
    upsampler   whether a network looks at the small picture that it is to enlarge
    shares      how much of the distance from the data each stage brings
    prior       whether predicted image embeddings are nearer the true ones than what is at hand without a model

All are functions of what they are given: the same twice. `Case` puts the first four to a run.
"""

from reverie.diagnosis.case import DIAGNOSES, Case, diagnoses
from reverie.diagnosis.ceiling import Ceiling, ceiling
from reverie.diagnosis.distances import Distance, Ruler
from reverie.diagnosis.found import Found, Unmeasured
from reverie.diagnosis.latents import Latents, latents
from reverie.diagnosis.prior import PriorFound, cosines
from reverie.diagnosis.shares import Shares, Step, shares
from reverie.diagnosis.upsampler import Agreement, Level, UpsamplerFound, agreement, upsampler

__all__ = [
    "DIAGNOSES",
    "Agreement",
    "Case",
    "Ceiling",
    "Distance",
    "Found",
    "Latents",
    "Level",
    "PriorFound",
    "Ruler",
    "Shares",
    "Step",
    "Unmeasured",
    "UpsamplerFound",
    "agreement",
    "ceiling",
    "cosines",
    "diagnoses",
    "latents",
    "shares",
    "upsampler",
]
