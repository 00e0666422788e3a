"""A cascade: the base's own samples of a seed are what is enlarged, in any batch, and guidance never hides them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from staged import images, own_cache  # noqa: F401  # a fixture
from toys import DIT, MLP, UNET, toy

from reverie.cascade import SPOILING, Base, Until, prompts_of
from reverie.conditioning import APART, Cond
from reverie.data import Examples
from reverie.data.smaller import smaller
from reverie.grids import Angle, Uniform
from reverie.guidance import ClassifierFree
from reverie.prompts import Prompt
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.runs import begin, load, new_model
from reverie.samplers import DDIM, Heun
from reverie.schedules import Flow
from reverie.synthesis import synthesize
from reverie.tensors import streams
from reverie.training import Trainer

EXAMPLES = images(40, (1, 8, 8))
LOW = ("image_condition.kind=low_resolution", "image_condition.factor=2")
NOISE = "image_condition.noise=0.5"
STEPS = ("sample.grid.kind=uniform", "sample.grid.steps=3", "sample.sampler.kind=heun")


def stirred(path, *settings, examples=EXAMPLES, needed=None):
    """A run whose weights are all other than 0, so that all it is told shows."""
    run = begin(path, toy(*settings, *STEPS), examples, needed)
    g = torch.Generator().manual_seed(run.recipe.train.seed)
    weights = new_model(run.recipe, run.facts).net.state_dict()
    run.save_model({name: v + 0.1 * torch.randn(v.shape, generator=g) for name, v in weights.items()}, 0)
    return load(path)


def base_of(path, *settings, examples=EXAMPLES):
    return stirred(path, *MLP, "data.kind=smaller", "data.data.kind=digits", *settings, examples=smaller(examples, 2))


@pytest.fixture
def run(tmp_path):
    """An upsampler of 4x4 to 8x8 pictures of two classes, told levels up to 0.5."""
    base = base_of(tmp_path / "base", "train.seed=1")
    return stirred(tmp_path / "run", *MLP, *LOW, NOISE, needed={"base": base.path})


def base_in(run):
    (found,) = run.ask(1).below
    assert isinstance(found, Base)
    return found


def conditions(run, n=4, seed=3, start=0, **settings):
    """What the upsampler is told of n samples."""
    asked = replace(run.ask(n), seed=seed, start=start)
    return asked.told(replace(run.settings(), **settings), torch.device("cpu")).cond


# ----------------------------------------------------------------------- what the upsampler is told


def test_what_is_enlarged_is_what_the_base_draws_by_itself(run):
    small = run.stage("base").sample(4, seed=3)
    asked = replace(run.stage("base").ask(4), seed=3)
    assert torch.equal(base_in(run).small(asked, torch.device("cpu")), run.space.encode(small))
    told = conditions(run)
    assert torch.equal(told.image, run.recipe.image_condition.enlarged(run.space.encode(small)))
    assert told.level.tolist() == [0] * 4
    assert torch.equal(told.label, torch.tensor([0, 1, 0, 1]))


def test_how_the_base_samples_can_be_changed(run):
    before = run.sample(4, seed=3)
    other = Sampling(DDIM(), Uniform(5), guidance=2.0)
    small = run.stage("base").sample(4, seed=3, sampling=other)
    run.sampling_below = {"base": other}
    assert torch.equal(conditions(run).image, run.recipe.image_condition.enlarged(run.space.encode(small)))
    assert not torch.equal(run.sample(4, seed=3), before)
    run.sampling_below = {}
    assert torch.equal(run.sample(4, seed=3), before)


@pytest.mark.parametrize("settings", [{}, {"augmentation": 0.3}, {"augmentation": 0.3, "truncated": True}], ids=str)
def test_the_same_seed_gives_the_same_sample_in_any_batch_and_from_any_start(run, settings):
    sampling = replace(run.settings(), **settings)
    whole = run.sample(70, seed=3, sampling=sampling)
    assert torch.equal(run.sample(70, seed=3, sampling=sampling, batch=32), whole)
    label = [0, 1]
    for start in (2, 64):
        assert torch.equal(run.sample(6, label, seed=3, sampling=sampling, start=start), whole[start : start + 6])
    assert not torch.equal(run.sample(70, seed=4, sampling=sampling), whole)


def test_the_noise_of_the_stages_is_not_the_same(run):
    """A small picture, the noise on it, and what it is enlarged from have streams of their own."""
    asked = run.ask(3)
    below = run.stage("base").ask(3)
    spoiling = [(*key, SPOILING) for key in below.keys]
    keys = {*map(tuple, asked.keys), *map(tuple, below.keys), *spoiling}
    assert len(keys) == 9


def test_the_noise_of_three_stages_is_not_the_same(tmp_path):
    examples = images(40, (1, 16, 16))
    lowest = base_of(tmp_path / "lowest", examples=smaller(examples, 2))
    middle = stirred(
        tmp_path / "middle", *MLP, "data.kind=smaller", "data.data.kind=digits", *LOW,
        examples=smaller(examples, 2), needed={"base": lowest.path})  # fmt: skip
    run = stirred(tmp_path / "run", *MLP, *LOW, examples=examples, needed={"base": middle.path})
    requests = [run.ask(1), run.stage("base").ask(1), run.stage("base").stage("base").ask(1)]
    assert len({tuple(key) for asked in requests for key in asked.keys}) == 3
    small = middle.sample(4, seed=3)
    assert torch.equal(conditions(run).image, run.recipe.image_condition.enlarged(run.space.encode(small)))


def test_what_is_told_at_a_level_is_the_small_picture_with_so_much_noise(run):
    level, condition = 0.3, run.recipe.image_condition
    asked = replace(run.stage("base").ask(4), seed=3)
    small = base_in(run).small(asked, torch.device("cpu"))
    eps = streams([(3, i, SPOILING) for i in range(4)])(small)
    angle = math.pi / 2 * level
    told = conditions(run, augmentation=level)
    assert torch.allclose(told.image, condition.enlarged(math.cos(angle) * small + math.sin(angle) * eps), atol=1e-6)
    assert told.level.tolist() == pytest.approx([level] * 4)
    assert abs(float(eps.std()) - 1) < 0.3


def test_a_truncated_base_is_stopped_at_the_level(run):
    """Its x_t is brought to unit size, and nothing is added; the clearer it is, the nearer to the whole one."""
    condition, stage, below = run.recipe.image_condition, run.stage("base"), base_in(run)
    asked, far = replace(stage.ask(4), seed=3), []
    whole = condition.enlarged(synthesize(stage.denoiser, stage.shape, below.sampling, asked))
    for level in (0.4, 0.2, 0.05, 0.001):
        told = conditions(run, augmentation=level, truncated=True)
        assert told.level.tolist() == pytest.approx([level] * 4)
        far.append(float((told.image - whole).abs().max()))
        ratio = math.tan(math.pi / 2 * level)
        t = ratio / (1 + ratio)  # of a flow, where sigma / alpha = t / (1 - t)
        x = synthesize(stage.denoiser, stage.shape, replace(below.sampling, grid=Until(below.sampling.grid, t)), asked)
        unit = x / math.hypot(t, 1 - t)
        assert torch.allclose(told.image, condition.enlarged(unit), atol=1e-4)
    assert far[0] > far[1] > far[2] > far[3]
    assert far[3] < 0.1


def test_a_grid_cut_short_ends_where_it_should():
    schedule, t = Flow(), 0.3
    times = Until(Angle(12), t)(schedule)
    assert float(times[-1]) == t
    assert bool((times.diff() < 0).all())
    assert torch.equal(times[:-1], Angle(12)(schedule)[: len(times) - 1])
    assert len(Until(Uniform(10), 0.5).with_steps(20)(schedule)) == 11


def test_what_a_sample_is_asked_to_be_is_asked_of_the_base_too(run):
    asked = run.ask(4, [1, None, 0])
    assert [prompt.label for prompt in prompts_of(asked)] == [1, None, 0, 1]
    small = run.stage("base").sample(4, [1, None, 0], seed=3)
    told = replace(asked, seed=3).told(run.settings(), torch.device("cpu")).cond
    assert torch.equal(told.image, run.recipe.image_condition.enlarged(run.space.encode(small)))
    assert prompts_of(Request((2, None))) == (Prompt(label=2), Prompt())


def test_a_picture_that_is_given_goes_before_the_base(run):
    picture = run.recipe.image_condition.enlarged(torch.zeros(1, 1, 4, 4))
    assert run.ask(2, image=picture).below == ()
    assert not torch.equal(run.sample(2, 0, image=picture), run.sample(2, 0))


# ------------------------------------------------------------------------------------- guidance


@pytest.mark.parametrize("net", [MLP, DIT, UNET], ids=["mlp", "dit", "unet"])
def test_a_network_told_nothing_still_sees_the_small_picture(tmp_path, net):
    """Classifier-free guidance hides the class and keeps the picture and its level."""
    run = stirred(tmp_path / "run", *net, *LOW, NOISE, "net.dropout=0")
    assert run.vocabulary.conditions.keeps_image
    g = torch.Generator().manual_seed(0)
    x, one, two = (torch.randn(2, 1, 8, 8, generator=g) for _ in range(3))
    t, hidden = torch.tensor(0.5), torch.tensor([True, True])

    def made(label, image, level=0.2, drop=hidden):
        cond = Cond(label=torch.full((2,), label), image=image, level=torch.full((2,), level), drop=drop)
        return run.denoiser(x, t, cond).x0

    assert torch.equal(made(0, one), made(1, one))
    assert not torch.allclose(made(0, one), made(0, two), atol=1e-3)
    assert not torch.allclose(made(0, one), made(0, one, 0.4), atol=1e-5)
    apart = torch.tensor([[name in ("label", "image") for name in APART]] * 2)
    assert torch.equal(made(0, one, drop=apart), made(1, one))
    label = torch.tensor([[name == "label" for name in APART]] * 2)
    assert torch.equal(made(0, one, drop=label), made(0, one))  # nothing else is hidden
    shown = torch.tensor([False, False])
    assert not torch.allclose(made(0, one, drop=shown), made(1, one, drop=shown), atol=1e-5)


def test_guidance_of_the_whole_leads_from_the_picture_alone_to_picture_and_class(run):
    g = torch.Generator().manual_seed(0)
    x, image = torch.randn(2, 1, 8, 8, generator=g), torch.randn(2, 1, 8, 8, generator=g)
    cond = Cond(label=torch.tensor([0, 1]), image=image, level=torch.zeros(2))
    t = torch.tensor(0.5)
    c = run.denoiser(x, t, cond).x0
    u = run.denoiser(x, t, replace(cond, drop=torch.tensor([True, True]))).x0
    made = ClassifierFree(run.denoiser, 3.0)(x, t, cond).x0
    assert torch.allclose(made, u + 3 * (c - u), atol=1e-4)
    other = replace(cond, label=torch.tensor([1, 0]))
    assert torch.equal(u, run.denoiser(x, t, replace(other, drop=torch.tensor([True, True]))).x0)


def test_training_hides_the_class_and_keeps_the_picture(run):
    f, trainer = run.denoiser, Trainer(run, EXAMPLES)
    next(iter(trainer))
    batch, bare = (replace(trainer.batches, drop=drop).step(0)[0] for drop in (0.0, 1.0))
    assert bool(bare.cond.hidden("label").all())
    assert torch.equal(bare.cond.image, batch.cond.image)
    assert torch.equal(bare.cond.level, batch.cond.level)
    assert 0 < float(bare.cond.level.min()) < float(bare.cond.level.max()) <= 0.5
    blank = replace(bare.cond, image=torch.zeros_like(bare.cond.image))
    t = torch.tensor(0.5)
    told, untold = (f(bare.x0, t, cond).x0 for cond in (bare.cond, blank))
    assert not torch.allclose(told, untold, atol=1e-3)


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"augmentation": 0.6}, r"levels of training alone, at least 0 and at most noise=0\.5; given 0\.6"),
        ({"augmentation": 0.6, "truncated": True}, r"at most noise=0\.5; given 0\.6"),
    ],
    ids=str,
)
def test_levels_that_were_not_in_training(run, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        run.sample(2, sampling=replace(run.settings(), **settings))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"truncated": True}, "give augmentation, its level"),
        ({"augmentation": 1.0}, "at least 0 and below 1; given 1.0"),
        ({"augmentation": -0.1}, "at least 0 and below 1; given -0.1"),
        ({"augmentation": math.nan}, "augmentation"),
    ],
    ids=str,
)
def test_settings_that_no_cascade_has(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Sampling(Heun(), Uniform(3), **settings)


def test_channels_that_the_two_do_not_standardize_alike(tmp_path):
    """Noise of one level in the base is then of several above, and there is none to leave."""
    items = np.random.default_rng(0).standard_normal((40, 2, 4, 4)).astype(np.float32)
    items[:, 1] += 3 * np.random.default_rng(1).standard_normal((40, 1, 1))  # which means of squares do not lessen
    examples = Examples(items)
    base = stirred(tmp_path / "base", *MLP, "data.kind=smaller", "data.data.kind=digits", examples=smaller(examples, 2))
    run = stirred(tmp_path / "run", *MLP, *LOW, NOISE, examples=examples, needed={"base": base.path})
    ratio = np.array(base.space.std) / np.array(run.space.std)
    assert abs(ratio[0] / ratio[1] - 1) > 0.01
    with pytest.raises(ValueError, match="standardize alike"):
        run.sample(2, sampling=replace(run.settings(), augmentation=0.2, truncated=True))
    assert run.sample(2, sampling=replace(run.settings(), augmentation=0.2)).shape == (2, 2, 4, 4)
