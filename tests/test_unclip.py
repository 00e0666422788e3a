"""unCLIP: a prior draws what the decoder is told, unless it is given; nothing told is nothing seen."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from embedded import EXAMPLES, IMAGE, LOW, PRIOR, SMALL, captioned, cascade, embeddings, pair_of, prior_of, stirred
from embedded import unclip as unclipped
from helpers import close
from staged import own_cache  # noqa: F401  # a fixture
from toys import MLP

from reverie.cascade import SPOILING, Base
from reverie.cli.below import with_below
from reverie.conditioning import Cond
from reverie.data import Digits
from reverie.data.smaller import smaller
from reverie.edits import Vary, Wish, edit
from reverie.grids import Uniform
from reverie.guidance import ClassifierFree
from reverie.recipe import Recipe, Sampling
from reverie.runs import load
from reverie.samplers import DDIM
from reverie.unclip import OfText, Prior

CPU = torch.device("cpu")
TEXTS = ["a red square", "", "a blue square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("unclip")


@pytest.fixture(scope="module")
def run(folder):
    """A decoder of 4x4 pictures with its pair and its prior."""
    return unclipped(folder / "run")


@pytest.fixture(scope="module")
def large(folder):
    """What enlarges the decoder's pictures to 8x8."""
    return cascade(folder / "large")


def asked(run, prompt=None, n=3, seed=5, **more):
    return replace(run.ask(n, prompt=prompt, **more), seed=seed)


def told(run, request):
    """What the model of a run is told of a request."""
    return request.told(run.settings(), CPU).condition(slice(None), CPU)


def below(run):
    (found,) = run.ask(1).below
    return found


def unit(x):
    return math.sqrt(x.shape[1]) * F.normalize(x, dim=1)


# ------------------------------------------------------------------------------------- the prior


def test_the_prior_makes_what_it_draws_by_itself_of_the_same_seed_at_the_length_of_embeddings(run):
    made = told(run, asked(run, TEXTS)).vector
    alone = run.stage("prior").sample(3, prompt=TEXTS, seed=5)
    assert torch.equal(made, unit(alone))
    assert close(made.norm(dim=1), torch.full((3,), math.sqrt(128)), 1e-5)
    assert not close(made[:1], made[2:], 0.1)
    assert not close(alone.norm(dim=1), made.norm(dim=1), 0.1)  # so that it is no matter of course


def test_which_samples_are_asked_for_is_passed_on(run):
    whole = told(run, asked(run, TEXTS, 6)).vector
    assert torch.equal(told(run, asked(run, TEXTS, 6).part(2, 5)).vector, whole[2:5])
    assert torch.equal(told(run, replace(asked(run, TEXTS), start=3)).vector, whole[3:])
    assert not torch.equal(told(run, asked(run, TEXTS, seed=6)).vector, whole[:3])


def test_how_the_prior_samples_is_its_own(run):
    prior = below(run)
    assert isinstance(prior, Prior)
    other = Sampling(DDIM(), Uniform(5), guidance=2.0)
    made = replace(prior, sampling=other)(asked(run, TEXTS), run.settings(), CPU).vector
    assert torch.equal(made, unit(run.stage("prior").sample(3, prompt=TEXTS, seed=5, sampling=other)))
    changed = asked(run, TEXTS).told(replace(run.settings(), guidance=4.0), CPU).cond.vector
    assert torch.equal(changed, told(run, asked(run, TEXTS)).vector)


def test_of_several_candidates_the_nearest_to_the_text_is_kept(run):
    prior, joint = below(run), run.stage("prior").joint
    wanted = asked(run, TEXTS)
    of_texts = joint.texts(TEXTS)
    near = []
    for candidates in (1, 2, 5):
        sampling = replace(prior.sampling, candidates=candidates)
        made = replace(prior, sampling=sampling)(wanted, run.settings(), CPU).vector
        near.append(F.cosine_similarity(made, of_texts, dim=1))
        assert torch.equal(made[1], told(run, wanted).vector[1])  # nothing is nearer where there is no text
        part = replace(prior, sampling=sampling)(wanted.part(1, 3), run.settings(), CPU).vector
        assert torch.equal(part, made[1:])
    one, two, five = (each[[0, 2]] for each in near)
    assert bool((one <= two).all() and (two <= five).all() and (one < five).any())


def test_candidates_are_of_a_prior_alone(run):
    with pytest.raises(ValueError, match="name the stage"):
        run.recipe.check_sampling(Sampling(candidates=2))
    recipe = run.stage("prior").recipe
    recipe.check_sampling(Sampling(candidates=2))
    with pytest.raises(ValueError, match="name the stage"):  # told the embedding of a text, and drawing pictures
        replace(recipe, data=Digits()).check_sampling(Sampling(candidates=2))
    with pytest.raises(ValueError, match="at least 1"):
        Sampling(candidates=0)


def test_candidates_are_named_for_the_stage_that_draws_them(large):
    with_below(large, ["base.prior.candidates=4"])
    assert large.sampling_below["base.prior"].candidates == 4
    with pytest.raises(ValueError, match="itself that draws"):
        with_below(large.stage("base").stage("prior"), ["candidates=4"])


def test_the_noise_of_candidates_is_their_own(run):
    prior = [replace(asked(run.stage("prior")), candidate=k).keys[0] for k in range(3)]
    above = asked(run).keys[0]
    assert len({*prior, above, (*above, SPOILING), (*prior[0], SPOILING)}) == 6


def test_the_noise_of_decoder_and_prior_and_of_what_enlarges_is_not_the_same(large):
    runs = [large, large.stage("base"), large.stage("base").stage("prior")]
    keys = [tuple(each.ask(1).keys[0]) for each in runs]
    assert len(set(keys)) == 3
    assert [each.ask(1).depth for each in runs] == [3, 2, 1]
    assert keys[-1][:2] == keys[0][:2] == (0, 0)


def test_samples_are_the_same_in_any_batch_and_from_any_start(large):
    whole = large.sample(70, prompt=TEXTS[0], seed=3)
    assert torch.equal(large.sample(70, prompt=TEXTS[0], seed=3, batch=32), whole)
    assert torch.equal(large.sample(6, prompt=TEXTS[0], seed=3, start=64), whole[64:])


def test_a_class_that_the_prior_does_not_know_is_not_asked_of_it(tmp_path):
    """It was trained without, and the decoder with them."""
    labelled = smaller(captioned(labels=True), 2)
    pair = pair_of(tmp_path / "pair", examples=labelled)
    for labels in (True, False):
        words = (f"labels={str(labels).lower()}",)
        prior = prior_of(tmp_path / f"prior-{labels}", pair, *words, examples=labelled)
        stages = {"pair": pair.path, "prior": prior.path}
        run = stirred(tmp_path / f"run-{labels}", *IMAGE, examples=labelled, needed=stages)
        made = told(run, asked(run, TEXTS, label=[1, 2, None])).vector
        own = {"label": [1, 2, None]} if labels else {}
        assert torch.equal(made, unit(prior.sample(3, prompt=TEXTS, seed=5, **own)))


@pytest.fixture(scope="module")
def named(folder):
    """A decoder that is told classes, and no text, and what enlarges its pictures."""
    labelled = captioned(labels=True)
    small = smaller(labelled, 2)
    pair = pair_of(folder / "named-pair", examples=small)
    prior = prior_of(folder / "named-prior", pair, "labels=false", examples=small)
    stages = {"pair": pair.path, "prior": prior.path}
    words = ("data.kind=smaller", "data.data.kind=digits", *IMAGE, "captions=false", "text=none")
    base = stirred(folder / "named-base", *words, examples=small, needed=stages)
    words = (*MLP, *LOW, "captions=false", "text=none")
    return stirred(folder / "named", *words, examples=labelled, needed={"base": base.path})


def test_who_is_asked_for_no_class_is_still_told_the_embedding(named):
    """Whatever else is asked for beside it."""
    base = named.stage("base")
    assert base.vocabulary.parts == ("label",)
    alone, beside = (told(base, asked(base, n=2, label=label)) for label in ([None], [None, 1]))
    assert torch.equal(alone.vector, beside.vector)
    assert beside.hidden("label").tolist() == [True, False]
    assert beside.hidden("vector").tolist() == [False, False]
    x, t = torch.randn(2, *base.shape, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5)
    a, b = (base.denoiser(x, t, cond).x0 for cond in (alone, beside))
    assert close(a[:1], b[:1], 1e-5)
    assert not close(a[1:], b[1:], 1e-2)
    given = told(base, asked(base, n=2, label=[None, 1], embedding=alone.vector))
    assert torch.equal(given.vector, alone.vector)
    assert given.hidden("label").tolist() == [True, False]
    assert given.hidden("vector").tolist() == [False, False]
    one, other = (base.sample(2, label, seed=3)[0] for label in ([None], [None, 1]))
    assert int((one.int() - other.int()).abs().max()) <= 1


def test_each_of_a_way_is_asked_for_its_own_class(named):
    """Also where the first is asked for none."""
    large = captioned(labels=True)
    pictures = [torch.from_numpy(large.items[i : i + 1]) for i in (0, 3)]

    def drawn(label):
        return edit(named, Vary(*pictures), Wish(label=label), 2, sampling=named.settings()).int()

    one, none, first, last = (drawn(label) for label in (1, None, [1, None], [None, 1]))
    assert int((first - torch.stack([one[0], none[1]])).abs().max()) <= 1
    assert int((last - torch.stack([none[0], one[1]])).abs().max()) <= 1
    assert int((one - none).abs().amax((1, 2, 3)).min()) > 1


# -------------------------------------------------------------------------- an embedding that is given


def refuse(*_):
    raise AssertionError("the prior was asked")


@pytest.mark.parametrize("rows", [1, 3])
def test_an_embedding_that_is_given_takes_the_place_of_the_priors(run, rows, monkeypatch):
    own = run.joint.images(SMALL.items[:rows])
    monkeypatch.setattr(Prior, "__call__", refuse)
    request = asked(run, TEXTS, embedding=own)
    assert request.below == ()
    assert torch.equal(told(run, request).vector, own.expand(3, -1))
    assert torch.equal(told(run, request.part(1, 3)).vector, own.expand(3, -1)[1:])
    assert told(run, request).hidden("vector").tolist() == [False] * 3  # though there is no text for the second
    with pytest.raises(AssertionError, match="the prior was asked"):
        run.sample(3, prompt=TEXTS, seed=5)


@pytest.mark.parametrize("rows", [1, 3])
def test_an_embedding_is_passed_on_through_a_cascade(large, rows, monkeypatch):
    base = large.stage("base")
    own = base.joint.images(SMALL.items[:rows])
    monkeypatch.setattr(Prior, "__call__", refuse)
    request = asked(large, TEXTS, embedding=own)
    assert [type(each) for each in request.below] == [Base]
    drawn = asked(base, TEXTS, embedding=own)
    small = Base(base, large.space, large.recipe.image_condition, base.settings()).small(drawn, CPU)
    assert torch.equal(told(large, request).image, large.recipe.image_condition.enlarged(small))
    other = asked(base, TEXTS, embedding=base.joint.images(SMALL.items[3:4]))
    assert not torch.equal(below(large).small(other, CPU), small)
    for first, last in ((0, 2), (1, 3)):
        part = told(large, request.part(first, last)).image
        assert torch.equal(part, told(large, request).image[first:last])


@pytest.mark.parametrize(
    ("embedding", "sentence"),
    [
        (torch.zeros(2, 128), r"embeddings must be of \(1 or 3, 128\); given \(2, 128\)"),
        (torch.zeros(1, 64), r"given \(1, 64\)"),
        (torch.zeros(128), r"given \(128,\)"),
    ],
    ids=str,
)
def test_embeddings_of_other_sizes_are_refused(run, embedding, sentence):
    with pytest.raises(ValueError, match=sentence):
        run.ask(3, embedding=embedding)


def test_a_run_that_is_told_none_is_given_none(tmp_path):
    run = stirred(tmp_path / "run", *MLP)
    with pytest.raises(ValueError, match="was trained without embeddings, so it has no use for one"):
        run.ask(1, embedding=torch.zeros(1, 128))


# ------------------------------------------------------------------------------------- nothing told


def test_a_text_that_is_empty_is_hidden_from_the_prior(run):
    prior = run.stage("prior")
    cond = told(prior, asked(prior, TEXTS))
    assert cond.hidden("vector").tolist() == [False, True, False]
    assert cond.hidden("text").tolist() == [False, True, False]
    assert torch.equal(cond.vector[[0, 2]], prior.joint.texts(["a red square", "a blue square"]))
    made = {text: prior.sample(2, prompt=text, seed=1) for text in ("", "  ", "red")}
    assert torch.equal(made[""], made["  "])
    assert not torch.equal(made[""], made["red"])
    assert made[""].isfinite().all()


def test_the_prior_is_told_the_embedding_of_the_text_beside_the_text(run):
    prior, x, t = run.stage("prior"), torch.randn(1, 128, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5)
    cond = told(prior, asked(prior, "a red square", 1))
    other = replace(cond, vector=prior.joint.texts(["a blue square"]))
    assert not close(prior.denoiser(x, t, cond).x0, prior.denoiser(x, t, other).x0, 1e-3)
    hidden = cond.without(1, "vector")
    assert torch.equal(
        prior.denoiser(x, t, hidden).x0, prior.denoiser(x, t, replace(other, drop=hidden.drop)).x0)  # fmt: skip
    assert not close(prior.denoiser(x, t, hidden).x0, prior.denoiser(x, t, cond).x0, 1e-3)


def test_what_hides_all_hides_the_embedding(run):
    """And classifier-free guidance leads from there."""
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(3, *run.shape, generator=g), torch.tensor(0.5)
    one, other = (told(run, asked(run, TEXTS, embedding=run.joint.images(SMALL.items[i : i + 1]))) for i in (0, 3))
    c, d = (run.denoiser(x, t, cond).x0 for cond in (one, other))
    assert not close(c, d, 1e-2)
    u = run.denoiser(x, t, one.null(3)).x0
    assert torch.equal(u, run.denoiser(x, t, other.null(3)).x0)
    assert close(u, run.denoiser(x, t, Cond()).x0, 1e-6)
    assert not close(u, c, 1e-2)
    assert close(ClassifierFree(run.denoiser, 3.0)(x, t, one).x0, u + 3 * (c - u), 1e-4)


def test_training_hides_the_embedding_apart(run):
    assert run.vocabulary.apart == ("vector", "text")
    told_of = run.told(SMALL)
    assert torch.equal(told_of.embedded, run.joint.images(SMALL.items))
    rows, apart = np.arange(4), torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    cond = told_of.cond(rows, torch.zeros(4, *run.shape), apart=apart)
    assert cond.hidden("vector").tolist() == [True, False, True, False]
    assert cond.hidden("text").tolist() == [False, True, True, False]
    assert torch.equal(cond.vector, told_of.embedded[:4])


def test_a_decoder_told_neither_text_nor_embedding_still_draws(folder):
    run = unclipped(folder / "bare", prior=False)
    assert run.ask(2, prompt="").below == ()
    x = run.sample(2, prompt="", seed=3)
    assert x.dtype == torch.uint8
    assert torch.equal(run.sample(1, prompt="", seed=3), x[:1])
    assert not torch.equal(x[0], x[1])
    assert not torch.equal(run.sample(2, prompt="a red square", seed=3), x)
    f, shape = run.denoiser, (2, *run.shape)
    assert f(torch.zeros(shape), torch.tensor(0.5), None).x0.isfinite().all()


# ----------------------------------------------------------------------- a stage that is of another run


def refused(tmp_path, sentence, make):
    with pytest.raises(ValueError, match=sentence):
        make()
    assert not list((tmp_path / "new").rglob("config.json"))


def test_a_prior_of_another_pair(tmp_path):
    """Also of one of the same data, whose weights are others."""
    one, other = (pair_of(tmp_path / name, f"train.seed={i}") for i, name in enumerate(("one", "other")))
    prior = prior_of(tmp_path / "prior", other)
    stages = {"pair": one.path, "prior": prior.path}
    refused(tmp_path, r"the stage prior \(.*\) does not fit .*: its embeddings are those of another image-text pair", (
        lambda: stirred(tmp_path / "new", *IMAGE, needed=stages)))  # fmt: skip
    right = stirred(tmp_path / "right", *IMAGE, needed={"pair": other.path, "prior": prior.path})
    assert right.stage("prior").facts.shape == (right.facts.embedding,)


def test_a_prior_of_embeddings_of_another_width(tmp_path):
    pair = pair_of(tmp_path / "pair")
    whole = embeddings(pair)
    narrow = replace(whole, items=whole.items[:, :96])
    prior = stirred(tmp_path / "prior", *PRIOR, examples=narrow, needed={"pair": pair.path})
    refused(tmp_path, r"it draws \(96,\), and embeddings are of \(128,\)", lambda: stirred(
        tmp_path / "new", *IMAGE, needed={"pair": pair.path, "prior": prior.path}))  # fmt: skip


def test_a_pair_of_images_of_another_size(tmp_path):
    pair = pair_of(tmp_path / "pair", examples=EXAMPLES)
    refused(tmp_path, r"the stage pair \(.*\) does not fit .*: it is for images of \(3, 8, 8\), and these are "
            r"\(3, 4, 4\)", lambda: stirred(tmp_path / "new", *IMAGE, needed={"pair": pair.path}))  # fmt: skip


def test_embeddings_of_captions_need_no_pair_of_that_size(tmp_path):
    """The prior's own examples are embeddings, of which the pair knows nothing."""
    pair = pair_of(tmp_path / "pair")
    prior = prior_of(tmp_path / "prior", pair)
    assert isinstance(below(prior), OfText)
    assert prior.facts.embedding == 128
    assert load(prior.path).sample(2).shape == (2, 128)


@pytest.mark.parametrize(
    ("recipe", "image", "captioned", "sentence"),
    [
        (
            Recipe(Digits(), embedding="image"),
            False,
            True,
            "embedding=image is made of images; these data are not images",
        ),
        (
            Recipe(Digits(), embedding="text"),
            True,
            False,
            "embedding=text is made of captions, and these data have none",
        ),
        (Recipe(Digits(), embedding="image", attributes=None), True, True, r"set attributes=\[\]"),
        (Recipe(Digits(), embedding="image", attributes=("shade",)), True, True, r"set attributes=\[\]"),
    ],
    ids=["image", "text", "all attributes", "attributes"],
)
def test_settings_that_do_not_fit_the_data(recipe, image, captioned, sentence):
    with pytest.raises(ValueError, match=sentence):
        recipe.completed((3, 4, 4), image, captioned)
