"""Stages: the runs that a run needs, each in a folder of its own inside the run's.

    runs/large/config.json             the run itself: an upsampler, a model of latents, a decoder of embeddings
    runs/large/base/config.json        a stage of it, which is a run as any other

So what is made of several models is one folder that describes itself, and each of its models is trained, resumed,
sampled and judged by the commands for any run. What a stage is for says its name:

    autoencoder     makes the latents that the run learns (`reverie.spaces.Latent`)
    base            draws the small pictures that the run enlarges (`reverie.image_conditions.LowResolution`)
    pair            an image-text pair whose embeddings the run is told (`reverie.joint`)
    prior           draws embeddings of images by a text (`reverie.unclip`)
    perceptual      a classifier in whose features an autoencoder is compared with its examples
    teacher         a model of the same data, which the run learns to do with fewer steps (`reverie.losses.teaching`)
    weaker          what the teacher is led away from
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.digests import digest

if TYPE_CHECKING:
    from reverie.config import Plain
    from reverie.data import Examples
    from reverie.losses import Loss
    from reverie.models import Model
    from reverie.recipe import Recipe
    from reverie.runs import Run

KINDS = {
    "autoencoder": "autoencoder",
    "perceptual": "classifier",
    "pair": "pair",
    "prior": "denoiser",
    "base": "denoiser",
    "teacher": "denoiser",
    "weaker": "denoiser",
}
"""Every stage there may be, and the kind of run that it is."""
FIXED = ("autoencoder", "perceptual", "pair", "teacher", "weaker")
"""Stages that the run has learned with: another one in their place would make nonsense of it."""
TABLE = "stage"
"""What `loss.perceptual` says where the classifier is that of a table, stages.perceptual."""
UNLEARNED = (
    *(f"train.{name}_every" for name in ("log", "validate", "sample", "save")),
    "train.keep",
    "train.report_to",
)
"""Settings of training on which no weight depends."""
LEFT = ("state", "samples", "ema")
"""Folders of a run that are not copied with it: what it needs to go on training, and what it made."""


@dataclass(frozen=True)
class StageFact:
    """What a run knows of a stage of it.

    Attributes:
        name: of the stage, and of its folder.
        weights: the digest of its weights when the run began.
        fingerprint: of its data, as in `reverie.runs.Facts`.

    Raises:
        ValueError: another name than those there are, which might lead out of the run's folder.
    """

    name: str
    weights: str
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise ValueError(f"there is no stage {self.name!r}; there may be: {', '.join(KINDS)}")


def wanted(recipe: Recipe) -> dict[str, bool]:
    """The stages that a run of this recipe has use for, and whether it cannot do without."""
    from reverie.image_conditions import LowResolution
    from reverie.losses import Reconstruction
    from reverie.spaces import Latent

    found = {"autoencoder": True} if isinstance(recipe.space, Latent) else {}
    if recipe.embedding != "none":
        found["pair"] = True
    if recipe.embedding == "image":
        found["prior"] = False
    if isinstance(recipe.image_condition, LowResolution) and not isinstance(recipe.space, Latent):
        found["base"] = False  # means of latents, which are enlarged there, are not the latents of means
    if isinstance(recipe.loss, Reconstruction) and recipe.loss.perceptual:
        found["perceptual"] = True
    return found | dict.fromkeys(recipe.loss.needs, True)


def named_in(recipe: Recipe) -> dict[str, str]:
    """Stages that settings of the recipe itself name a folder for."""
    given = {
        "autoencoder": getattr(recipe.space, "autoencoder", ""),
        "perceptual": getattr(recipe.loss, "perceptual", ""),
    }
    return {name: path for name, path in given.items() if path not in ("", TABLE) and name in wanted(recipe)}


def check_wanted(recipe: Recipe, names: Iterable[str]) -> None:
    """Refuse stages that a run of this recipe has no use for, or the lack of one that it needs.

    Raises:
        ValueError: with what there may be, or what is to be given.
    """
    known, given = wanted(recipe), set(names)
    if unknown := sorted(given - known.keys()):
        has = ", ".join(known) or "none"
        how = f"; set loss.perceptual={TABLE} to compare in its features" if unknown[0] == "perceptual" else ""
        raise ValueError(f"stages.{unknown[0]} is of no use to this recipe; stages that it has use for: {has}{how}")
    for name, needed in known.items():
        if needed and name not in given:
            setting = {"autoencoder": "space.autoencoder", "perceptual": "loss.perceptual"}.get(name, f"stages.{name}")
            raise ValueError(f"the recipe needs the stage {name}: give {setting}=RUN, or a table stages.{name}")


def tables(data: Plain) -> Iterator[dict[str, Plain]]:
    """The settings of a source of data, and those of the source that it is made of, as plain data."""
    while isinstance(data, dict):
        yield data
        data = data.get("data")


def at_home(recipe: Recipe, known: Iterable[StageFact], path: Path) -> Recipe:
    """The recipe of a run, its data made by its own copy of the pair, wherever the run lies."""
    from reverie.data.embeddings import Embeddings

    if isinstance(recipe.data, Embeddings) and any(each.name == "pair" for each in known):
        return replace(recipe, data=replace(recipe.data, pair=str(path / "pair")))
    return recipe


def adopted(path: Path, stages: Mapping[str, Path | str], recipe: Recipe, examples: Examples) -> tuple[StageFact, ...]:
    """Bring stages into the folder of a run; those that are there already, whole, are left as they are.

    Args:
        path: the run's folder, which is there.
        stages: name to folder: of a run, or of an autoencoder of another project.
        recipe: of the run.
        examples: its data.

    Raises:
        ValueError: a folder is no run, or one of another kind, or has not been trained; or another one has its place.
    """
    for name, source in stages.items():
        if Path(source).resolve() != (path / name).resolve():
            _bring(Path(source), path / name, name, recipe, examples)
    return tuple(fact(path / name, name) for name in stages)


def fact(folder: Path, name: str) -> StageFact:
    """What there is to know of the stage in a folder.

    Raises:
        ValueError: it is no run, or one of another kind, or has not been trained.
    """
    from reverie.runs import load

    run = load(folder)
    if run.recipe.kind != KINDS[name]:
        raise ValueError(f"the stage {name} is a run of kind={KINDS[name]}; {folder} is of kind={run.recipe.kind}")
    return StageFact(name, weights_of(run), run.facts.fingerprint)


def weights_of(run: Run) -> str:
    """The digest of a run's weights.

    Raises:
        ValueError: there are none.
    """
    from reverie.tensor_files import read_metadata, read_tensors

    found = read_metadata(run.file).get("sha256")
    return found or digest(read_tensors(run.file))


def _bring(source: Path, folder: Path, name: str, recipe: Recipe, examples: Examples) -> None:
    """Copy a run, or convert foreign weights, to `folder`, whole or not at all."""
    from reverie.interop import autoencoder_folder
    from reverie.runs import located

    source = located(source)
    for left in folder.parent.glob(f".{name}.*"):  # of a process that was killed here
        shutil.rmtree(left)
    temp = folder.with_name(f".{name}.{secrets.token_hex(6)}")
    try:
        if name == "autoencoder" and not _is_run(source):
            autoencoder_folder.as_run(source, temp, recipe, examples)
        else:
            fact(source, name)
            copy(source, temp)
        made = fact(temp, name)
        if not folder.exists():
            temp.replace(folder)
        elif fact(folder, name) != made:
            raise ValueError(f"{folder} is there already, and is another {name} than {source}; choose another --out")
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _is_run(path: Path) -> bool:
    """Whether a folder has a config that says it is ours."""
    from reverie import config
    from reverie.runs import CONFIG

    file = path / CONFIG
    return not path.is_dir() or (file.is_file() and "format" in config.read_file(file))


def copy(source: Path, target: Path) -> None:
    """Copy a run, but for what is `LEFT`, with its stages."""

    def left(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name.startswith(".") or name in LEFT or name.endswith((".html", ".png"))]

    shutil.copytree(source, target, ignore=left)


class Bringing:
    """What a loss may ask of a run: see `reverie.losses.base.Bring`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example, as the model sees it."""
        return self._run.shape

    def stage(self, name: str) -> Model:
        """The model of a stage."""
        return self._run.stage(name).model


class Stages:
    """The stages of a run, by name; each is opened once, when it is first asked for, and checked.

    Args:
        path: the run's folder.
        known: the facts of its stages.
    """

    def __init__(self, path: Path, known: Iterable[StageFact]) -> None:
        self._path, self._facts = path, {each.name: each for each in known}
        self._runs: dict[str, Run] = {}

    def __call__(self, name: str) -> Run:
        """The stage of that name.

        Raises:
            ValueError: there is none, or its folder is gone, or it holds another one where that would make nonsense.
        """
        if name not in self._runs:
            self._runs[name] = self._opened(name)
        return self._runs[name]

    def _opened(self, name: str) -> Run:
        from reverie.runs import CONFIG, load

        path = self._path
        if name not in self._facts:
            raise ValueError(f"{path} has no stage {name}; it has: {', '.join(self._facts) or 'none'}")
        folder, known = path / name, self._facts[name]
        if not (folder / CONFIG).is_file():
            raise ValueError(
                f"{path} lacks its stage {name}: {folder} is missing; put back the folder that it was trained with"
            )
        run = load(folder)
        if run.recipe.kind != KINDS[name]:
            raise ValueError(
                f"{folder} is a run of kind={run.recipe.kind}; the stage {name} is one of kind={KINDS[name]}"
            )
        if name in FIXED and weights_of(run) != known.weights:
            raise ValueError(
                f"{folder} is not the {name} that {path} was trained with: its weights are others, and what the run "
                f"has learned means nothing to them; put the first one back, or train a new run with this one"
            )
        if run.facts.fingerprint != known.fingerprint:
            raise ValueError(
                f"{folder} was trained on other data than the {name} that {path} began with; put that one back, or one "
                f"trained on the same data"
            )
        return run


def check_same(run: Run, given: Mapping[str, Path | str]) -> None:
    """Refuse to go on with stages other than those that a run began with.

    Raises:
        ValueError: a stage is given that it does not have, or one of other weights.
    """
    from reverie.runs import located

    known = {each.name: each for each in run.facts.stages}
    for name, given_as in given.items():
        source = located(given_as)
        if source.resolve() == (run.path / name).resolve():
            continue
        if name not in known:
            raise ValueError(f"{run.path} was begun without the stage {name}; choose another --out")
        if not source.exists():
            raise ValueError(f"{source} is missing; {run.path} has a copy of it, so name that: {run.path / name}")
        if _weights_in(source, name, run.facts.shape) != known[name].weights:
            raise ValueError(
                f"{run.path} was begun with another {name} than {source}: its weights are others; choose another --out"
            )


def _weights_in(source: Path, name: str, shape: tuple[int, ...]) -> str:
    """The digest of the weights of a run, or of another project's autoencoder for images of `shape` as one of ours."""
    from reverie.interop import autoencoder_folder

    if name == "autoencoder" and not _is_run(source):
        return digest(autoencoder_folder.weights(autoencoder_folder.read(source), shape))
    return fact(source, name).weights


def check_apart(path: Path) -> None:
    """Refuse to change a stage that the run above it has learned with.

    Raises:
        ValueError: the folder holds one; with what can be changed in its place.
    """
    from reverie.runs import CONFIG, load

    folder = path.resolve()
    above = folder.parent
    if folder.name not in FIXED or not (folder / CONFIG).is_file() or not (above / CONFIG).is_file():
        return
    if _is_run(above) and load(above).has(folder.name):
        raise ValueError(
            f"{path} is the {folder.name} that {above} has learned with, and the run would mean nothing with another; "
            f"copy the folder, and change the copy"
        )


def check_learned_with(run: Run, name: str, recipe: Recipe) -> Run:
    """The stage that a run has learned with, if it is one of this recipe.

    How often it is said, drawn and saved how training goes may differ, and what is done with its weights.

    Raises:
        ValueError: it is missing, or another than the run was trained with, or another is asked for.
    """
    from reverie.runs import changes

    stage = run.stage(name)
    if recipe.schedule.learns:  # and has not yet
        recipe = replace(recipe, schedule=stage.recipe.schedule)
    differ = [
        each
        for each in changes(stage.recipe, recipe)
        if each[0] not in UNLEARNED and not each[0].startswith(("sample.", "evaluate."))
    ]
    if differ:
        shown = "; ".join(f"{key} is {old!r} there and {new!r} here" for key, old, new in differ[:3])
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise ValueError(
            f"{run.path} has learned with its stage {name}, which can be no other now: {shown}{more}. Choose another "
            f"--out, or the same settings"
        )
    return stage


def check_beneath(run: Run, examples: Examples) -> None:
    """Refuse stages that a run was not made for, though each may be right by itself.

    Raises:
        ValueError: examples of a base or of a pair are of another size, or a base was trained on other data; or a prior
            draws embeddings of another pair; with what would fit.
    """
    if run.has("base"):
        _check_base(run, run.stage("base"), examples)
    if run.has("pair"):
        _check_pair(run, run.stage("pair"))
    if run.has("prior"):
        _check_prior(run, run.stage("prior"))
    for name in ("teacher", "weaker"):
        if run.has(name):
            _check_teacher(run, run.stage(name), name)


def _check_base(run: Run, base: Run, examples: Examples) -> None:
    """A base's samples are the small pictures that an upsampler was trained to enlarge, and of the same wishes."""
    from reverie.data.smaller import smaller
    from reverie.image_conditions import LowResolution
    from reverie.runs import fingerprint

    condition, who = run.recipe.image_condition, f"the stage base ({base.path}) does not fit {run.path}"
    assert isinstance(condition, LowResolution)
    if run.recipe.space is not None and run.recipe.space.kind == "latent":
        raise ValueError(f"{who}: it draws data, and the model enlarges latents; right is space.kind=pixels")
    wanted = smaller(examples, condition.factor)
    if base.facts.shape != wanted.shape:
        raise ValueError(f"{who}: it draws {base.facts.shape}, and {wanted.shape} are enlarged")
    if base.facts.fingerprint != fingerprint(wanted):
        raise ValueError(
            f"{who}: it was trained on other data; train it on data.kind=smaller data.factor={condition.factor}, "
            f"with data.data the data of the run"
        )
    told = [name for name in run.vocabulary.parts if name not in ("image", *base.vocabulary.parts)]
    if told:
        raise ValueError(
            f"{who}: the run can be asked for {told[0]}, and it cannot; train both with the same labels, attributes "
            f"and captions"
        )


def _check_teacher(run: Run, teacher: Run, name: str) -> None:
    """A teacher has learned what the student is to do, and sees and is told the same."""
    from reverie.guiding import check_alike

    who = f"the stage {name} ({teacher.path}) cannot teach {run.path}"
    check_alike(run, teacher, who)
    if teacher.facts.fingerprint != run.facts.fingerprint:
        raise ValueError(f"{who}: it was trained on other data; give those that it was trained on")
    check_teaches(run.recipe.loss, teacher, who)


def check_teaches(loss: Loss, teacher: Run, who: str) -> None:
    """Refuse a teacher that has learned steps of its own, and not those that it would have to make here.

    Args:
        loss: of the student.
        teacher: the other run.
        who: in words, what cannot be then.

    Raises:
        ValueError: with the run to name in its place.
    """
    from reverie.losses import Taught
    from reverie.losses.base import layers

    inner, own = list(layers(loss))[-1], teacher.recipe.loss
    if not isinstance(inner, Taught):
        return
    within, learned = inner.led == "within", list(layers(own))[-1]
    try:
        scale = 1.0 if within and not own.scales else inner.guidance[1]
        own.check_sampling(*inner.solves, teacher.schedule, scale)
    except ValueError as error:
        raise ValueError(f"{who}: it is a student itself; name the run that it has learned from ({error})") from None
    if within and inner.guidance != (has := learned.guidance if isinstance(learned, Taught) else (1.0, 1.0)):
        raise ValueError(
            f"{who}: loss.led=within takes the guidance that the teacher has learned, {list(has)}; given loss.guidance="
            f"{list(inner.guidance)}"
        )
    if own.scales and not within:
        raise ValueError(f"{who}: it is a student that is told the scale of guidance; name the run it has learned from")


def _check_pair(run: Run, pair: Run) -> None:
    """A pair knows images of the size of those whose embeddings are told."""
    if run.recipe.embedding == "image" and pair.facts.shape != run.facts.shape:
        raise ValueError(
            f"the stage pair ({pair.path}) does not fit {run.path}: it is for images of {pair.facts.shape}, and these "
            f"are {run.facts.shape}"
        )


def _check_prior(run: Run, prior: Run) -> None:
    """A prior draws embeddings of the pair that the run was trained with."""
    who = f"the stage prior ({prior.path}) does not fit {run.path}"
    if prior.facts.shape != (run.facts.embedding,):
        raise ValueError(f"{who}: it draws {prior.facts.shape}, and embeddings are of ({run.facts.embedding},)")
    own, theirs = ({each.weights for each in one.facts.stages if each.name == "pair"} for one in (run, prior))
    if theirs and own != theirs:
        raise ValueError(f"{who}: its embeddings are those of another image-text pair; train it on those of this one")
