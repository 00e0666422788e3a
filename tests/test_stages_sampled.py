"""Stages whose samples condition a run's: whoever asks the run asks them too, each by settings of its own."""

from dataclasses import replace

import pytest
import torch
from embedded import EXAMPLES, IMAGE, LOW, cascade, pair_of, prior_of, stirred, unclip
from helpers import close
from staged import CASCADE, own_cache  # noqa: F401  # a fixture
from toys import MLP, cli

from reverie import memory, synthesis
from reverie.cascade import Base
from reverie.cli.below import with_below
from reverie.cli.sampling import settings_of
from reverie.data import Digits
from reverie.evaluation.subject import Subject
from reverie.grids import Uniform
from reverie.guidance import AutoGuide, ClassifierFree
from reverie.image_conditions import LowResolution
from reverie.pictures import read_metadata
from reverie.recipe import Recipe, Sampling
from reverie.runs import load
from reverie.samplers import DDIM, Adams, Weighed
from reverie.samplers.weighed import angles
from reverie.tuning import tuner

CPU = torch.device("cpu")
TEXTS = ["a red square", "a blue square"]
NEGATIVE = "a green square"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sampled")


@pytest.fixture(scope="module")
def paths(folder):
    """Of an upsampler whose base is a decoder with a prior."""
    return cascade(folder / "large", "image_condition.noise=0.5").path


@pytest.fixture
def large(paths):
    return load(paths)


@pytest.fixture
def base(large):
    return large.stage("base")


def asked(run, n=2, seed=5, **more):
    return replace(run.ask(n, prompt=TEXTS, **more), seed=seed)


def told(run, request, **settings):
    return request.told(replace(run.settings(), **settings), CPU).condition(slice(None), CPU)


def guided(run, scale):
    return replace(run.settings(), guidance=scale)


def enlarged(large, small):
    return large.recipe.image_condition.enlarged(large.space.encode(small))


def direction(x):
    return torch.nn.functional.normalize(x, dim=1)


# ------------------------------------------------------------------------------- fitting and measuring


def test_a_grid_is_fitted_to_the_model_as_it_is_told_by_its_stages(large, base):
    settings = tuner.Settings(nfe=(3,), n=2, seed=3)
    for run, part in ((large, "image"), (base, "vector"), (base.stage("prior"), "vector")):
        fitting = tuner._Tuning(run, settings, lambda done, what: None, lambda text: None)
        conds = [fitting._examples(first)[1] for first in (0, 2)]
        wanted = replace(run.ask(4), seed=3).told(fitting.sampling, CPU).condition(slice(None), CPU)
        assert torch.equal(torch.cat([getattr(cond, part) for cond in conds]), getattr(wanted, part))
    assert not close(conds[0].vector, torch.zeros(2, 128), 1e-3)


def test_memory_is_measured_with_the_small_picture(large, monkeypatch):
    seen = []

    class Watched:
        schedule = large.schedule

        def __call__(self, x, t, cond=None):
            seen.append(cond)
            return large.denoiser(x, t, cond)

    def peak(device, work):
        work()
        return 1000 * len(seen)

    monkeypatch.setattr(memory, "peak", peak)
    request = asked(large, 3, negative=NEGATIVE)
    assert synthesis._measured(Watched(), large.shape, guided(large, 2.0), request, CPU) is not None
    assert len(seen) == 3
    assert all(cond.image is not None and bool(cond.image.any()) for cond in seen)


# ---------------------------------------------------------------------------- what is led away from


def test_stages_lead_away_from_a_negative_text_too(large, base):
    """As they do by themselves, each where it is guided."""
    large.sampling_below = {"base": guided(base, 1.0), "base.prior": guided(base.stage("prior"), 1.0)}
    assert torch.equal(told(large, asked(large, negative=NEGATIVE)).image, told(large, asked(large)).image)
    large.sampling_below = {"base": guided(base, 3.0)}
    away = told(large, asked(large, negative=NEGATIVE)).image
    assert not close(away, told(large, asked(large)).image, 1e-3)
    alone = base.sample(2, prompt=TEXTS, negative=NEGATIVE, seed=5, sampling=guided(base, 3.0))
    assert torch.equal(away, enlarged(large, alone))


def test_a_prior_leads_away_from_a_negative_text(base):
    prior = base.stage("prior")
    base.sampling_below = {"prior": guided(prior, 3.0)}
    made = told(base, asked(base, negative=NEGATIVE)).vector
    alone = prior.sample(2, prompt=TEXTS, negative=NEGATIVE, seed=5, sampling=guided(prior, 3.0))
    assert close(direction(made), direction(alone), 1e-5)
    assert not close(made, told(base, asked(base)).vector, 1e-3)


def test_a_prior_that_reads_no_text_has_no_use_for_a_negative_one(tmp_path):
    """It is told the embedding of one."""
    pair = pair_of(tmp_path / "pair")
    prior = prior_of(tmp_path / "prior", pair, "captions=false")
    run = stirred(tmp_path / "run", *IMAGE, needed={"pair": pair.path, "prior": prior.path})
    run.sampling_below = {"prior": guided(prior, 2.0)}
    assert torch.equal(told(run, asked(run, negative=NEGATIVE)).vector, told(run, asked(run)).vector)


def test_guidance_leads_by_the_embedding_though_there_is_a_negative_text(base):
    """What is led away from is told the text alone."""
    request = asked(base, negative=NEGATIVE).told(base.settings(), CPU)
    cond, away = request.condition(slice(None), CPU), request.negative
    assert cond.vector is not None
    assert away.vector is None
    x, t = torch.randn(2, *base.shape, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5)
    c, f = base.denoiser(x, t, cond).x0, base.denoiser
    text = base.ask(2, prompt=NEGATIVE, embedding=cond.vector).condition(slice(None), CPU)
    u = f(x, t, text.without(2, "vector")).x0
    assert close(ClassifierFree(f, 3.0, negative=away)(x, t, cond).x0, u + 3 * (c - u), 1e-4)
    assert not close(u, f(x, t, text).x0, 1e-2)


def test_what_is_led_away_from_has_the_small_picture_and_its_level(large):
    request = asked(large, negative=NEGATIVE).told(replace(large.settings(), augmentation=0.3), CPU)
    cond = request.condition(slice(None), CPU)
    assert torch.equal(request.negative.image, cond.image)
    assert torch.equal(request.negative.level, cond.level)


# --------------------------------------------------------------------------------- how stages sample


def test_a_base_is_guided_by_another_model(folder, large, base):
    """A weaker one of the same kind, read from its folder."""
    weaker = unclip(folder / "weaker", "train.seed=7", "data.kind=smaller", "data.data.kind=digits")
    sampling = replace(guided(base, 2.0), guide=AutoGuide(run=str(weaker.path)))
    large.sampling_below = {"base": sampling}
    image = told(large, asked(large)).image
    assert torch.equal(image, enlarged(large, base.sample(2, prompt=TEXTS, seed=5, sampling=sampling)))
    assert not close(image, enlarged(large, base.sample(2, prompt=TEXTS, seed=5)), 1e-3)


def test_stages_of_stages_sample_by_settings_of_their_own(large, base):
    prior = base.stage("prior")
    other = Sampling(DDIM(), Uniform(5), guidance=2.0)
    plain = told(large, asked(large)).image
    large.sampling_below = {"base.prior": other}
    image = told(large, asked(large)).image
    assert not close(image, plain, 1e-3)
    assert base.sampling_below == {}
    base.sampling_below = {"prior": other}
    assert close(
        direction(told(base, asked(base)).vector),
        direction(prior.sample(2, prompt=TEXTS, seed=5, sampling=other)),
        1e-5,
    )
    assert torch.equal(image, enlarged(large, base.sample(2, prompt=TEXTS, seed=5)))


def test_words_are_parted_by_the_stage_that_they_begin_with(large, base):
    words = ["guidance=4", "base.guidance=2", "base.grid.steps=5", "base.prior.guidance=3", "augmentation=0.2"]
    assert with_below(large, words) == ["guidance=4", "augmentation=0.2"]
    assert {path: each.guidance for path, each in large.sampling_below.items()} == {"base": 2, "base.prior": 3}
    assert large.sampling_below["base"].grid.steps == 5
    assert with_below(base, ["prior.guidance=3"]) == []
    assert base.sampling_below["prior"].guidance == 3
    assert with_below(large, ["guidance=4"]) == ["guidance=4"]
    assert large.sampling_below == {}


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("prior.guidance=2", r"prior.guidance=2 is of the stage prior of unCLIP, and .*large has no such stage"),
        ("base.base.guidance=2", r"is of the stage base of a cascade, and .*base has no such stage"),
        ("base.prior.prior.guidance=2", r"is of the stage prior of unCLIP, and .*prior has no such stage"),
        ("base.prior.nothing=2", "nothing"),
    ],
)
def test_words_for_stages_that_there_are_not(large, word, sentence):
    with pytest.raises(ValueError, match=sentence):
        with_below(large, [word])


def test_a_protocol_says_how_stages_of_stages_sample(large):
    names, protocols = set(), []
    for words in ((), ("base.guidance=2",), ("base.prior.guidance=2",), ("base.prior.guidance=3",)):
        with_below(large, words)
        subject = Subject(large, large.settings(), 2)
        names.add(subject.name)
        protocols.append(subject.about())
    assert len(names) == 4
    assert [protocol["base.prior"]["guidance"] for protocol in protocols] == [1.5, 1.5, 2, 3]
    assert protocols[0]["base"]["model"] != protocols[0]["base.prior"]["model"]


def drawn(paths, out, *words):
    done = cli("sample", paths, "-n", 2, "--prompt", TEXTS[0], "--out", out, *words)
    assert done.code == 0, done
    return done.out + done.err


def test_pictures_carry_how_stages_of_stages_sample(paths, tmp_path):
    drawn(paths, tmp_path / "a.png", "base.prior.guidance=2")
    found = read_metadata(tmp_path / "a.png")
    assert (found["base"]["guidance"], found["base.prior"]["guidance"]) == (1.5, 2)


def test_what_does_nothing_at_a_stage_is_said(paths, tmp_path):
    said = drawn(paths, tmp_path / "a.npz", "--negative", NEGATIVE, "base.guidance=2", "base.prior.guidance=2")
    assert "a negative text does nothing" not in said
    assert "negative text does nothing at the" not in said
    alone = ("base.guidance=1", "base.prior.guidance=1")
    said = drawn(paths, tmp_path / "b.npz", "--negative", NEGATIVE, "--guidance", 2, *alone)
    assert "does nothing at the stages base and base.prior, without guidance; give base.guidance=3" in said
    said = drawn(paths, tmp_path / "e.npz", "--negative", NEGATIVE, "--guidance", 1, *alone)
    assert "a negative text does nothing at guidance 1; give --guidance 3" in said
    said = drawn(paths, tmp_path / "f.npz", "--negative", NEGATIVE, "--guidance", 1, "base.guidance=2")
    assert "does nothing at guidance 1" not in said
    said = drawn(paths, tmp_path / "c.npz", "--precision", "bf16")
    assert "--precision bf16: for the last model alone; its stages base and base.prior sample in float32" in said
    assert "last model" not in drawn(paths, tmp_path / "d.npz")


def test_a_tuned_base_can_be_stopped_early(large, base):
    """Its fitted weights are for the whole of its grid, and its method takes their place."""
    grid = Uniform(4)
    found = angles(base.schedule, grid(base.schedule))
    weights = tuple((float(i), 0.5) for i in range(4))
    above = {"augmentation": 0.3, "truncated": True}
    images = []
    for sampler in (Weighed(Adams(), tuple(found.tolist()), weights), Adams()):
        large.sampling_below = {"base": replace(base.settings(), sampler=sampler, grid=grid)}
        images.append(told(large, asked(large), **above).image)
    assert torch.equal(*images)


# ----------------------------------------------------------------------------- levels of the small picture


def completed(noise, **sample):
    condition = None if noise is None else LowResolution(2, noise)
    return Recipe(Digits(), image_condition=condition, sample=Sampling(**sample)).completed((1, 8, 8), True)


def test_a_recipe_of_a_level_that_is_not_in_training():
    with pytest.raises(ValueError, match=r"levels of training alone, at least 0 and at most noise=0\.05; given 0\.1"):
        completed(0.05, augmentation=0.1)
    with pytest.raises(ValueError, match=r"at least 0 and 0, for noise is 0; given 0\.1"):
        completed(0.0, augmentation=0.1)
    with pytest.raises(ValueError, match=r"augmentation=0\.1 is noise on small pictures, which image_condition"):
        completed(None, augmentation=0.1)
    assert completed(0.1, augmentation=0.1, truncated=True).sample.augmentation == 0.1
    assert completed(None).sample.augmentation == 0


def test_a_level_that_will_not_be_in_training_is_refused_before_the_base_is_trained(tmp_path):
    said = cli("train", *CASCADE, "image_condition.noise=0.05", "--out", tmp_path / "run").sentence
    assert "at most noise=0.05; given 0.1" in said
    assert not list(tmp_path.rglob("config.json"))


def test_a_level_that_was_not_in_training_is_refused_before_the_base_draws(large, monkeypatch):
    monkeypatch.setattr(Base, "small", lambda *_: pytest.fail("the base was asked"))
    for above in ({"augmentation": 0.6}, {"augmentation": 0.6, "truncated": True}):
        with pytest.raises(ValueError, match=r"at most noise=0\.5; given 0\.6"):
            large.sample(2, prompt=TEXTS, sampling=replace(large.settings(), **above))
    with pytest.raises(ValueError, match=r"at most noise=0\.5; given 0\.6"):
        settings_of(large, ["augmentation=0.6"], None, None, None, None)


def test_words_of_small_pictures_to_a_run_without_a_base(folder, base, large):
    alone = stirred(
        folder / "alone", *MLP, *LOW, "image_condition.noise=0.5", "sample.augmentation=0.1", examples=EXAMPLES
    )
    for run in (alone, base):
        for words in (["augmentation=0.2"], ["sample.augmentation=0.2", "truncated=true"]):
            with pytest.raises(ValueError, match="has no such stage; leave them out"):
                settings_of(run, words, None, None, None, None)
    assert settings_of(alone, ["guidance=2"], None, None, None, None).guidance == 2  # though its recipe says 0.1
    assert settings_of(large, ["augmentation=0.2"], None, None, None, None).augmentation == 0.2
