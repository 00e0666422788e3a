"""A plan: the recipe of a run, and those of its stages, each with stages of its own if need be.

In a file or on the command line the stages stand in tables beside the run's own settings::

    space.kind = "latent"                  # the run
    [stages.autoencoder]                   # a stage of it: a recipe as any other
    loss.adversarial = 0.1

    reverie train fashion latent_diffusion stages.autoencoder.train.steps=500
    reverie train fashion latent_diffusion stages.autoencoder=runs/of-mine     # one that is trained already

A path that begins with `../` is taken from the folder of the stage that needs it: `../pair` is the stage beside.

A stage has the data of the run, what of it conditions the model, the seed, the split and the precision, unless it says
otherwise; all else is as in a recipe without settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from reverie import config
from reverie.config import Plain
from reverie.data import Smaller
from reverie.data.embeddings import Embeddings
from reverie.recipe import Recipe, compose
from reverie.stages import KINDS, TABLE, check_wanted, named_in, wanted

KEY = "stages"
SHARED = ("data", "labels", "attributes", "captions", "text")
"""Settings that a stage has of its run."""
MADE_OF = ("smaller", "embeddings")
"""Kinds of data that are made of other data: those of the run, where a stage does not say which."""
NAMING = {"autoencoder": ("space", "autoencoder"), "perceptual": ("loss", "perceptual")}
"""Settings of the run that name the folder of a stage."""
SHARED_IN_TRAINING = ("seed", "validation", "precision", "report_to")
"""Those of `train`."""


@dataclass(frozen=True)
class Plan:
    """A recipe and what its stages are: plans to be trained first, or folders of runs."""

    recipe: Recipe
    stages: Mapping[str, Plan | Path] = field(default_factory=dict)

    def recipes(self) -> Iterator[Recipe]:
        """Those to be trained, that of the run last."""
        for stage in self.stages.values():
            if isinstance(stage, Plan):
                yield from stage.recipes()
        yield self.recipe

    def placed(self, out: Path) -> Plan:
        """The plan with paths that begin with `../`, in what a stage needs, taken from that stage's folder."""

        def place(path: str, folder: Path) -> str:
            return os.path.normpath(folder / path) if path.startswith("../") else path

        made: dict[str, Plan | Path] = {}
        for name, each in self.stages.items():
            made[name] = each.placed(out / name) if isinstance(each, Plan) else Path(place(str(each), out))
        data = self.recipe.data
        if isinstance(data, Embeddings):
            data = replace(data, pair=place(data.pair, out))
        return replace(self, recipe=replace(self.recipe, data=data), stages=made)

    def to_data(self) -> dict[str, Plain]:
        """As a file would hold it."""
        made: dict[str, Plain] = config.to_data(self.recipe)
        told = {name: each.to_data() if isinstance(each, Plan) else str(each) for name, each in self.stages.items()}
        return {**made, KEY: told} if told else made


def planned(layers: Iterable[Mapping[str, Plain]]) -> Plan:
    """The plan that the layers make, later ones on top.

    Raises:
        ValueError: as `compose`; a stage that the recipe has no use for, or needs and is not given.
    """
    own = [dict(layer) for layer in layers]
    tables: dict[str, Plain] = {}
    for layer in own:
        given = layer.get(KEY, {})
        if not isinstance(given, Mapping):
            raise ValueError(f"{KEY} must be a table of stages, such as {KEY}.base; given {given!r}")
        tables = config.merged(tables, given)
    _check_settings(own)
    for layer in own:
        layer.pop(KEY, None)
    recipe = compose(own)
    found = {name: _stage(recipe, name, told) for name, told in tables.items()}  # those that go unused are checked too
    for name, path in named_in(recipe).items():
        if isinstance(found.get(name), Path) and found[name] != Path(path):
            raise ValueError(f"two folders for the stage {name}, {found[name]} and {path}; give one")
        found[name] = Path(path)
    check_wanted(recipe, found)
    return Plan(recipe, {name: found[name] for name in wanted(recipe) if name in found})


def _folders(layer: Mapping[str, Plain], stages: Mapping[str, Plain]) -> set[str]:
    """Stages that a layer, or its table of stages, names a folder for."""
    parts = {name: (layer.get(part), key) for name, (part, key) in NAMING.items()}
    named = [(name, part.get(key)) for name, (part, key) in parts.items() if isinstance(part, Mapping)]
    return {name for name, path in (*named, *stages.items()) if isinstance(path, str) and path not in ("", TABLE)}


def _single(layer: Plain) -> bool:
    """Whether a layer is one setting, as a word of the command line is, and no recipe."""
    while isinstance(layer, Mapping) and len(layer) == 1:
        layer = next(iter(layer.values()))
    return not isinstance(layer, Mapping)


def _check_settings(layers: Sequence[Mapping[str, Plain]]) -> None:
    """Refuse settings of a stage that is a folder, where they do not stand in a recipe that the folder is laid over.

    Raises:
        ValueError: with the first of them.
    """
    folders: set[str] = set()
    told: dict[str, str] = {}
    for layer in layers:
        stages = layer.get(KEY, {})
        folders |= _folders(layer, stages)
        given = {
            name: f"{KEY}.{name}.{next(iter(own), '')}" for name, own in stages.items() if isinstance(own, Mapping)
        }
        told |= given if _single(layer) else {name: key for name, key in given.items() if name in folders}
        for name in folders & told.keys():
            raise ValueError(
                f"the stage {name} is given as a folder, a run that is trained already, and {told[name]} means nothing "
                f"to it; leave that out, or the folder"
            )


def _stage(recipe: Recipe, name: str, told: Plain) -> Plan | Path:
    """A stage: a path, or a table laid over what it shares with the run."""
    if name not in KINDS:
        raise ValueError(f"there is no stage {name!r}; there may be: {', '.join(KINDS)}")
    if isinstance(told, str):
        return Path(told)
    if not isinstance(told, Mapping):
        raise ValueError(f"{KEY}.{name} must be a table of settings or the folder of a run; given {told!r}")
    whole = config.to_data(recipe)
    shared = {key: whole[key] for key in SHARED if whole[key] is not None}
    shared["train"] = {key: whole["train"][key] for key in SHARED_IN_TRAINING}
    own = {**told, **_data(recipe, name, told.get("data"))}
    try:
        made = planned([{"kind": KINDS[name]}, shared, own])
    except ValueError as error:
        raise ValueError(f"{KEY}.{name}: {error}") from None
    _check_stage(recipe, name, made.recipe)
    return made


def _data(recipe: Recipe, name: str, told: Plain) -> dict[str, Plain]:
    """The data of a stage, where they are made of others or of those of the run; a base learns the smaller ones."""
    factor = getattr(recipe.image_condition, "factor", None)
    if name == "base" and factor is not None and (told is None or isinstance(told, Mapping)):
        told = {"kind": "smaller", **(told or {})}
    if not isinstance(told, Mapping) or told.get("kind") not in MADE_OF:
        return {}
    own = {"factor": factor, **told} if name == "base" and told["kind"] == "smaller" else told
    return {"data": config.merged({"data": config.to_data(recipe.data)}, own)}


def _check_stage(recipe: Recipe, name: str, stage: Recipe) -> None:
    """Refuse, before it is trained, a stage that its run would refuse afterwards.

    Raises:
        ValueError: it is of another kind, or draws pictures of another size than those that are enlarged.
    """
    if stage.kind != KINDS[name]:
        raise ValueError(f"{KEY}.{name} is a run of kind={KINDS[name]}; given kind={stage.kind}")
    factor = getattr(recipe.image_condition, "factor", None)
    if name == "base" and isinstance(stage.data, Smaller) and factor not in (None, stage.data.factor):
        raise ValueError(
            f"{KEY}.base draws pictures made smaller by {stage.data.factor}, and image_condition.factor={factor} "
            f"enlarges others: give {KEY}.base.data.factor={factor}"
        )
