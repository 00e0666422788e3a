"""A recipe: everything a run is made of, as one frozen value that a file can hold.

A recipe is layered: the defaults below, then a named recipe or a file, then `key=value` overrides.
What depends on the data (`space`, `net`) may be left out and is filled in by `completed`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reverie import config
from reverie.autoencoders import AutoencoderConfig, KLConfig
from reverie.data import Data
from reverie.data.embeddings import Embeddings
from reverie.grids import Angle, Grid, checked_times
from reverie.guidance import Guide
from reverie.image_conditions import ImageCondition, LowResolution
from reverie.losses import Contrastive, CrossEntropy, Denoising, LogitNormalTimes, Loss, Reconstruction
from reverie.losses.base import layers
from reverie.nets import NetConfig, suited
from reverie.parameterizations import Parameterization, Velocity
from reverie.samplers import Adams, Sampler
from reverie.schedules import Flow, Schedule
from reverie.spaces import Latent, Pixels, Space, Standardized
from reverie.text import TextEncoder, Transformer
from reverie.time_labels import LogSNR, TimeLabel

LIBRARY = Path(__file__).parent / "recipes"
Kind = Literal["denoiser", "classifier", "pair", "autoencoder"]
"""What is trained."""
LOSSES: dict[str, Loss] = {
    "denoiser": Denoising("flow", LogitNormalTimes()),
    "classifier": CrossEntropy(),
    "pair": Contrastive(),
    "autoencoder": Reconstruction(),
}
"""The loss of each, unless given."""


@dataclass(frozen=True)
class Train:
    """How a run is trained.

    Raises:
        ValueError: a number out of its range, named.
    """

    steps: int = 20_000
    batch: int = 64
    """Examples a step on each process, times `accumulate`."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    seed: int = 0
    start: str = ""
    """A run whose weights this one begins with; what its network has more of begins as it would otherwise, or at 0."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for the matrices inside the network and AdamW for the rest."""
    lr: float = 3e-4
    warmup: int = 100
    """Steps over which the learning rate rises linearly from 0."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls to 0 at the last step."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float = 1.0
    """The largest norm of the gradient; larger ones are scaled down to it."""
    ema: float = 0.999
    """Decay a step of the averaged weights, (1 + n) / (10 + n) at step n where that is less."""
    ema_lengths: tuple[float, ...] = (0.05, 0.1)
    """Power-function averages kept for `reverie ema`: the width of each as a share of the steps; [] for none."""
    snapshots: int = 8
    """How often in a run they are stored."""
    drop: float = 0.1
    """Probability that an example's condition is hidden, for classifier-free guidance."""
    drop_part: float = 0.1
    """Probability that each part of a condition of several parts is hidden by itself, so that it may be left out."""
    flip: bool = False
    """Mirror half of the images left to right."""
    validation: float = 0.1
    """Share of the data held out, where the source has no test split of its own."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the network."""
    tf32: bool = False
    """On CUDA, products and convolutions of float32 numbers on tensor cores, with 10 bits of their 23."""
    compile: bool = False
    """Compile the network of the training step with torch.compile, which takes a minute or more."""
    checkpointing: bool = False
    """Compute the inside of blocks again in the backward pass: less memory, a third more work."""
    log_every: int = 50
    validate_every: int = 500
    sample_every: int = 1000
    save_every: int = 1000
    keep: int = 2
    """How many states to resume from are kept."""
    report_to: tuple[str, ...] = ()
    """Trackers besides metrics.jsonl: tensorboard, wandb and others that accelerate knows."""

    def __post_init__(self) -> None:
        every = ("log_every", "validate_every", "sample_every", "save_every")
        for name in ("batch", "accumulate", *every, "keep", "snapshots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; given {getattr(self, name)}")
        for name in ("steps", "seed", "warmup", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0; given {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0; given {getattr(self, name)}")
        for name in ("ema", "validation", "drop", "drop_part", "betas"):
            value = getattr(self, name)
            if not all(0 <= v < 1 for v in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name} must lie in [0, 1); given {value}")
        if not all(0 < v <= 0.28 for v in self.ema_lengths) or len({*self.ema_lengths}) < len(self.ema_lengths):
            raise ValueError(
                f"ema_lengths must be different shares greater than 0 and at most 0.28, such as [0.05, 0.1], or [] for "
                f"no power-function averages; given {list(self.ema_lengths)}"
            )


@dataclass(frozen=True)
class Sampling:
    """How a run is sampled unless told otherwise.

    Raises:
        ValueError: a negative guidance scale, or a number that is not finite.
    """

    sampler: Sampler = field(default_factory=Adams)
    grid: Grid = field(default_factory=lambda: Angle(20))
    guidance: float = 1.0
    """Scale of guidance; 1 is none, for a classifier or a pair that guides 0."""
    clip: bool = False
    """Hold the predicted data inside the range of pixels, [-1, 1]."""
    guide: Guide | None = None
    """How samples are guided; classifier-free unless given."""
    augmentation: float = 0.0
    """Of a cascade, how much noise is put on the small pictures before they are enlarged, as in training."""
    truncated: bool = False
    """Of a cascade, whether the base is stopped where so much of its own noise is left, and none is added."""
    threshold: float = 0.0
    """Dynamic thresholding of the predicted data at this quantile, such as 0.995; 0 for none."""
    candidates: int = 1
    """Of a prior, how many embeddings it draws for each sample of the run above; the nearest to the text's is kept."""

    def __post_init__(self) -> None:
        check_finite(config.to_data(self))
        if self.guidance < 0:
            raise ValueError(f"guidance must be at least 0 (1 is none); given {self.guidance}")
        if not 0 <= self.augmentation < 1:
            raise ValueError(f"augmentation is a level of noise, at least 0 and below 1; given {self.augmentation}")
        if self.truncated and not self.augmentation:
            raise ValueError("truncated=true leaves noise on small pictures; give augmentation, its level, such as 0.1")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is a quantile, above 0 and up to 1, or 0 for none; given {self.threshold}")
        if self.candidates < 1:
            raise ValueError(f"candidates are at least 1, of which the best is kept; given {self.candidates}")

    def check(self, space: Space) -> None:
        """Refuse clipping of data without a range.

        Raises:
            ValueError: they are no pixels.
        """
        if self.clip and not space.bounded:
            raise ValueError("clip=true holds pixels in their range; these data are not 8-bit images")
        if self.threshold and not space.bounded:
            raise ValueError("threshold brings pixels into their range; these data are not 8-bit images")

    def check_levels(self, condition: ImageCondition | None) -> None:
        """Refuse noise on small pictures that a model of this condition has not learned with.

        Raises:
            ValueError: it enlarges no pictures, or the level was not in training.
        """
        if not self.augmentation:
            return
        given = f"augmentation={self.augmentation:g}"
        if not isinstance(condition, LowResolution):
            raise ValueError(
                f"{given} is noise on small pictures, which image_condition.kind=low_resolution enlarges; leave it out"
            )
        if self.augmentation > condition.noise:
            wanted = f"at most noise={condition.noise:g}" if condition.noise else "0, for noise is 0"
            raise ValueError(
                f"augmentation is one of the levels of training alone, at least 0 and {wanted}; "
                f"given {self.augmentation:g}"
            )

    def completed(self, space: Space, shape: Sequence[int]) -> Sampling:
        """With what the data say filled in, where a sampler or a grid asks for it and was not told.

        `std` is the scale of data of this shape. They have a `density` unless they lie on a grid.
        """
        told = {"std": space.scale(shape), "density": space.quantum == 0}
        made = self
        for name in ("sampler", "grid"):
            part = getattr(self, name)
            missing = {k: v for k, v in told.items() if getattr(part, k, v) is None}
            if missing:
                made = dataclasses.replace(made, **{name: dataclasses.replace(part, **missing)})
        return made


@dataclass(frozen=True)
class Evaluating:
    """How samples are compared with the training examples while a run trains; the best weights are kept.

    Raises:
        ValueError: a number out of its range, named.
    """

    every: int = 0
    """Steps between two evaluations, the last step having one too; 0 for none."""
    n: int = 512
    """Samples drawn for each, compared with up to four times as many training examples."""
    metric: str = ""
    """By which weights are the best; kid in features of a network, sliced_wasserstein in others, unless given."""
    extractor: str = ""
    """In whose features: a kind or the path of a file; by the data unless given."""
    patience: int = 0
    """Training ends after so many evaluations without a better one; 0 for never."""
    steps: int = 50
    """Of the sampler, at the most."""
    seed: int = 0
    """Of the samples, and of the choice of training examples."""

    def __post_init__(self) -> None:
        for name, least in (("every", 0), ("n", 2), ("patience", 0), ("steps", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; given {getattr(self, name)}")


@dataclass(frozen=True)
class Recipe:
    """Data, process, network, loss, training and sampling of a run.

    Raises:
        ValueError: parts that cannot work together, with what would; a number that is not finite.
    """

    data: Data
    kind: Kind = "denoiser"
    """What is trained: what samples are drawn from, a classifier or an image-text pair that guides it, or an
    autoencoder whose latents it learns."""
    space: Space | None = None
    """Pixels for images, else Standardized, unless given."""
    labels: bool = True
    """Whether the classes of the data, if any, condition the model."""
    attributes: tuple[str, ...] | None = None
    """Which attributes of the data condition the model; all of them unless given, [] for none."""
    captions: bool = True
    """Whether the captions of the data, if any, condition the model."""
    text: TextEncoder | None = None
    """How captions are read; by a small transformer that is trained with the model unless given."""
    embedding: Literal["none", "image", "text"] = "none"
    """An embedding that conditions the model, of an example's image or of its caption, by the stage `pair` (unCLIP)."""
    image_condition: ImageCondition | None = None
    """An image that conditions the model, and how it is made of an example; none unless given."""
    schedule: Schedule = field(default_factory=Flow)
    parameterization: Parameterization = field(default_factory=Velocity)
    time_label: TimeLabel = field(default_factory=LogSNR)
    net: NetConfig | None = None
    """Chosen by the shape of the data unless given: see `reverie.nets.suited`. An autoencoder has none."""
    autoencoder: AutoencoderConfig | None = None
    """The network of kind=autoencoder; a convolutional one with a posterior (kl) unless given."""
    loss: Loss = field(default_factory=lambda: LOSSES["denoiser"])
    train: Train = field(default_factory=Train)
    sample: Sampling = field(default_factory=Sampling)
    evaluate: Evaluating = field(default_factory=Evaluating)

    def __post_init__(self) -> None:
        check_finite(config.to_data(self))
        self._check_kind()
        if self.sample.guide is not None and self.sample.guide.needs:
            raise ValueError(
                f"sample.guide.run={self.sample.guide.needs} names a folder, and a recipe travels without it; "
                f"give it when sampling: reverie sample RUN guide.kind={self.sample.guide.kind} guide.run=..."
            )
        self.parameterization.check(self.schedule)
        self._check_chain()
        self.loss.check(self.schedule, self.parameterization)
        self._check_checkpointing()
        self.sample.sampler.check(self.schedule, checked_times(self.sample.grid(self.schedule)))

    def _check_kind(self) -> None:
        """A loss trains one kind of model, and a guide has no use for what draws samples, or is told to a denoiser."""
        if self.loss.trains != self.kind:
            inner = list(layers(self.loss))[-1]
            raise ValueError(
                f"loss.kind={inner.kind} is for kind={inner.trains}, and kind is {self.kind}: use "
                f"loss.kind={LOSSES[self.kind].kind}"
            )
        if self.autoencoder is not None and self.kind != "autoencoder":
            raise ValueError(
                f"autoencoder.kind={self.autoencoder.kind} is the network of kind=autoencoder; kind is {self.kind}"
            )
        if self.kind == "denoiser":
            return
        unfit = {
            "evaluate.every=0": self.evaluate.every > 0,
            "labels=true": self.kind == "classifier" and not self.labels,
            "captions=true": self.kind == "pair" and not self.captions,
            f"loss.kind={LOSSES[self.kind].kind}": self.loss.self_conditions,
            "image_condition=none": self.image_condition is not None,
            "embedding=none": self.embedding != "none",
            "loss.kind=reconstruction": self.kind == "autoencoder" and not isinstance(self.loss, Reconstruction),
            "space.kind=pixels": self.kind == "autoencoder" and isinstance(self.space, Latent),
        }
        if needed := [words for words, wrong in unfit.items() if wrong]:
            learns = "what it is shown" if self.kind == "autoencoder" else "what the data are called"
            raise ValueError(f"kind={self.kind} has no samples, and learns {learns}: set {needed[0]}")

    def _check_chain(self) -> None:
        """A chain's number of steps stands in its betas and its time label: they must agree."""
        total, knots = getattr(self.time_label, "total", None), self.schedule.knots
        if None not in (total, knots) and total != knots:
            raise ValueError(f"time_label.total is {total}, and the chain has {knots} steps; make them equal")

    def _check_checkpointing(self) -> None:
        """What is computed again must be what was computed: a derivative of a derivative comes by other kernels."""
        if self.train.checkpointing and any(loss.kind == "sliced_score_matching" for loss in layers(self.loss)):
            raise ValueError(
                "train.checkpointing=true forgets what loss.kind=sliced_score_matching differentiates twice; set "
                "train.checkpointing=false, or a smaller train.batch with train.accumulate where memory is short"
            )

    @property
    def reads(self) -> bool:
        """Whether captions, where there are any, condition the model."""
        return self.captions and self.kind not in ("classifier", "autoencoder")

    @property
    def named(self) -> bool:
        """Whether the classes of the data, if any, condition the model."""
        return self.labels and self.kind != "autoencoder"

    def completed(self, shape: tuple[int, ...], image: bool, captioned: bool = False) -> Recipe:
        """The recipe with what depends on the data filled in.

        Raises:
            ValueError: settings that these data have no use for, with what would fit.
        """
        space = self.space or (Pixels() if image else Standardized())
        space.check(image)
        if self.loss.quantised and not space.bounded:
            inner = list(layers(self.loss))
            raise ValueError(
                f"loss.kind={inner[-1].kind} counts the bins of 8-bit pixels, and these data are none: "
                f"set {'loss.' * len(inner)}bins=0"
            )
        if self.text is not None and self.reads and not captioned:
            raise ValueError(
                f"the recipe draws by a text (text.kind={self.text.kind}), and these data have no captions: bring "
                "some, as metadata.jsonl or image.txt beside image.png, or set captions=false"
            )
        if self.image_condition is not None:
            self._check_image_condition(self.image_condition, image, space)
        self.check_sampling(self.sample)
        if self.embedding != "none":
            self._check_embedding(image, captioned)
        if self.train.flip and not image:
            raise ValueError("train.flip=true mirrors images left to right; these data are not images")
        sample = self.sample.completed(space, shape)
        if not space.bounded:  # neither has a range to hold such data in
            sample = dataclasses.replace(sample, clip=False, threshold=0.0)
        text = (self.text or Transformer()) if captioned and self.reads else None
        made = dataclasses.replace(self, space=space, sample=sample, text=text)
        if self.kind == "autoencoder":
            return dataclasses.replace(made, net=None, autoencoder=self.autoencoder or KLConfig())
        if isinstance(space, Latent) and not space.latent:  # of a size that its autoencoder will say
            return made
        return dataclasses.replace(made, net=self.net or suited(space.shape(shape)))

    def check_sampling(self, sampling: Sampling) -> None:
        """Refuse settings of sampling that a model of this recipe has no use for.

        Raises:
            ValueError: levels of noise that are not of its training, or candidates where no text's embedding is told.
        """
        sampling.check_levels(self.image_condition)
        self.loss.check_sampling(sampling.sampler, sampling.grid, self.schedule, sampling.guidance)
        if sampling.candidates > 1 and not (self.embedding == "text" and isinstance(self.data, Embeddings)):
            raise ValueError(
                f"candidates={sampling.candidates} are embeddings, of which the one nearest to a text's is kept, and a "
                f"prior alone draws them: name the stage, as prior.candidates or base.prior.candidates, or leave it out"
            )

    def _check_embedding(self, image: bool, captioned: bool) -> None:
        """Refuse an embedding of what there is none of, or beside attributes, in whose place it stands.

        Raises:
            ValueError: with what would be right.
        """
        if self.embedding == "image" and not image:
            raise ValueError("embedding=image is made of images; these data are not images")
        if self.embedding == "image" and self.train.flip:
            raise ValueError(
                "embedding=image tells of the picture as it is, and train.flip=true mirrors it: set train.flip=false"
            )
        if self.embedding == "text" and not captioned:
            raise ValueError("embedding=text is made of captions, and these data have none")
        if self.attributes != ():
            raise ValueError("an embedding is told in the place of attributes: set attributes=[]")

    @staticmethod
    def _check_image_condition(condition: ImageCondition, image: bool, space: Space) -> None:
        """Refuse pictures where there are none.

        Raises:
            ValueError: the data are no images, or what the model sees are none, and the condition needs one.
        """
        if condition.pixels and not image:
            raise ValueError(f"image_condition.kind={condition.kind} is for images; these data are not images")
        if condition.pixels and isinstance(space, Latent):
            raise ValueError(
                f"image_condition.kind={condition.kind} is made of pixels, and space.kind=latent has none; "
                f"right are masked and low_resolution, which are made of latents then"
            )


def check_finite(data: config.Plain, where: str = "") -> None:
    """Refuse plain data with a number that no computation, and no JSON, has a use for.

    Raises:
        ValueError: a NaN or an infinity, named by its dotted key.
    """
    if isinstance(data, dict):
        for key, value in data.items():
            check_finite(value, f"{where}.{key}" if where else key)
    elif isinstance(data, list):
        for value in data:
            check_finite(value, where)
    elif isinstance(data, float) and not math.isfinite(data):
        raise ValueError(f"{where} must be a finite number; given {data}")


def library() -> dict[str, Path]:
    """The recipes that come with Reverie, by name."""
    return {path.stem: path for path in sorted(LIBRARY.glob("*.toml"))}


def compose(layers: Iterable[Mapping[str, config.Plain]]) -> Recipe:
    """The recipe that the layers make, later ones on top.

    A layer that says what is trained puts the loss of that in the place of the one below it.

    Raises:
        ValueError: an unknown key, a value of the wrong type, or parts that do not fit.
    """
    data = _defaults()
    for layer in layers:
        kind = str(layer.get("kind", data["kind"]))
        if kind != data["kind"] and kind in LOSSES:
            data["loss"] = config.to_data(LOSSES[kind])
        data = config.merged(data, layer)
    if data["data"] is None:
        raise ValueError("no data: name a built-in set such as digits, a folder of images, or a .npz or .npy file")
    recipe: Recipe = config.from_data(Recipe, data)
    recipe.check_sampling(recipe.sample)  # before a stage is trained for it
    return recipe


def _defaults() -> dict[str, config.Plain]:
    """Every setting of a recipe at its default, as plain data; `data` is none."""
    found: dict[str, config.Plain] = {}
    for f in dataclasses.fields(Recipe):
        if f.default_factory is not dataclasses.MISSING:
            found[f.name] = config.to_data(f.default_factory())
        else:
            found[f.name] = None if f.default is dataclasses.MISSING else config.to_data(f.default)
    return found
