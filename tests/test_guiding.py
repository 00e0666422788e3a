"""Another run that guides: opened, refused where it does not fit, and samples led by it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Stub
from toys import begun, trained

from benchmarks.guided.judging import counted, within
from benchmarks.guided.page import tables
from benchmarks.guided.trading import gap
from benchmarks.publishing import filled
from reverie.conditioning import Cond
from reverie.data import Examples
from reverie.grids import Uniform
from reverie.guidance import (
    AdaptiveProjectedGuide,
    AutoGuide,
    ClassifierGuide,
    ClipGuide,
)
from reverie.guiding import check_weaker, embedded, helper_of, lead_of
from reverie.image_conditions import LowResolution
from reverie.prompts import Known
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.runs import Run, load, new_model
from reverie.samplers import DDIM, Picard
from reverie.schedules import Flow
from reverie.spaces import Standardized
from reverie.synthesis import denoise, sized
from reverie.text.transformer import Transformer

WEAKER = ("net.width=8", "train.steps=4", "train.ema_lengths=[]")
CLASSIFIER = ("kind=classifier", "train.ema_lengths=[]")
PAIR = ("kind=pair", "text.kind=transformer", "text.width=8", "text.depth=1", "text.heads=2")
N = 5


@pytest.fixture(scope="module")
def run():
    return load(trained("train.ema_lengths=[]"))


@pytest.fixture(scope="module")
def weaker():
    return load(trained(*WEAKER))


@pytest.fixture(scope="module")
def classifier():
    return load(trained(*CLASSIFIER))


def captioned():
    """Images of one colour, with its name."""
    colour = np.eye(3, dtype=np.uint8)[np.arange(30) % 3] * 200 + np.arange(30, dtype=np.uint8)[:, None]
    items = np.broadcast_to(colour[:, :, None, None], (30, 3, 4, 4)).copy()
    return Examples(items, image=True, texts=("red", "green", "blue") * 10)


def led(run, guide, scale, **told):
    """The first samples of a seed, guided."""
    sampling = replace(run.settings(guidance=scale), guide=guide)
    return run.sample(N, seed=3, sampling=sampling, **told)


def plain(run, **told):
    """The same ones, not guided."""
    return run.sample(N, seed=3, sampling=run.settings(guidance=1.0), **told)


def asked(classifier, samples):
    """log p of the classes asked for, at hardly any noise; (N,)."""
    x = classifier.space.encode(samples)
    logits = classifier.classifier(x, torch.full((len(x),), 0.02, dtype=torch.float64))
    return logits.log_softmax(1)[torch.arange(N), torch.arange(N)]


# -------------------------------------------------------------------------------- autoguidance


def test_scale_1_is_the_run_and_scale_0_the_weaker_model(run, weaker):
    guide = AutoGuide(run=str(weaker.path))
    assert torch.equal(led(run, guide, 1.0), plain(run))
    assert torch.equal(led(run, guide, 0.0), plain(weaker))
    assert not torch.equal(plain(run), plain(weaker))


def test_a_model_is_led_nowhere_by_itself(run):
    away = led(run, AutoGuide(run=str(run.path)), 4.0).int() - plain(run).int()
    assert int(away.abs().max()) <= 1  # by rounding


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_samples_led_by_a_weaker_model_are_the_same_in_any_batch(run, weaker, scale):
    guide = AutoGuide(run=str(weaker.path))
    together = led(run, guide, scale)
    assert not torch.equal(together, plain(run))
    sampling = replace(run.settings(guidance=scale), guide=guide)
    alone = [run.sample(1, label=i, seed=3, start=i, batch=1, sampling=sampling) for i in range(N)]
    assert torch.equal(torch.cat(alone), together)


def test_the_weights_asked_for_are_those_that_guide(run, weaker):
    with pytest.raises(ValueError, match=re.escape(f"{weaker.path / 'best.safetensors'} is missing")):
        led(run, AutoGuide(run=str(weaker.path), weights="best"), 2.0)


def other(run, facts=None, **recipe):
    """The same run, of which something else is said."""
    return Run(run.path, replace(run.recipe, **recipe), replace(run.facts, **(facts or {})), run.about)


def test_a_weaker_model_of_other_data_is_refused(run, weaker, classifier):
    check_weaker(run, weaker)
    with pytest.raises(ValueError, match="takes a weaker model of the same kind, and it is a classifier"):
        check_weaker(run, classifier)
    with pytest.raises(ValueError, match=r"examples of shape \(3, 8, 8\), not \(1, 8, 8\)"):
        check_weaker(run, other(weaker, {"shape": (3, 8, 8)}))
    with pytest.raises(ValueError, match=r"data encoded as standardized.*, not pixels"):
        check_weaker(run, other(weaker, space=Standardized((0.0,), (1.0,))))
    for unlike in (other(weaker, {"classes": ("odd", "even")}), other(weaker, labels=False)):
        with pytest.raises(ValueError, match=f"{weaker.path} cannot guide {run.path}: it was trained on the classes"):
            check_weaker(run, unlike)
    late = (*run.classes[:9], "ten")
    with pytest.raises(ValueError, match="the classes ten, not 9 from number 9 on"):
        check_weaker(run, other(weaker, {"classes": late}))
    with pytest.raises(ValueError, match=r"the attributes .*'?age.*, not none"):
        check_weaker(run, other(weaker, {"attributes": (Known("age", classes=("old", "new")),)}))
    with pytest.raises(ValueError, match=r"the text encoder .*, not none"):
        check_weaker(run, other(weaker, {"text": Transformer()}))
    with pytest.raises(ValueError, match=r"the image condition .*, not none"):
        check_weaker(run, other(weaker, image_condition=LowResolution()))


# ------------------------------------------------------------------------------- a classifier


def test_scale_0_is_the_run_and_a_classifier_leads_towards_the_class(run, classifier):
    guide = ClassifierGuide(run=str(classifier.path))
    assert torch.equal(led(run, guide, 0.0), plain(run))
    surer = asked(classifier, led(run, guide, 100.0)) - asked(classifier, plain(run))
    assert bool((surer > 0).all())


def test_samples_led_by_a_classifier_are_the_same_in_any_batch(run, classifier):
    guide = ClassifierGuide(run=str(classifier.path))
    together = led(run, guide, 5.0, label=[3, None, 7])
    sampling = replace(run.settings(guidance=5.0), guide=guide)
    each = ([3], [None], [7], [3], [None])
    alone = [run.sample(1, label=each[i], seed=3, start=i, batch=1, sampling=sampling) for i in range(N)]
    assert torch.equal(torch.cat(alone), together)
    unled = plain(run, label=[3, None, 7])
    same = [torch.equal(a, b) for a, b in zip(together, unled, strict=True)]
    assert same == [False, True, False, False, True]  # nothing leads where no class is asked for


def test_a_run_without_classes_is_led_to_those_of_the_classifier(classifier):
    free = load(trained("labels=false", "train.ema_lengths=[]"))
    guide = ClassifierGuide(run=str(classifier.path))
    each = led(free, guide, 100.0)
    assert bool((asked(classifier, each) > asked(classifier, plain(free))).all())
    assert torch.equal(led(free, guide, 100.0, label=[0, 1, 2, 3, 4]), each)
    some = led(free, guide, 100.0, label=["0", None])
    same = [torch.equal(a, b) for a, b in zip(some, plain(free), strict=True)]
    assert same == [False, True, False, True, False]
    lead = lead_of(free, Sampling(guide=guide), [3, None])
    assert lead.told(free.ask(3, lead.label, lead.prompt)).names == ("3", "", "3")
    with pytest.raises(ValueError, match="unknown label 'dog'"):
        led(free, guide, 1.0, label="dog")
    with pytest.raises(ValueError, match="leads to a class, and no sample is asked for one"):
        helper_of(free, Sampling(guide=guide), free.ask(2))


def test_labels_of_the_guide_stand_beside_what_the_run_is_told():
    told = Cond(vector=torch.ones(3, 2), drop=torch.tensor([[False, hidden, False, False] for hidden in (0, 1, 0)]))
    made = Request((4, None, 5), cond=told).condition([2, 1], "cpu")
    assert made.label.tolist() == [5, 0]
    assert made.drop.tolist() == [[False] * 4, [True, True, False, False]]
    beside = Request((4, None), texts=("a", "b")).condition(slice(None), "cpu")
    assert beside.hidden("label").tolist() == [False, True]
    assert not beside.hidden("text").any()  # a text is asked for also where no class is


# ------------------------------------------------------------------------------------- a pair


def test_a_text_is_read_by_itself_and_no_text_leads_nowhere(tmp_path):
    pair, _ = begun(tmp_path / "pair", *PAIR, examples=captioned())
    g = torch.Generator().manual_seed(0)
    begins = new_model(pair.recipe, pair.facts).net.state_dict()  # zeros among it, which see nothing
    pair.save_model({k: v + 0.3 * torch.randn(v.shape, generator=g) for k, v in begins.items()}, 0)
    free, _ = begun(tmp_path / "free", "labels=false", "captions=false", examples=captioned())
    free.save_model(new_model(free.recipe, free.facts).net.state_dict(), 0)
    alone = embedded(pair, ("red",)).text
    beside = embedded(pair, ("green green green blue red", "red", "", "red"))
    assert torch.equal(beside.text[1:2], alone)
    assert beside.given.tolist() == [True, True, False, True]
    assert embedded(pair, ("red", "blue")).given is None
    guide = ClipGuide(run=str(pair.path))
    shown = led(free, guide, 300.0, prompt=["red", "", "blue"])
    same = [torch.equal(a, b) for a, b in zip(shown, plain(free), strict=True)]
    assert same == [False, True, False, False, True]
    sampling = replace(free.settings(guidance=300.0), guide=guide)
    assert torch.equal(free.sample(1, prompt="blue", seed=3, start=2, batch=1, sampling=sampling)[0], shown[2])
    for texts in ((), ("", " ")):
        with pytest.raises(ValueError, match="leads to a text, and no sample is asked for one"):
            embedded(pair, texts)


# ------------------------------------------------------------------------------- on any device


def test_a_batch_is_chosen_with_the_other_model_at_hand(run, classifier, monkeypatch):
    seen = []
    monkeypatch.setattr("reverie.runs.sized", lambda f, shape, sampling, request, device, helper: seen.append(helper)
                        or request)  # fmt: skip
    monkeypatch.setattr("reverie.runs.compile_net", lambda f, notice: f)
    led(run, ClassifierGuide(run=str(classifier.path)), 2.0, compiled=True)
    assert [type(helper).__name__ for helper in seen] == ["NoisyClassifier"]
    monkeypatch.setattr("reverie.memory.available", lambda device: 10**9)
    monkeypatch.setattr("reverie.memory.peak", lambda device, call: call() or 0)
    f, sampling = Stub(Flow(), lambda x, t: x), Sampling(DDIM(), Uniform(2), 2.0, guide=AutoGuide("there"))
    assert sized(f, (2,), sampling, Request((0,) * 40), "meta", f).batch == 64


@pytest.mark.parametrize("momentum", [0.0, -0.5])
def test_elsewhere_rows_are_fixed_inside_what_holds_something_of_each_example(momentum):
    rows = []

    def x0(x, t):
        rows.append(len(x))
        return 0.5 * x

    sampling = Sampling(DDIM(), Uniform(3), 3.0, guide=AdaptiveProjectedGuide(momentum=momentum))
    made = [d.x.shape for d in denoise(Stub(Flow(), x0), (2,), sampling, Request((0, 1, 2), batch=4), "meta")]
    assert made[-1] == (3, 2)
    assert set(rows) == ({4} if momentum else {8})
    if momentum:
        picard = replace(sampling, sampler=Picard())
        with pytest.raises(ValueError, match="remembers the step before, and picard makes all steps at once"):
            list(denoise(Stub(Flow(), x0), (2,), picard, Request((0,)), "cpu"))


def test_what_cannot_guide_is_refused(run, weaker, tmp_path):
    for guide, why in (
        (ClassifierGuide(run=str(weaker.path)), "is a denoiser, which guides nothing"),
        (ClassifierGuide(run=str(tmp_path / "none")), re.escape(str(tmp_path / "none"))),
        (AutoGuide(run=str(tmp_path / "none")), re.escape(str(tmp_path / "none"))),
    ):
        with pytest.raises(ValueError, match=why):
            helper_of(run, Sampling(guide=guide), Request((1,)))
    assert helper_of(run, Sampling(), Request((1,))) is None


# ----------------------------------------------------------------------------- the benchmark


def test_diversity_is_the_mean_trace_of_the_covariances_also_of_resampled_examples():
    random = np.random.default_rng(0)
    values, labels = random.standard_normal((40, 3)) + 5, np.arange(40) % 4
    counts = counted(labels, 6)
    assert [counts[:, labels == k].sum(1).tolist() for k in range(4)] == 4 * [7 * [10.0]]
    for row, found in zip(counts.astype(int), within(values, counts, labels), strict=True):
        drawn = [np.repeat(values[labels == k], row[labels == k], axis=0) for k in range(4)]
        assert found == pytest.approx(np.mean([np.trace(np.cov(x.T)) for x in drawn]), rel=1e-12)


def test_the_gap_of_two_lines_is_their_mean_height_where_both_are():
    d = np.array([1.2, 0.8, 0.5, 0.2])
    low = (d, 1 - 0.1 * d)
    assert gap((d, low[1] + 0.02), low) == pytest.approx(0.02, rel=1e-12)
    bent = (np.array([1.0, 0.4, 0.6]), np.array([0.9, 0.96, 0.1]))  # goes back, below itself: the best part counts
    assert gap(bent, low) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(gap(low, (d + 2, d)))


def test_figures_of_the_page_are_those_measured():
    root = Path(__file__).parent.parent
    page = (root / "docs" / "guidance.md").read_text()
    assert filled(page, tables(json.loads((root / "benchmarks" / "results" / "guided.json").read_text()))) == page
