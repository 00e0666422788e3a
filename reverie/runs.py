"""The run folder: one self-describing folder from which every command starts.

    config.json            everything resolved; format and package version
    model.safetensors      averaged weights: what every other command uses
    best.safetensors       those with the best evaluation in training, if there were any
    state/<step>/          what training resumes from (the newest few are kept)
    ema/<step>-<length>.safetensors    what averages of other lengths are made of
    metrics.jsonl          one object a line
    samples/<step>.png     the same seeds every time
    tuned.json             time grids fitted to the model: see `reverie.tuning`
    autoencoder/, base/    runs that it needs, each a folder like this one: see `reverie.stages`

Nothing is unpickled and nothing imported by a name found in a file.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from reverie import config, stages
from reverie.data import Data, Examples
from reverie.data.columns import LeftOut
from reverie.denoiser import Denoiser
from reverie.digests import digest
from reverie.faster import Precision, cast, checked_precision
from reverie.faster import compiled as compile_net
from reverie.files import write_json
from reverie.grids import Grid
from reverie.guiding import helper_of, lead_of
from reverie.image_conditions import LowResolution
from reverie.joint import Joint
from reverie.latents import kept_latents
from reverie.locking import locked
from reverie.losses import Loss
from reverie.models import Autoencoder, Model, NoisyClassifier, NoisyPair
from reverie.models.guides import purpose
from reverie.prompts import Asked, Known, OfExamples, Prompt, Vocabulary, cond_of, in_turn, names, remarks, typical
from reverie.recipe import Recipe, Sampling
from reverie.request import Below, Request
from reverie.samplers import Sampler
from reverie.schedules import Schedule
from reverie.spaces import Latent, OpenedLatent, Space
from reverie.stages import StageFact, Stages
from reverie.synthesis import sized, synthesize
from reverie.tensor_files import fill, read_metadata, read_tensors, write_tensors
from reverie.tensors import global_randomness
from reverie.text import TextEncoder
from reverie.version import __version__

if TYPE_CHECKING:
    from reverie.evaluation.likelihood import Likelihood, Settings

M = TypeVar("M")

FORMAT = 2
REMADE, BEFORE = ("unet", "dit"), "bd0d55b"
"""Networks whose weights of format 1 are to another plan, though some would fit and give nonsense; the last commit
that reads them."""
CONFIG, MODEL, METRICS, SAMPLES, STATE = "config.json", "model.safetensors", "metrics.jsonl", "samples", "state"
EMA, BEST = "ema", "best.safetensors"
TYPICAL = 64
"""Prompts of held-out examples that a run keeps, at the most."""
SHIPPED = Path(__file__).parent / "shipped"
"""Trained runs that come with the package: their names open them."""
Weights = Literal["model", "best"]
"""Which of a run's weights are used: those of `MODEL`, or those of `BEST`."""


@dataclass(frozen=True)
class Facts:
    """What a run knows of its data."""

    shape: tuple[int, ...]
    image: bool
    classes: tuple[str, ...]
    train: int
    """Examples trained on."""
    validation: int
    """Examples held out."""
    skipped: int
    """Damaged files left out."""
    fingerprint: str
    """A hash of the examples, by which changed data are noticed."""
    captions: int = 0
    """Examples with a caption."""
    troubles: int = 0
    """What is wrong with captions and attributes, though no example is left out for it."""
    attributes: tuple[Known, ...] = ()
    """What else is known of the examples, as the model is told of it."""
    text: TextEncoder | None = None
    """How captions are read, fitted to them: its files stand in the run folder."""
    prompts: tuple[Prompt, ...] = ()
    """What some held-out examples are told as, for a model that is told more than a class."""
    stages: tuple[StageFact, ...] = ()
    """The runs that it needs: see `reverie.stages`."""
    embedding: int = 0
    """Numbers of the embedding that the model is told, if any."""


def shape_seen(recipe: Recipe, facts: Facts) -> tuple[int, ...]:
    """The shape of an example as the model of a completed recipe sees it: that of its latents, where it sees those."""
    assert recipe.space is not None
    return recipe.space.shape(facts.shape)


def fingerprint(examples: Examples) -> str:
    """A hash of shape, type, labels, captions, attributes and up to 1,024 examples spread over the whole.

    Examples that were computed are known by what they were computed of.
    """
    digest = hashlib.sha256(f"{examples.items.shape} {examples.items.dtype} {examples.classes}".encode())
    if examples.labels is not None:
        digest.update(np.ascontiguousarray(examples.labels).tobytes())
    if examples.texts:
        digest.update("\0".join(examples.texts).encode())
    for attribute in examples.attributes:
        digest.update(f"{attribute.name} {attribute.classes}".encode())
        digest.update(np.ascontiguousarray(attribute.values).tobytes())
    if examples.origin:
        digest.update(examples.origin.encode())
        return digest.hexdigest()[:16]
    for i in np.linspace(0, len(examples) - 1, min(len(examples), 1024)).round().astype(int):
        digest.update(np.ascontiguousarray(examples.items[i]).tobytes())
    return digest.hexdigest()[:16]


def check_data(run: Run, examples: Examples) -> None:
    """Refuse examples other than those the run began with.

    Raises:
        ValueError: their fingerprint is another one.
    """
    known = {fingerprint(examples)}
    if not run.facts.captions and not run.facts.attributes:  # some runs are older than what is read of them now
        known.add(fingerprint(replace(examples, texts=(), attributes=())))
    if run.facts.fingerprint not in known:
        raise ValueError(
            f"the data have changed since {run.path} was begun ({run.facts.train + run.facts.validation} examples "
            f"then, {len(examples)} now, or others); put them back, or begin a new run with another --out"
        )


def vocabulary(recipe: Recipe, facts: Facts, folder: Path = Path()) -> Vocabulary:
    """What the model of a recipe can be told.

    Args:
        recipe: completed.
        facts: of its data.
        folder: the run's.
    """
    return Vocabulary(
        shape_seen(recipe, facts),
        facts.classes if recipe.named else (),
        facts.attributes,
        facts.text,
        recipe.image_condition,
        folder,
        facts.embedding,
        recipe.loss.leaps,
        recipe.loss.scales,
    )


def new_model(recipe: Recipe, facts: Facts) -> Model:
    """What a completed recipe trains, its weights drawn from the recipe's seed.

    Raises:
        ValueError: it is to learn something that the data do not have.
    """
    if recipe.kind == "denoiser":
        return network(recipe, facts)
    shape = shape_seen(recipe, facts)
    with global_randomness(recipe.train.seed, 0):
        if recipe.kind == "autoencoder":
            assert recipe.autoencoder is not None
            return Autoencoder(recipe.autoencoder, shape)
        assert recipe.net is not None
        told, parts = vocabulary(recipe, facts).conditions, (recipe.schedule, recipe.time_label)
        if recipe.kind == "classifier":
            return NoisyClassifier.build(recipe.net, shape, told.classes, *parts)
        return NoisyPair.build(recipe.net, shape, told, *parts)


def network(recipe: Recipe, facts: Facts) -> Denoiser:
    """The denoiser of a completed recipe, its weights drawn from the recipe's seed."""
    if recipe.net is None:
        raise ValueError("the recipe has no network yet; complete it with the shape of the data")
    with global_randomness(recipe.train.seed, 0):
        net = recipe.net.build(
            shape_seen(recipe, facts),
            vocabulary(recipe, facts).conditions,
            inputs=2 if recipe.loss.self_conditions else 1,
            outputs=recipe.parameterization.outputs,
        )
    parts = (recipe.schedule, recipe.parameterization, recipe.time_label)
    return Denoiser(net, *parts, self_conditioned=recipe.loss.self_conditions)


# --------------------------------------------------------------------------------------- run


class Run:
    """A trained, or training, model with all that is needed to use it.

    >>> run = load("runs/digits")  # doctest: +SKIP
    >>> images = run.sample(16, label=3, seed=0)  # doctest: +SKIP

    Attributes:
        path: the folder.
        recipe: everything resolved.
        facts: what is known of the data.
        about: package and library versions, and the date of creation.
        weights: which of its weights the model has.
        sampling_below: how stages sample, and stages of theirs, where that is to be other than by their own settings;
            by path, such as base or base.prior.
    """

    def __init__(
        self, path: Path, recipe: Recipe, facts: Facts, about: Mapping[str, str], weights: Weights = "model"
    ) -> None:
        self.path, self.recipe, self.facts, self.about, self.weights = path, recipe, facts, dict(about), weights
        self._stages = Stages(path, facts.stages)
        self.sampling_below: Mapping[str, Sampling] = {}

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def at(self, weights: Weights) -> Run:
        """The run with its last weights, or with those that an evaluation in training found best.

        Raises:
            ValueError: another word, or no evaluation in training has kept any.
        """
        if weights not in get_args(Weights):
            raise ValueError(f"a run has the weights {' and '.join(get_args(Weights))}; given {weights!r}")
        run = Run(self.path, self.recipe, self.facts, self.about, weights)
        if weights == "best" and not run.file.is_file():
            raise ValueError(
                f"{run.file} is missing: the best weights are kept where training evaluates them, "
                "such as with evaluate.every=1000"
            )
        return run

    @property
    def mark(self) -> str:
        """What the names of files about these weights end in, before their ending: nothing for the last ones."""
        return "" if self.weights == "model" else f"-{self.weights}"

    @property
    def file(self) -> Path:
        """The file that the model is read from."""
        return self.path / (BEST if self.weights == "best" else MODEL)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The network with its averaged weights, in evaluation mode.

        Raises:
            ValueError: the weights are missing, damaged or another network's; or the run is no denoiser's.
        """
        if self.recipe.kind != "denoiser":
            raise ValueError(purpose(self.recipe.kind, self.path))
        made = self.model
        assert isinstance(made, Denoiser)
        return made

    @cached_property
    def classifier(self) -> NoisyClassifier:
        """The classifier with its averaged weights, in evaluation mode.

        Raises:
            ValueError: the weights are missing, damaged or another network's; or the run is no classifier's.
        """
        return self._as(NoisyClassifier, "classifier", "classifier")

    @cached_property
    def pair(self) -> NoisyPair:
        """The image-text pair with its averaged weights, in evaluation mode.

        Raises:
            ValueError: the weights are missing, damaged or another network's; or the run is no image-text pair's.
        """
        return self._as(NoisyPair, "pair", "image-text pair")

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder with its averaged weights, in evaluation mode.

        Raises:
            ValueError: the weights are missing, damaged or another network's; or the run is no autoencoder's.
        """
        return self._as(Autoencoder, "autoencoder", "autoencoder")

    def _as(self, what: type[M], kind: str, noun: str) -> M:
        if self.recipe.kind != kind:
            raise ValueError(f"{self.path} is no {noun}; train one with `reverie train ... kind={kind}`")
        made = self.model
        assert isinstance(made, what)
        return made

    @cached_property
    def model(self) -> Model:
        """What was trained, with its averaged weights, in evaluation mode: one of the four above.

        Raises:
            ValueError: the weights are missing, damaged or another network's.
        """
        path = self.file
        if not path.exists():
            raise ValueError(f"{path} is missing: the run has not saved yet. Run its train command again to resume it")
        made = new_model(self.recipe, self.facts)
        try:
            fill(made, read_tensors(path), path)
        except ValueError as error:
            raise ValueError(f"{error}. Run its train command again to restore it from {self.path / STATE}") from None
        return made.eval().requires_grad_(False)

    @cached_property
    def space(self) -> Space:
        """Data <-> what the model sees, as fitted on the training split.

        Raises:
            ValueError: it needs a stage that is missing, or another than the run was trained with.
        """
        assert self.recipe.space is not None
        return self.recipe.space.opened(self.stage)

    @property
    def encoding(self) -> str:
        """How data become what the model sees, in words: the same of two runs whose models see the same."""
        weights = [f"autoencoder {each.weights[:12]}" for each in self.facts.stages if each.name == "autoencoder"]
        space = self.recipe.space
        return ", ".join(
            [config.in_words(replace(space, autoencoder="") if isinstance(space, Latent) else space), *weights]
        )

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of x0, what the model sees: that of an example, but for latents."""
        return shape_seen(self.recipe, self.facts)

    def has(self, name: str) -> bool:
        """Whether there is a stage of that name."""
        return any(each.name == name for each in self.facts.stages)

    def stage(self, name: str) -> Run:
        """A run that this one needs: see `reverie.stages`. It is opened once.

        Raises:
            ValueError: there is none of that name, or it is missing, or another than the run was trained with.
        """
        return self._stages(name)

    @cached_property
    def loss(self) -> Loss:
        """The loss that the run is trained by, with the models of the stages that it learns from.

        Raises:
            ValueError: one of them is missing, or another than the run was trained with.
        """
        return self.recipe.loss.opened(stages.Bringing(self))

    @property
    def schedule(self) -> Schedule:
        """The process."""
        return self.recipe.schedule

    @property
    def sampler(self) -> Sampler:
        """The run's own sampler, with its settings."""
        return self.recipe.sample.sampler

    @property
    def grid(self) -> Grid:
        """The run's own grid."""
        return self.recipe.sample.grid

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that condition the model; empty for an unconditional one."""
        return self.facts.classes if self.recipe.named else ()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """All that the model can be asked for."""
        return vocabulary(self.recipe, self.facts, self.path)

    def told(self, examples: Examples) -> OfExamples:
        """What the model is told of the run's examples, which are given as data."""
        embedded = None
        if self.recipe.embedding == "image":
            embedded = torch.from_numpy(np.array(self.joint.kept(examples.items)))
        elif self.recipe.embedding == "text":
            embedded = self.joint.texts(examples.texts)
        return OfExamples(self.vocabulary, examples, embedded)

    def label_index(self, label: int | str) -> int:
        """The number of a class given by number or name.

        Raises:
            ValueError: there is no such class.
        """
        if isinstance(label, str) and label in self.classes:
            return self.classes.index(label)
        if (isinstance(label, int) or label.isdecimal()) and 0 <= int(label) < len(self.classes):
            return int(label)
        if not self.classes:
            raise ValueError(f"label {label!r} was asked for, but {self.path} was trained without labels")
        known = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
        raise ValueError(f"unknown label {label!r}; it must be 0 to {len(self.classes) - 1} or one of: {known}")

    def labels_for(self, n: int, label: int | str | Sequence[int | str | None] | None) -> tuple[int | None, ...]:
        """The class of each of n samples: those given, over and over; every class in turn if None."""
        if label is None:
            given: tuple[int | None, ...] = tuple(range(len(self.classes))) or (None,)
        else:
            several = [label] if isinstance(label, int | str) else list(label)
            given = tuple(None if v is None else self.label_index(v) for v in several)
            if not given:
                raise ValueError("label is an empty list; give at least one class, or None for every class in turn")
        return tuple(given[i % len(given)] for i in range(n))

    def settings(
        self, sampler: Sampler | None = None, grid: Grid | None = None, steps: int | None = None,
        guidance: float | None = None,
    ) -> Sampling:  # fmt: skip
        """The run's sampling settings with some of them changed.

        Unless a grid is given, it is the one that was tuned for these settings, if there is one (see
        `reverie.tuning`); where other ones were tuned but not these, or to other weights, a warning says so.
        """
        own = self.recipe.sample
        chosen = own.grid if grid is None else grid
        made = replace(
            own,
            sampler=own.sampler if sampler is None else sampler,
            grid=chosen if steps is None else chosen.with_steps(steps),
            guidance=own.guidance if guidance is None else guidance,
        ).completed(self.space, self.shape)
        self.recipe.check_sampling(made)
        return self._tuned(made) if grid is None else made

    def _tuned(self, sampling: Sampling) -> Sampling:
        """With the grid tuned for these settings, if there is one; a warning two calls up if that needs a word."""
        from reverie.tuning import choose

        found = choose(self, sampling)
        if found.note:
            warnings.warn(found.note, stacklevel=3)
        return found.sampling

    def ask(
        self,
        n: int,
        label: int | str | Sequence[int | str | None] | None = None,
        prompt: str | Sequence[str] | None = None,
        attributes: Mapping[str, object] | None = None,
        image: Tensor | None = None,
        negative: str | None = None,
        embedding: Tensor | None = None,
    ) -> Request:
        """A request for n samples of seed 0, by all that the model can be told.

        Where nothing is asked of a model that is told more than a class, its prompts of held-out examples are used
        in turn. Where a text, attributes or an image are given and no class is, there is none.

        Args:
            n: how many.
            label: as for `sample`.
            prompt: as for `sample`.
            attributes: as for `sample`.
            image: (1 or n, C', H, W), what the run's image condition made of a picture.
            negative: a text to be led away from; guidance then leads from it to the prompt.
            embedding: (1 or n, E), for a model that is told one: see `joint`.

        Raises:
            ValueError: no samples, something that the model was not trained with, or an unknown value.
        """
        if n < 1:
            raise ValueError(f"at least 1 sample can be asked for; given {n}")
        told, typical = self.vocabulary, self.facts.prompts
        asked = prompt is not None or bool(attributes) or image is not None or embedding is not None
        if typical and label is None and not asked:
            prompts = tuple(typical[i % len(typical)] for i in range(n))
        else:
            labels = (None,) * n if label is None and asked else self.labels_for(n, label)
            prompts = in_turn(told, labels, prompt, attributes)
        away = in_turn(told, (None,), negative)[0] if negative else None
        made = self.request(prompts, image, away, embedding=embedding)
        wished = (*prompts, away or Prompt()) if asked or away else ()
        return replace(made, remarks=remarks(told, wished))

    def request(
        self, prompts: Sequence[Prompt], image: Tensor | None = None, negative: Prompt | None = None,
        level: Tensor | None = None, embedding: Tensor | None = None, below: Mapping[str, Sampling] | None = None,
    ) -> Request:  # fmt: skip
        """A request for a sample of each prompt, of seed 0.

        Args:
            prompts: what each is asked to be.
            image: as for `ask`.
            negative: what guidance leads away from.
            level: (1 or n,), of the noise on the image; 0 unless given.
            embedding: (1 or n, E), for a model that is told one, in the place of what its prior would make.
            below: in the place of `sampling_below`.

        Raises:
            ValueError: an image or an embedding to a model that has no use for one.
        """
        told, labels = self.vocabulary, tuple(prompt.label for prompt in prompts)
        samplings = self.sampling_below if below is None else below
        models, passed = self._below(image is not None, embedding is not None, samplings), None
        if embedding is not None and not told.embedding and self.has("base"):
            embedding, passed = None, embedding
        if image is None and embedding is None and not told.asks:
            return Request(labels, embedding=passed, below=models)
        cond, away = Asked.of(told, prompts, image, level, embedding), None
        if negative is not None:
            away = cond_of(told, [negative], *(None if v is None else v[:1] for v in (image, level)))
        if away is not None and image is not None:  # one text, held once, beside every image
            away = replace(away.map(lambda v: v.expand(len(image), *v.shape[1:])), image=image)
            away = away if level is None else replace(away, level=level.expand(len(image)))
        texts = tuple(prompt.text for prompt in prompts)
        return Request(
            labels, cond=cond, negative=away, texts=texts if any(texts) else (), names=names(told, prompts),
            embedding=passed, below=models, away=negative,
        )  # fmt: skip

    def _below(self, shown: bool, embedded: bool, samplings: Mapping[str, Sampling]) -> tuple[Below, ...]:
        """What makes conditions of a request that does not bring them: an image, or an embedding."""
        from reverie.cascade import Base, inside
        from reverie.unclip import OfText, Prior

        found: list[Below] = []
        if self.has("base") and not shown:
            condition, stage = self.recipe.image_condition, self.stage("base")
            assert isinstance(condition, LowResolution)
            own = samplings.get("base") or stage.settings()
            found.append(Base(stage, self.space, condition, own, inside(samplings, "base")))
        if self.has("prior") and not embedded:
            stage = self.stage("prior")
            found.append(Prior(stage, samplings.get("prior") or stage.settings(), inside(samplings, "prior")))
        if self.recipe.embedding == "text" and not embedded:
            found.append(OfText(self.joint))
        return tuple(found)

    @cached_property
    def joint(self) -> Joint:
        """Images and texts in the space of the run's image-text pair: of its stage, where it has one.

        Raises:
            ValueError: it is no such pair and has no such stage.
        """
        return Joint(self if self.recipe.kind == "pair" else self.stage("pair"))

    def sample(
        self,
        n: int = 16,
        label: int | str | Sequence[int | str | None] | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        start: int = 0,
        batch: int | None = None,
        precision: Precision = "no",
        compiled: bool = False,
        *,
        prompt: str | Sequence[str] | None = None,
        attributes: Mapping[str, object] | None = None,
        image: Tensor | None = None,
        negative: str | None = None,
    ) -> Tensor:
        """Samples `start` ... `start` + n - 1 of `seed` as data: uint8 images (n, C, H, W), or (n, ...).

        A class or a text of which the run knows nothing is asked of the guide of `sampling`, if it does.

        Args:
            n: how many.
            label: a class by number or name, several to be used in turn, or None for all in turn; or for none of them,
                where a text, attributes or an image are given.
            seed: each seed numbers its own endless series of samples.
            sampling: sampler, grid and guidance; `settings()` unless given.
            start: the number of the first sample.
            batch: how many at a time; it changes no sample, but for rounding on a GPU. Fitted to memory unless given.
            precision: of the network: "no" is float32; bf16, or fp16 on CUDA.
            compiled: compile the network first, which takes a minute or more.
            prompt: a text, or several to be used in turn; '' for none.
            attributes: name to a value, or to a list of values to be used in turn; None in it for none.
            image: (1 or n, C', H, W), what the run's image condition made of a picture.
            negative: a text to be led away from.

        Raises:
            ValueError: an unknown label, text to a model that reads none, a number out of range, or a precision of no
                use on the device.
            OutOfMemory: a single sample does not fit.
        """
        sampling = self._tuned(self.recipe.sample) if sampling is None else sampling
        self.recipe.check_sampling(sampling)
        lead = lead_of(self, sampling, label, prompt)
        request = lead.told(self.ask(n, lead.label, lead.prompt, attributes, image, negative))
        request = replace(request, seed=seed, start=start, batch=batch)
        for said in request.remarks:
            warnings.warn(said, stacklevel=2)
        device = next(self.denoiser.parameters()).device
        helper = helper_of(self, sampling, request, device)
        f = cast(self.denoiser, checked_precision(precision, device))
        if compiled:
            request = sized(f, self.shape, sampling, request, device, helper)
            f = compile_net(f, warnings.warn)
        x = synthesize(f, self.shape, sampling, request, device, helper=helper)
        return self.space.decode(x)

    def likelihood(self, settings: Settings | None = None, data: Data | str | None = None) -> Likelihood:
        """Bits per dimension of held-out data, or of others: see `reverie.evaluation.likelihood.measure`.

        Raises:
            ValueError: data that do not fit the run, or a run not saved yet.
        """
        from reverie.evaluation.likelihood import measure

        *_, last = measure(self, settings, data)
        assert last.result is not None
        return last.result

    def to(self, device: torch.device | str) -> Run:
        """The same run with its network on `device`, and that of its space; returns itself."""
        (self.denoiser if self.recipe.kind == "denoiser" else self.model).to(device)
        if isinstance(self.space, OpenedLatent):
            self.space.model.to(device)
        return self

    @property
    def average(self) -> str | None:
        """Which average of the weights the model is, in words; None where there is none that can be read."""
        try:
            about = read_metadata(self.file)
        except ValueError:
            return None
        if about.get("average") == "power":
            return f"power function, length {about.get('length')}, at step {about.get('at')}"
        best = f", at step {about.get('step')}, the best by {about.get('metric')}" if self.weights == "best" else ""
        return f"exponential, decay {about.get('decay', self.recipe.train.ema)}{best}"

    def save_model(self, weights: Mapping[str, Tensor], step: int, average: Mapping[str, str] | None = None) -> None:
        """Replace the averaged weights, whole or not at all.

        Args:
            weights: the network's state.
            step: steps trained.
            average: which average they are, for `average`; the exponential one of training unless given.
        """
        self._write(MODEL, weights, step, self._exponential if average is None else average)

    def save_best(self, weights: Mapping[str, Tensor], step: int, evaluation: Mapping[str, str]) -> None:
        """Replace the best weights, whole or not at all.

        Args:
            weights: the state of the averaged network.
            step: steps trained.
            evaluation: by which they are best: `metric`, `value`, `protocol` and the like.
        """
        self._write(BEST, weights, step, {**self._exponential, **evaluation})

    @property
    def _exponential(self) -> dict[str, str]:
        """What the metadata of weights says of the average that training keeps."""
        return {"average": "exponential", "decay": repr(self.recipe.train.ema)}

    def _write(self, name: str, weights: Mapping[str, Tensor], step: int, told: Mapping[str, str]) -> None:
        about = {"format": str(FORMAT), "step": str(step), "reverie": __version__, "sha256": digest(weights)}
        write_tensors(self.path / name, weights, {**about, **told})


def create(
    path: Path | str, recipe: Recipe, examples: Examples, train: Sequence[int] | np.ndarray,
    needed: Mapping[str, Path] | None = None,
) -> Run:  # fmt: skip
    """Begin a run: complete the recipe, fit space and process on the training split, write config.json.

    Args:
        path: the folder, new, empty, or holding nothing but stages.
        recipe: of the run.
        examples: its data.
        train: rows to train on.
        needed: its stages besides those that settings name, and where each is; it is copied into the folder.

    Raises:
        ValueError: the folder already holds something, or the recipe does not fit the data, or a stage is missing or of
            no use.
    """
    path = Path(path)
    found: dict[str, Path | str] = {**stages.named_in(recipe), **(needed or {})}
    there = {p.name for p in path.iterdir()} if path.is_dir() else set()
    if path.exists() and (not path.is_dir() or any(n not in found and not n.startswith(".") for n in there)):
        raise ValueError(f"{path} already exists and is not a run of this recipe; choose another --out")
    completed(recipe, examples)
    stages.check_wanted(recipe, found)
    train = np.asarray(train)
    about = {
        "reverie": __version__,
        "torch": torch.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with _begun(path):
        known = stages.adopted(path, found, recipe, examples)
        stage = Stages(path, known)
        recipe = _fitted(recipe, examples, train, stage)
        facts = Facts(
            shape=examples.shape,
            image=examples.image,
            classes=examples.classes,
            train=len(train),
            validation=len(examples) - len(train),
            skipped=len(examples.skipped),
            fingerprint=fingerprint(examples),
            captions=sum(map(bool, examples.texts)),
            troubles=sum(not isinstance(trouble, LeftOut) for trouble in examples.troubles),
            attributes=_known(recipe, examples, train),
            text=_fitted_text(recipe, examples, train, path),
            stages=known,
            embedding=0 if recipe.embedding == "none" else Joint(stage("pair")).width,
        )
        model = new_model(recipe, facts)
        if recipe.train.start:
            from reverie.training.start import begin_with, check_start

            check_start(Run(path, recipe, facts, about))  # refused before there is a run that would
            begin_with(model, recipe.train.start)
        told = vocabulary(recipe, facts, path)
        if told.asks:
            held_out = np.setdiff1d(np.arange(len(examples)), train)
            facts = replace(facts, prompts=typical(told, examples, held_out if len(held_out) else train, TYPICAL))
        run = Run(path, recipe, facts, about)
        stages.check_beneath(run, examples)
        write_config(run)
    return run


@contextmanager
def _begun(path: Path) -> Iterator[None]:
    """A new folder, of which nothing is left behind where what happens inside fails."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    there = set(path.iterdir())
    try:
        yield
    except BaseException:
        for entry in set(path.iterdir()) - there:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        with suppress(OSError):  # another run may have begun beside it
            for folder in made:
                folder.rmdir()
        raise


def completed(recipe: Recipe, examples: Examples) -> Recipe:
    """The recipe with what depends on the data filled in.

    Raises:
        ValueError: settings that these data have no use for.
    """
    return recipe.completed(examples.shape, examples.image, any(examples.texts))


def _known(recipe: Recipe, examples: Examples, train: np.ndarray) -> tuple[Known, ...]:
    """The attributes that the model is told, as the training split has them.

    Raises:
        ValueError: one is asked for that the data do not have.
    """
    if recipe.kind == "autoencoder":
        return ()
    own = {attribute.name: attribute for attribute in examples.attributes}
    wanted = tuple(own) if recipe.attributes is None else recipe.attributes
    if unknown := [name for name in wanted if name not in own]:
        has = f"they have: {', '.join(own)}" if own else "they have none"
        raise ValueError(f"attributes names {unknown[0]!r}, which the data do not have; {has}")
    return tuple(Known.of(own[name], train) for name in wanted)


def _fitted_text(recipe: Recipe, examples: Examples, train: np.ndarray, folder: Path) -> TextEncoder | None:
    """The text encoder fitted to the captions of the training split, its files in the run folder."""
    if recipe.text is None:
        return None
    texts = sorted({examples.texts[i] for i in train.tolist()} - {""})
    if not texts:
        raise ValueError("no training example has a caption; write captions=false to train without them")
    return recipe.text.fit(texts, folder)


def _fitted(
    recipe: Recipe, examples: Examples, train: Sequence[int] | np.ndarray, stage: Callable[[str], Run]
) -> Recipe:
    """A recipe completed, with its space and its process fitted on the training split."""
    if recipe.space is not None:
        recipe = replace(recipe, space=recipe.space.bound(stage, examples.shape))
    recipe = completed(recipe, examples)
    space = recipe.space
    assert space is not None
    if not (space.learns or recipe.schedule.learns):
        return recipe
    opened, rows = space.opened(stage), np.asarray(train)
    if isinstance(opened, OpenedLatent):
        latents = torch.from_numpy(kept_latents(opened, examples).items[rows])
        fitted = opened.fitted(latents)
        recipe = replace(recipe, space=fitted)
        standard = OpenedLatent(fitted, opened.inner, opened.model).standard
        x0 = standard.encode(latents) if recipe.schedule.learns else latents
    else:
        data = torch.from_numpy(np.ascontiguousarray(examples.items[rows]))
        space = space.fit(data)
        recipe, x0 = replace(recipe, space=space), space.encode(data)
    return replace(recipe, schedule=recipe.schedule.fit(x0)) if recipe.schedule.learns else recipe


def write_config(run: Run) -> None:
    """Write config.json, whole or not at all."""
    write_json(
        run.path / CONFIG,
        {
            "format": FORMAT,
            "about": run.about,
            "facts": config.to_data(run.facts),
            "recipe": config.to_data(run.recipe),
        },
    )


def load(path: Path | str, weights: Weights = "model") -> Run:
    """Open a run folder. The weights are read when first used.

    Args:
        path: of the folder; or the name of a run that comes with the package, where there is no such folder.
        weights: those of `MODEL`, or the best ones: see `Run.at`.

    Raises:
        ValueError: it is no run, was written by a newer version or by an older one whose network was another,
            or its config.json is damaged or has settings this version does not know; the sentence says what to do.
            Or its best weights are asked for, and there are none.
    """
    return _opened_run(located(path)).at(weights)


def located(path: Path | str) -> Path:
    """A folder as it is; where there is none, the run of that name that comes with the package."""
    path = Path(path)
    own = SHIPPED / path.name
    return own if len(path.parts) == 1 and not path.exists() and (own / CONFIG).is_file() else path


def of_package(path: Path) -> bool:
    """Whether a folder is that of a run that comes with the package, into which nothing is written."""
    return SHIPPED.resolve() in path.resolve().parents


def _opened_run(path: Path) -> Run:
    file = path / CONFIG
    if not file.is_file():
        shipped = sorted(found.parent.name for found in SHIPPED.glob(f"*/{CONFIG}"))
        also = f"; {', '.join(shipped)} comes with the package" if shipped and not path.exists() else ""
        raise ValueError(f"{path} is not a run folder: it has no {CONFIG}. `reverie train` makes one{also}")
    data = config.read_file(file)
    found = data.get("format")
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"{file} has no format number, so it is not Reverie's")
    about = data.get("about") or {}
    if not isinstance(about, dict):
        raise ValueError(f"{file}: about must be a table of versions; given {about!r}")
    if found > FORMAT:
        writer = about.get("reverie", "of a newer version")
        raise ValueError(
            f"{file} has format {found}, written by Reverie {writer}; "
            f"this is {__version__}, which reads up to format {FORMAT}. Upgrade: pip install -U reverie"
        )
    unknown = sorted(data.keys() - {"format", "about", "facts", "recipe"})
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]} in {file}; it holds format, about, facts and recipe")
    try:
        facts = config.from_data(Facts, data.get("facts"), "facts")
        recipe = config.from_data(Recipe, data.get("recipe"), "")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    net = recipe.autoencoder if recipe.kind == "autoencoder" else recipe.net
    if not facts.shape or min(facts.shape) < 1 or recipe.space is None or net is None:
        raise ValueError(f"{file} is incomplete: it must name facts.shape, space and net")
    if found < 2 and net.kind in REMADE:
        raise ValueError(
            f"{path} was made with an earlier {net.kind} (format {found}), whose weights mean nothing to this "
            f"one; it is left as it is. Train again with another --out, or use it with the version that made it: "
            f"`git checkout {BEFORE}`"
        )
    recipe = stages.at_home(recipe, facts.stages, path)
    return Run(path, recipe, facts, {str(k): str(v) for k, v in about.items()})


def changes(old: Recipe, new: Recipe) -> Iterable[tuple[str, config.Plain, config.Plain]]:
    """The settings by which a new recipe differs from that of a run, what the data filled in aside."""
    before, after = config.to_data(old), config.to_data(new)
    for table in (*stages.tables(before["data"]), *stages.tables(after["data"])):
        table.pop("strict", None)  # whether troubles stop a command is no part of what the examples are
        if new.embedding != "none":
            table.pop("pair", None)  # it is the stage of that name, wherever the folder lies
    if new.kind == "autoencoder":
        after["net"] = None  # it is not used
    if before["text"] is None and not new.reads:
        after["text"] = None  # it is not used
    for key in ("space", "net", "autoencoder", "text"):
        if after[key] is None and (key != "text" or new.reads):
            after[key] = before[key]
    if isinstance(after["space"], dict) and after["space"]["kind"] == before["space"]["kind"]:
        after["space"] = before["space"]  # fitted on the data
    return config.differences(before, after)


_FIXED = ("train.seed", "train.start", "train.batch", "train.accumulate", "train.validation", "train.precision")


def begin(path: Path | str, recipe: Recipe, examples: Examples, needed: Mapping[str, Path] | None = None) -> Run:
    """The run in `path`: made if there is none, else opened to go on with, if it is of this recipe.

    Settings of sampling and of evaluation may differ from those the run began with, and so may those of
    training that do not change which numbers belong to a step; the run takes them over.

    Args:
        path: the folder.
        recipe: of the run.
        examples: its data.
        needed: as for `create`.

    Raises:
        ValueError: the folder holds a run of another recipe, or something else, or the settings
            would change under a process that is training there; or a stage is another than that it began with.
    """
    path = Path(path)
    stages.check_apart(path)
    recipe = replace(recipe, sample=completed(recipe, examples).sample)
    new = not (path / CONFIG).is_file()
    if new or recipe.schedule.learns:
        train = recipe.data.split(examples, recipe.train.validation, recipe.train.seed).train
        if new:
            return create(path, recipe, examples, train, needed)
        fitted = _fitted(recipe, examples, train, load(path).stage)
        recipe = replace(recipe, schedule=fitted.schedule)
    run = load(path)
    stages.check_same(run, {**stages.named_in(recipe), **(needed or {})})
    differ = list(changes(run.recipe, recipe))
    fixed = [d for d in differ if d[0] in _FIXED or not d[0].startswith(("train.", "sample.", "evaluate."))]
    if fixed:
        shown = "; ".join(f"{key} is {old!r} there and {new!r} here" for key, old, new in fixed[:3])
        more = f" and {len(fixed) - 3} more" if len(fixed) > 3 else ""
        raise ValueError(
            f"{path} is a run of another recipe: {shown}{more}. Choose another --out, or the same settings"
        )
    if differ:
        taken = replace(run.recipe, train=recipe.train, sample=recipe.sample, evaluate=recipe.evaluate)
        run = Run(path, taken, run.facts, run.about)
        with locked(path):  # a run under way keeps the settings it began with
            write_config(run)
    return run
