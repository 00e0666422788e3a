"""Ways from a picture to others: laws that hold for any network, on runs of a few steps of training."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from told import guided_by_text
from toys import copied, trained

from reverie.conditioning import Cond
from reverie.config import registered
from reverie.denoiser import Denoiser
from reverie.editing import Blur, Chain, Downsample, Grey, Margins, Method, pasted
from reverie.editing.methods import RePaintMethod
from reverie.edits import Blend, Convert, Inpaint, Outpaint, Redraw, Restore, Told, Wish, edit, measured, moving
from reverie.edits.pictures import Source, known_of_boxes, known_of_mask
from reverie.edits.sheets import edit_sheet
from reverie.grids import Knots, Uniform
from reverie.guidance import ClassifierGuide, ClipGuide
from reverie.recipe import Sampling
from reverie.runs import Run, load
from reverie.samplers import DDIM
from reverie.schedules import Geometric
from reverie.synthesis import OutOfMemory

MASKED = "image_condition.kind=masked"
SMALL = ("image_condition.kind=low_resolution", "image_condition.factor=2")
LEFT = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
LEFT[..., :4] = True


@functools.cache
def run(*settings):
    return load(trained(*settings))


def picture(seed=0, low=0, high=256, shape=(1, 8, 8)):
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high, (1, *shape), np.uint8))


def apart(a, b):
    return int((a.int() - b.int()).abs().max())


def quick(way, of, steps=4, sampler=None, guidance=1.5):
    return of.settings(sampler or way.own(of).sampler, Uniform(steps), guidance=guidance)


# ---------------------------------------------------------------------------------- known pixels


@pytest.mark.parametrize("kind", registered(Method))
def test_known_pixels_stay_and_the_others_are_drawn_by_every_method(kind):
    way = Inpaint(picture(), LEFT, registered(Method)[kind]())
    made = edit(run(), way, Wish(label=[3, None]), 3, sampling=quick(way, run()))
    assert torch.equal(made[..., :4], picture()[..., :4].expand(3, -1, -1, -1))
    assert len({row.numpy().tobytes() for row in made[..., 4:]}) == 3


@pytest.mark.parametrize("told", [False, True], ids=["method", "told"])
def test_a_larger_canvas_holds_the_picture_and_is_drawn_on_all_sides(told):
    way = Outpaint(picture(), Margins(1, 2, 3, 4), None if told else RePaintMethod(1, 2))
    of = run(MASKED) if told else run()
    one, other = (edit(of, way, n=2, seed=seed, sampling=quick(way, of, 2)) for seed in (0, 1))
    assert one.shape == (2, 1, 12, 14)
    inside = torch.zeros(12, 14, dtype=torch.bool)
    inside[1:9, 4:12] = True
    assert torch.equal(one[..., 1:9, 4:12], picture().expand(2, -1, -1, -1))
    moved = (one != other).any(0)[0]
    assert not moved[inside].any()
    assert float(moved[~inside].float().mean()) > 0.8  # what is drawn twice is black now and then


# --------------------------------------------------------------------------- what results rest on


@pytest.mark.parametrize("kind", ["redraw", "inpaint", "outpaint", "restore", "told"])
def test_a_result_does_not_depend_on_how_many_are_asked_for(kind):
    of, wish = (run(MASKED) if kind == "told" else run()), Wish(label=[1, 2, 3])
    way = {
        "redraw": Redraw(picture()),
        "inpaint": Inpaint(picture(), LEFT, RePaintMethod(2, 2)),
        "outpaint": Outpaint(picture(), Margins(right=3)),
        "restore": Restore(picture(shape=(1, 4, 4)), Downsample(2)),
        "told": Told(picture(), LEFT),
    }[kind]
    many = edit(of, way, wish, 11, 5, quick(way, of))
    assert torch.equal(edit(of, way, wish, 2, 5, quick(way, of)), many[:2])
    assert apart(many[0], many[3]) > 0


def test_memory_that_runs_out_halves_the_batch(monkeypatch):
    way, said, forward = Redraw(picture()), [], Denoiser.forward
    whole = edit(run(), way, n=5, sampling=quick(way, run()))

    def small(self, x, t, cond=None):
        if len(x) > most:
            raise torch.OutOfMemoryError("no more")
        return forward(self, x, t, cond)

    monkeypatch.setattr(Denoiser, "forward", small)
    monkeypatch.setattr("reverie.memory.release", lambda device: None)  # all of the process is searched by it
    most = 2
    assert apart(edit(run(), way, None, 5, 0, quick(way, run()), said.append), whole) <= 1
    assert ["8 results at a time" in said[0], "with 2" in said[1]] == [True, True]
    most = 0
    with pytest.raises(OutOfMemory, match="a single result does not fit"):
        edit(run(), way, None, 1, 0, quick(way, run()), said.append)


# -------------------------------------------------------------------------------- pictures by noise


def test_drawn_again_it_is_a_sample_at_strength_1_and_the_picture_with_next_to_none():
    of, settings = run(), run().settings(DDIM(), Uniform(200), guidance=1)
    assert apart(edit(of, Redraw(picture(), 1.0), None, 3, 4, settings), of.sample(3, [None], 4, settings)) <= 1
    near = edit(of, Redraw(picture(), 0.005), n=3, sampling=settings)
    assert apart(near, picture().expand(3, -1, -1, -1)) <= 10
    assert apart(near, edit(of, Redraw(picture(), 0.9), n=3, sampling=settings)) > 50


def test_through_its_own_noise_a_picture_comes_back_and_an_arc_ends_at_both():
    source, a, b = Wish(label=4), picture(0), picture(1)
    way = Convert(a, source)
    settings = way.own(run()).completed(run().space, run().facts.shape)
    assert way.number(Wish(label=["1", "2"])) == 2
    back = edit(run(), way, source, sampling=settings)
    assert len(back) == 1
    assert apart(back, a) <= 4
    arc = edit(run(), Blend(a, b), source, 4)
    assert apart(arc[:1], a) <= 4
    assert apart(arc[3:], b) <= 4
    assert torch.equal(edit(run(), Blend(a, b), source, 7)[2::2][:2], arc[1:3])  # 2/6 and 4/6 of the way


def test_an_arc_is_of_the_noises_that_the_first_wish_makes_of_the_pictures_in_every_batch(monkeypatch):
    way, seen = Blend(picture(0), picture(1)), []

    def watched(f, sampler, times, x0, cond, inner=moving.invert):
        seen.append(int(cond.label[0]))
        return inner(f, sampler, times, x0, cond)

    monkeypatch.setattr(moving, "invert", watched)
    edit(run(), way, Wish(label=[3, 4, 5]), 11, sampling=quick(way, run(), 2))  # 8 results, and 3 that begin with 5
    assert seen == [3] * 4


def test_a_chain_shorter_than_a_method_asks_for_is_walked_as_it_is():
    short = replace(run().recipe, schedule=Geometric(levels=10), sample=Sampling(DDIM(), Knots()))
    chain = Run(run().path, short, run().facts, run().about)
    for way, sampler in ((Inpaint(picture(), LEFT), DDIM(1.0)), (Blend(picture(), picture()), DDIM())):
        assert way.own(chain) == Sampling(sampler, Knots())
    assert Convert(picture()).own(run()).grid.steps == 50


# ---------------------------------------------------------------------------------- measurements


@pytest.mark.parametrize("kind", ["ddrm", "path"])
def test_what_is_made_of_a_small_picture_is_that_one_when_small_again(kind):
    small = picture(2, 90, 160, (1, 4, 4))
    way = Restore(small, Downsample(2), 0.0, registered(Method)[kind]())
    made = edit(run(), way, n=4, sampling=run().settings(DDIM(1.0), Uniform(20), guidance=1))
    again = measured(run(), made, Downsample(2))
    assert float((again.float() - small.float()).abs().mean()) < 4  # pixels that were cut off at black or white
    assert apart(made[0], made[1]) > 10


def test_what_an_operator_leaves_of_a_picture():
    plain = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(measured(run(), plain, Chain((Blur(0.5), Downsample(2)))), plain[..., ::2, ::2])
    noisy = measured(run(), plain.repeat(1, 1, 8, 8), Downsample(2), 0.1, 3).float()
    assert abs(float((noisy - 77).std()) / 12.75 - 1) < 0.12  # 1024 draws; 4.5 standard errors, with the rounding
    with pytest.raises(ValueError, match=r"has the shape \(1, 6, 6\)"):
        edit(run(), Restore(picture(shape=(1, 3, 3)), Downsample(2)))
    with pytest.raises(ValueError, match="repaint is for known pixels"):
        edit(run(), Restore(picture(shape=(1, 4, 4)), Downsample(2), method=RePaintMethod()))
    with pytest.raises(ValueError, match="3 colours"):
        measured(run(), plain, Grey())


# ------------------------------------------------------------------------------------ what a guide is asked


def test_a_class_that_the_run_does_not_know_is_asked_of_its_guide():
    free, classifier = run("labels=false", "train.ema_lengths=[]"), run("kind=classifier", "train.ema_lengths=[]")
    settings = replace(
        free.settings(DDIM(), Uniform(4), guidance=30.0), guide=ClassifierGuide(run=str(classifier.path))
    )
    wish = Wish(label=["3", None])
    whole = edit(free, Redraw(picture(), 1.0), wish, 4, 7, settings)  # at strength 1, those are samples
    assert apart(whole, free.sample(4, ["3", None], 7, settings)) <= 1
    led, plain = (edit(free, Redraw(picture()), wish, 4, sampling=replace(settings, guidance=w)) for w in (30.0, 0.0))
    assert [torch.equal(a, b) for a, b in zip(led, plain, strict=True)] == [False, True, False, True]
    surer = [
        classifier.classifier(classifier.space.encode(x[::2]), torch.tensor(0.02)).log_softmax(1)[:, 3]
        for x in (led, plain)
    ]
    assert bool((surer[0] > surer[1]).all())
    for wrong, message in ((Wish(label="dog"), "unknown label 'dog'"), (Wish(), "no sample is asked for one")):
        with pytest.raises(ValueError, match=message):
            edit(free, Redraw(picture()), wrong, 1, sampling=settings)


def test_a_text_that_the_run_does_not_read_is_asked_of_its_guide(tmp_path):
    pair, free = guided_by_text(tmp_path)
    settings = replace(free.settings(DDIM(), Uniform(4), guidance=100.0), guide=ClipGuide(run=str(pair.path)))
    wish = Wish(prompt=["a red tile", "", "the blue one"])
    of = picture(shape=(3, 4, 4))
    whole = edit(free, Redraw(of, 1.0), wish, 11, 7, settings)  # in two batches
    assert apart(whole, free.sample(11, None, 7, settings, prompt=wish.prompt)) <= 1
    plain = edit(free, Redraw(of, 1.0), wish, 11, 7, replace(settings, guidance=0.0))
    same = [torch.equal(a, b) for a, b in zip(whole, plain, strict=True)]
    assert same == [i % 3 == 1 for i in range(11)]


# --------------------------------------------------------------------------------- models that are told


def test_a_model_that_is_told_a_mask_samples_what_it_is_told():
    of, known = run(MASKED), torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    way, settings = Told(picture(), known), run(MASKED).settings(DDIM(), Uniform(3), guidance=2)
    told = of.recipe.image_condition.given(of.space.encode(picture()), known).image
    expected = pasted(of.sample(3, 5, 2, settings, image=told), picture(), known)
    made = edit(of, way, Wish(label=5), 3, 2, settings)
    assert apart(made, expected) <= 1
    assert torch.equal(made[:, :, known[0, 0]], expected[:, :, known[0, 0]])
    for wrong, message in (
        (Told(picture()), "give a mask"),
        (Told(picture(), torch.ones(1, 1, 8, 8, dtype=torch.bool)), "leaves nothing to be painted"),
    ):
        with pytest.raises(ValueError, match=message):
            edit(of, wrong)
    with pytest.raises(ValueError, match="without images as conditions"):
        edit(run(), way)


def test_a_model_of_low_resolution_takes_a_picture_of_either_size(monkeypatch):
    of, small = run(*SMALL), picture(1, shape=(1, 4, 4))
    assert torch.equal(Told(small).image(of), Told(small.repeat_interleave(2, 2).repeat_interleave(2, 3)).image(of))
    seen = []

    def watched(x, t, cond=None, forward=of.denoiser.forward):
        seen.append(cond)
        return forward(x, t, cond)

    monkeypatch.setattr(of.denoiser, "forward", watched)
    made = edit(of, Told(small), n=2, sampling=of.settings(DDIM(), Uniform(2), guidance=1))
    assert made.shape == (2, 1, 8, 8)
    assert all(isinstance(c, Cond) and torch.equal(c.image[:1], Told(small).image(of)) for c in seen)
    with pytest.raises(ValueError, match="no use for a mask"):
        edit(of, Told(picture(), LEFT))


def test_runs_and_pictures_that_do_not_fit():
    of = run()
    points = Run(of.path, of.recipe, replace(of.facts, image=False, shape=(2,)), of.about)
    with pytest.raises(ValueError, match=r"by runs of images; .* has examples of \(2,\)"):
        edit(points, Redraw(picture()))
    for wrong in (picture(shape=(3, 8, 8)), picture().float(), picture(shape=(1, 4, 4))):
        with pytest.raises(ValueError, match=r"is uint8 of shape \(1, 1, 8, 8\)"):
            edit(of, Redraw(wrong))
    with pytest.raises(ValueError, match="a mask is bool"):
        edit(of, Inpaint(picture(), LEFT.float()))


# -------------------------------------------------------------------------------- pictures and masks


def saved(path, pixels, mode=None):
    Image.fromarray(np.asarray(pixels), mode).save(path)
    return str(path)


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_a_box_and_a_white_rectangle_are_the_same(resize, tmp_path):
    page = np.zeros((16, 32), np.uint8)
    page[4:12, 12:20] = 255
    source = Source(run(), saved(tmp_path / "a.png", page), resize)
    by_mask = known_of_mask(tmp_path / "a.png", source)
    assert torch.equal(by_mask, known_of_boxes([(12, 4, 8, 8)], source))
    assert int((~by_mask).sum()) == {"crop": 16, "pad": 4, "stretch": 8}[resize]
    if resize != "crop":  # the corners are there, and a pixel of the run is the least
        assert int((~known_of_boxes([(0, 0, 1, 1), (31, 15, 1, 1)], source)).sum()) == 2


def test_masks_heed_transparency_and_must_fit(tmp_path):
    source = Source(run(), saved(tmp_path / "a.png", np.zeros((16, 16), np.uint8)))
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:8, :8] = 255
    rgba[8:, :8, :3] = 255  # white, but nothing of it is there
    saved(tmp_path / "clear.png", rgba)
    assert torch.equal(~known_of_mask(tmp_path / "clear.png", source), LEFT & LEFT.mT)
    saved(tmp_path / "own.png", np.eye(8, dtype=np.uint8) * 255)
    assert torch.equal(~known_of_mask(tmp_path / "own.png", source)[0, 0], torch.eye(8, dtype=torch.bool))
    saved(tmp_path / "other.png", np.zeros((16, 15), np.uint8))
    with pytest.raises(ValueError, match=r"has 15x16 pixels and the picture .* 16x16"):
        known_of_mask(tmp_path / "other.png", source)
    for box, message in (((0, 0, 17, 1), "inside the picture of 16x16"), ((3, 3, 0, 1), "given 3,3,0,1")):
        with pytest.raises(ValueError, match=message):
            known_of_boxes([box], source)
    wide = Source(run(), saved(tmp_path / "wide.png", np.zeros((8, 32), np.uint8)))
    with pytest.raises(ValueError, match="cut off with the border"):
        known_of_boxes([(0, 0, 4, 4)], wide)


def test_a_held_out_example_is_a_picture(tmp_path):
    of = load(copied(tmp_path / "run"))
    examples = of.recipe.data.load()
    rows = of.recipe.data.split(examples, of.recipe.train.validation, of.recipe.train.seed).validation
    assert np.array_equal(Source(of, "held-out:7").pixels()[0], examples.items[rows[7]])
    with pytest.raises(ValueError, match=f"held-out:0 to {len(rows) - 1}"):
        Source(of, f"held-out:{len(rows)}").pixels()
    with pytest.raises(ValueError, match="with --measure"):
        Source(of, "held-out:0").pixels((1, 4, 4))


def test_a_sheet_shows_each_wish_in_a_row_of_its_own():
    given, made = [picture(), picture(shape=(1, 4, 4))], picture().expand(6, -1, -1, -1)
    one, several = edit_sheet(given, made), edit_sheet(given, made, ["a", "b", "c"] * 2)
    assert several.height - one.height == 2 * 60
    assert one.size == (one.size[0], 4 + 2 * 60)
    pixels = np.asarray(one)
    left = one.width - 6 * 60
    assert np.array_equal(
        pixels[4:60, left : left + 56], np.asarray(edit_sheet(given[:1], made))[4:60, left : left + 56]
    )
    small = pixels[4:60:14, left + 60 : left + 116 : 14, 0]
    assert np.array_equal(small, given[1][0, 0])
