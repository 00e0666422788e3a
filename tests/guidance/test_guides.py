import pytest
import torch
from guided import COND, TEXT, TIMES, Deaf, Seeing, X
from helpers import cases, close, labelled

from reverie.conditioning import Cond
from reverie.config import from_data, registered, to_data
from reverie.exact import Gaussian
from reverie.guidance import (
    AdaptiveProjected,
    AdaptiveProjectedGuide,
    AutoGuide,
    AutoGuided,
    ClassifierFree,
    ClassifierFreeGuide,
    ClassifierGuide,
    ClassifierGuided,
    ClipGuide,
    ClipGuided,
    Embedded,
    Guide,
)
from reverie.schedules import LinearVP

F = labelled(LinearVP())
WEAK = Gaussian(LinearVP(), X[0], 1.0)
PAIR = Embedded(Seeing(LinearVP()), TEXT)
NEGATIVE = Cond(label=torch.tensor([1]))

MADE = [
    (ClassifierFreeGuide((0.1, 3.0), 0.5), None, ClassifierFree(F, 2.0, interval=(0.1, 3.0), rescale=0.5)),
    (
        AdaptiveProjectedGuide(0.2, 0.5, -0.5, (0.1, 3.0)),
        None,
        AdaptiveProjected(F, 2.0, eta=0.2, norm=0.5, momentum=-0.5, interval=(0.1, 3.0)),
    ),
    (AutoGuide("runs/weak", "best"), WEAK, AutoGuided(F, WEAK, 2.0)),
    (ClassifierGuide("runs/c"), F.classifier(), ClassifierGuided(F, F.classifier(), 2.0)),
    (ClipGuide("runs/p"), PAIR, ClipGuided(F, PAIR.pair, TEXT, 2.0)),
]


def test_every_guide_is_here():
    assert {type(guide) for guide, _, _ in MADE} == set(registered(Guide).values())


@pytest.mark.parametrize(("guide", "helper", "wanted"), MADE, ids=[guide.kind for guide, _, _ in MADE])
def test_a_guide_wraps_as_it_says(guide, helper, wanted):
    assert from_data(Guide, to_data(guide), "guide") == guide
    assert type(guide.wrap(F, 2.0, helper)) is type(wanted)
    assert close(guide.wrap(F, 2.0, helper)(X, TIMES, COND).x0, wanted(X, TIMES, COND).x0)
    assert torch.equal(guide.wrap(F, guide.neutral, helper)(X, TIMES, COND).x0, F(X, TIMES, COND).x0)
    if guide.needs:
        assert guide.needs == guide.run
        with pytest.raises(ValueError, match=f"needs the opened run {guide.run}"):
            guide.wrap(F, 2.0)
        with pytest.raises(ValueError, match="leave the negative one out"):
            guide.wrap(F, 2.0, helper, NEGATIVE)
        with pytest.raises(ValueError, match=r"needs guide\.run"):
            type(guide)("")
    else:
        guided = guide.wrap(F, 2.0, None, NEGATIVE)(X, TIMES, COND)
        assert not close(guided.x0, wanted(X, TIMES, COND).x0, 1e-3)


def test_settings_without_a_kind_are_of_classifier_free_guidance():
    assert from_data(Guide, {"interval": [0.3, 4.0]}, "guide") == ClassifierFreeGuide((0.3, 4.0))
    with pytest.raises(ValueError, match="guide needs a kind, one of"):
        from_data(Guide, {"run": "runs/weak"}, "guide")


@pytest.mark.parametrize(("kind", "told"), [("auto", "smaller"), ("classifier", "classifier"), ("clip", "kind=pair")])
def test_a_guide_that_needs_a_run_says_of_what(kind, told):
    with pytest.raises(ValueError, match=f"setting guide.run is missing; it has no default: the folder of .*{told}"):
        from_data(Guide, {"kind": kind}, "guide")


def test_a_guide_is_for_one_trajectory():
    guide = AdaptiveProjectedGuide(momentum=-0.5)
    first = guide.wrap(F, 2.0)
    first(X, TIMES, COND)
    assert close(guide.wrap(F, 2.0)(X, TIMES, COND).x0, AdaptiveProjected(F, 2.0)(X, TIMES, COND).x0)
    assert not close(first(X, TIMES, COND).x0, AdaptiveProjected(F, 2.0)(X, TIMES, COND).x0, 1e-3)


def test_embedded_prompts_go_with_their_examples():
    texts = Embedded(PAIR.pair, torch.arange(12.0).reshape(4, 3))
    assert torch.equal(texts.part(1, 3).text, texts.text[1:3])
    assert PAIR.part(1, 3) is PAIR
    with pytest.raises(ValueError, match="given Deaf"):
        ClipGuide("runs/p").wrap(F, 2.0, Deaf(F))


@pytest.mark.parametrize("cls", **cases(Guide))
def test_settings_are_checked(cls):
    for name in ("interval", "rescale", "norm"):
        if hasattr(cls, name):
            value = (2.0, 1.0) if name == "interval" else -1.0
            with pytest.raises(ValueError, match="given"):
                from_data(Guide, {**to_data(cls), name: value}, "guide")
