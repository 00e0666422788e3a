"""Beginning with the weights of another run: fine-tuning, also to more conditions.

Letters in shapes: O channels out, I channels in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from reverie.config import in_words
from reverie.models import Model
from reverie.nets.base import Backbone
from reverie.runs import Run, load


def begin_with(model: Model, source: str) -> None:
    """Put the weights of the run in `source` into a new model, where it has such.

    What the new network has besides, such as the table of a condition, stays as it is drawn; a layer that takes more
    channels than before, such as a picture beside x, takes nothing from the new ones at first, so that the network
    begins as what it was (Nichol et al., 2022, GLIDE, section 2.2, for the mask and the picture of inpainting). Where
    the other network puts out more numbers of each, such as a variance besides, the first are taken.

    Raises:
        ValueError: the run is another kind of network, of which nothing would be left.
    """
    net, before = model.net, load(Path(source)).model.net
    theirs, own, stacks = before.state_dict(), net.state_dict(), (stacked(before), stacked(net))
    for name in _putting_out(net, before, own, theirs):
        theirs[name] = theirs[name][: len(own[name])]
    found = {name: fitted(theirs[name], own[name], *stacks) for name in own if name in theirs}
    wrong = [name for name, value in found.items() if value is None]
    if wrong or not found:
        shapes = (
            f"{tuple(theirs[wrong[0]].shape)}, here {tuple(own[wrong[0]].shape)}" if wrong else "no weight is the same"
        )
        raise ValueError(
            f"train.start={source} is a run of another network ({wrong[0] if wrong else 'names'}: {shapes}); give net "
            f"the settings that it has there"
        )
    if dropped := [name for name in theirs if name not in own]:
        raise ValueError(
            f"train.start={source} has weights that this network has no place for, such as {dropped[0]}; give net the "
            f"settings that it has there, and let it be told as much"
        )
    model.net.load_state_dict({**own, **{name: value for name, value in found.items() if value is not None}})


def _putting_out(
    net: nn.Module, before: nn.Module, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> list[str]:
    """The weights (O, ...) of layers that put out what leaves the network, where more left it before."""
    if not isinstance(net, Backbone) or not isinstance(before, Backbone) or before.channels_out <= net.channels_out:
        return []
    shared = (name for name in own if name in theirs and own[name].ndim and theirs[name].ndim)
    return [n for n in shared if len(theirs[n]) * net.channels_out == len(own[n]) * before.channels_out]


def check_start(run: Run) -> None:
    """Refuse to begin with a network whose numbers mean something else.

    What it puts out may be something else where the loss says so: `Loss.anew`.

    Raises:
        ValueError: its output, its time label or its data are encoded otherwise.
    """
    other = load(Path(run.recipe.train.start))
    for what, theirs, ours in (
        ("parameterization", in_words(other.recipe.parameterization), in_words(run.recipe.parameterization)),
        ("time_label", in_words(other.recipe.time_label), in_words(run.recipe.time_label)),
        ("space", other.encoding, run.encoding),
    ):
        if theirs != ours and not (run.recipe.loss.anew and what == "parameterization"):
            raise ValueError(
                f"train.start={run.recipe.train.start} has another {what}, {theirs}, than this run, {ours}: it would "
                f"begin as nonsense; give {what} the settings that it has there"
            )


def stacked(net: nn.Module) -> list[tuple[str, int]]:
    """What each channel is that a backbone takes in: of x and what stands beside it, of the picture, the ones of EDM2.

    Nothing for what is no backbone.
    """
    if not isinstance(net, Backbone):
        return []
    last = [("ones", 0)] if getattr(net, "magnitude", False) else []
    widths = {"x": net.channels_in - net.conditions.image, "image": net.conditions.image}
    return [(name, i) for name, width in widths.items() for i in range(width)] + last


def fitted(
    theirs: Tensor, own: Tensor, before: Sequence[tuple[str, int]] = (), now: Sequence[tuple[str, int]] = ()
) -> Tensor | None:
    """Weights (O, I, ...) for a layer with as many channels in or more, those 0; None where they do not fit.

    Args:
        theirs: the weights that there are.
        own: those in whose place they come.
        before: what the network they are of takes in, as `stacked` says it; a layer that reads it, or several numbers
            of each channel, finds every channel where it is now. New channels are the last ones else.
        now: what the new one takes in.
    """
    if theirs.shape == own.shape:
        return theirs
    more = own.ndim > 1 and own.shape[1] > theirs.shape[1]
    if not more or own.shape[0] != theirs.shape[0] or own.shape[2:] != theirs.shape[2:]:
        return None
    made, each = torch.zeros_like(own), theirs.shape[1] // max(1, len(before))
    if (theirs.shape[1], own.shape[1]) == (each * len(before), each * len(now)) and set(before) <= set(now):
        places = [now.index(channel) for channel in before]
        made.unflatten(1, (-1, each))[:, places] = theirs.unflatten(1, (-1, each))
    else:
        made[:, : theirs.shape[1]] = theirs
    return made
