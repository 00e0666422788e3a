"""The other model that guides a run's samples, opened: see `reverie.guidance.guides`.

Letters in shapes: B batch, E width of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reverie.guidance import AutoGuide, ClassifierGuide, ClipGuide, Embedded
from reverie.recipe import Sampling
from reverie.request import Request

if TYPE_CHECKING:
    from reverie.runs import Run

SHOWN = 8
"""How many classes, attributes and the like a sentence names at the most."""


def helper_of(run: Run, sampling: Sampling, request: Request, device: torch.device | str = "cpu") -> object | None:
    """What `Guide.wrap` takes as the other model; None where the settings name none.

    Args:
        run: whose samples are guided.
        sampling: the settings.
        request: what is asked for; an image-text pair reads its texts.
        device: where to.

    Raises:
        ValueError: there is no such run, or it cannot guide this one; or a text is asked of no sample, or
            a class of a run that knows none itself.
    """
    from reverie.models import check_guides
    from reverie.runs import load

    guide = sampling.guide
    if guide is None or not guide.needs:
        return None
    path = Path(guide.needs)
    if isinstance(guide, AutoGuide):
        weaker = load(path, guide.weights)
        check_weaker(run, weaker)
        return weaker.to(device).denoiser
    other = load(path)
    check_guides(run, other)
    if isinstance(guide, ClipGuide):
        return embedded(other, request.texts, device)
    if not run.classes and all(label is None for label in request.labels):
        raise ValueError(f"guide.kind={guide.kind} leads to a class, and no sample is asked for one; give --label")
    return other.to(device).classifier


def embedded(pair: Run, texts: Sequence[str], device: torch.device | str = "cpu") -> Embedded:
    """What an image-text pair makes of the text of each of B samples, '' for none, which leads nowhere.

    Each different text is read by itself, so that it is the same whatever others are asked for beside it.

    Raises:
        ValueError: there is no text at all.
    """
    given = [bool(text.strip()) for text in texts]
    if not any(given):
        raise ValueError("guide.kind=clip leads to a text, and no sample is asked for one; give --prompt")
    model, reader = pair.to(device).pair, pair.vocabulary.reader
    read: dict[str, Tensor] = {}
    with torch.no_grad():
        for text in dict.fromkeys(texts):
            if text.strip():
                read[text] = model.text(reader.encode([text]).to(device))[0]
    nothing = torch.zeros_like(next(iter(read.values())))
    rows = torch.stack([read.get(text, nothing) for text in texts])
    return Embedded(model, rows, None if all(given) else torch.tensor(given, device=device))


# --------------------------------------------------------------------- what the guide alone is asked


@dataclass(frozen=True)
class Lead:
    """What a run is asked for, and what of it the other model alone understands, which then leads there."""

    label: int | str | Sequence[int | str | None] | None = None
    """Asked of the run: as for `Run.ask`."""
    prompt: str | Sequence[str] | None = None
    """Asked of the run: as for `Run.ask`."""
    guide: Run | None = None
    """The classifier, where the run itself knows no classes."""
    labels: int | str | Sequence[int | str | None] | None = None
    """Asked of the classifier."""
    texts: tuple[str, ...] = ()
    """Asked of the pair, where the run itself reads no text; used in turn."""

    def told(self, request: Request) -> Request:
        """The run's request, with what the other model is asked for; the run's network reads nothing of it.

        Raises:
            ValueError: the classifier has no such class.
        """
        n = len(request.labels)
        if self.guide is not None:
            labels, classes = self.guide.labels_for(n, self.labels), self.guide.classes
            said = ["" if label is None else classes[label] for label in labels]
            return replace(request, labels=labels, names=_named(request.names, said))
        if self.texts:
            texts = tuple(self.texts[i % len(self.texts)].strip() for i in range(n))
            return replace(request, texts=texts, names=_named(request.names, texts))
        return request


def lead_of(
    run: Run,
    sampling: Sampling,
    label: int | str | Sequence[int | str | None] | None = None,
    prompt: str | Sequence[str] | None = None,
) -> Lead:
    """Who is asked for a class and for a text: the run, or the guide alone where the run was trained without.

    A run that is told nothing is led to every class in turn where no class is asked for.

    Args:
        run: whose samples are guided.
        sampling: the settings.
        label: as for `Run.ask`.
        prompt: as for `Run.ask`.

    Raises:
        ValueError: there is no such guide, or it cannot guide this run.
    """
    from reverie.models import check_guides
    from reverie.runs import load

    guide = sampling.guide
    if isinstance(guide, ClassifierGuide) and not run.classes and (label is not None or run.vocabulary.plain):
        other = load(Path(guide.needs))
        check_guides(run, other)
        return Lead(None, prompt, guide=other, labels=label)
    if isinstance(guide, ClipGuide) and run.vocabulary.text is None and prompt:
        texts = (prompt,) if isinstance(prompt, str) else tuple(prompt)
        return Lead([None] if label is None else label, texts=texts)
    return Lead(label, prompt)


def _named(names: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """What each sample is called, with something more of each; nothing more where that is the same of all."""
    if len(set(more)) < 2:
        return tuple(names)
    return tuple(", ".join(filter(None, each)) for each in zip(names or [""] * len(more), more, strict=True))


# --------------------------------------------------------------------------------- a weaker model


def check_weaker(run: Run, weaker: Run) -> None:
    """Refuse a model for autoguidance that sees or is told other things.

    Raises:
        ValueError: it is no denoiser, or its data have another shape or encoding, or it knows other classes or
            attributes, reads text otherwise or sees another image.
    """
    if weaker.recipe.kind != "denoiser":
        raise ValueError(
            f"{weaker.path} cannot guide {run.path}: guide.kind=auto takes a weaker model of the same kind, and it is "
            f"a {weaker.recipe.kind}"
        )
    check_alike(run, weaker, f"{weaker.path} cannot guide {run.path}")


def check_alike(run: Run, other: Run, who: str) -> None:
    """Refuse a model that sees or is told other things than a run's.

    Args:
        run: whose model is the measure.
        other: the other model's.
        who: in words, what cannot be then.

    Raises:
        ValueError: as `check_other`, of two denoisers.
    """
    for what, theirs, ours in (
        ("examples of shape", other.facts.shape, run.facts.shape),
        ("data encoded as", other.encoding, run.encoding),
        ("the text encoder", other.facts.text, run.facts.text),
        ("the image condition", other.recipe.image_condition, run.recipe.image_condition),
    ):
        if theirs != ours:
            raise ValueError(f"{who}: it was trained on {what} {theirs or 'none'}, not {ours or 'none'}")
    for what, own, known in (
        ("the classes", other.classes, run.classes),
        ("the attributes", other.facts.attributes, run.facts.attributes),
    ):
        if own != known:
            raise ValueError(f"{who}: it was trained on {what} {_apart(own, known)}")


def _apart(theirs: Sequence[object], ours: Sequence[object]) -> str:
    """In what two sequences differ, from their first difference on."""
    same = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours)))

    def shown(values: Sequence[object]) -> str:
        more = ", ..." if len(values) > same + SHOWN else ""
        return ", ".join(map(str, values[same : same + SHOWN])) + more or "none"

    from_ = f" from number {same} on" if same else ""
    return f"{shown(theirs)}, not {shown(ours)}{from_}"
