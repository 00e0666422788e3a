"""A prompt says what an example says, part by part; and what is not said is hidden in the same way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from told import tiles

from reverie import config
from reverie.conditioning import APART, Cond
from reverie.data import Arrays, Attribute, Examples
from reverie.image_conditions import LowResolution, Masked
from reverie.nets import DiTConfig
from reverie.prompts import (
    Known,
    OfExamples,
    Place,
    Prompt,
    Vocabulary,
    columns,
    cond_of,
    in_turn,
    names,
    of_examples,
    typical,
)
from reverie.text import Transformer

N = 40
LABELS = np.arange(N) % 3


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Examples with everything, some of it not known, and the vocabulary of their first thirty."""
    made = tiles(N)
    light, shade = made.attributes
    light.values[[3, 8, 9]], shade.values[[5, 8, 16]] = np.nan, -1
    made = replace(made, labels=LABELS, classes=("a", "b", "c"), attributes=(light, shade))
    folder, rows = tmp_path_factory.mktemp("told"), np.arange(30)
    text = Transformer(words=256, width=8, depth=1, heads=2, length=24).fit(made.texts, folder)
    known = tuple(Known.of(attribute, rows) for attribute in made.attributes)
    return OfExamples(Vocabulary(made.shape, made.classes, known, text, None, folder), made)


def small(vocabulary):
    """A network that reads it, of no tokens dropped, with weights that are not 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = DiTConfig(width=16, depth=1, heads=2).build(vocabulary.shape, vocabulary.conditions).eval()
        for p in net.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
    return lambda cond, n: net(torch.ones(n, *vocabulary.shape), torch.zeros(n), cond)


def same(a, b, n, net):
    """Whether two conditions hide the same, tell the same where they do not, and are one to a network."""
    for part in APART:
        hidden = [torch.zeros(n, dtype=torch.bool) if c.hidden(part) is None else c.hidden(part) for c in (a, b)]
        assert torch.equal(*hidden), part
        shown = ~hidden[0]
        if part == "label":
            assert torch.equal(a.label[shown], b.label[shown])
        if part == "vector":
            assert torch.equal(a.vector[shown], b.vector[shown])
        if part == "text":
            assert a.mask[shown].sum(1).tolist() == b.mask[shown].sum(1).tolist()
            assert torch.equal(a.words[a.mask & shown[:, None]], b.words[b.mask & shown[:, None]])
    assert torch.allclose(net(a, n), net(b, n), atol=1e-6)


def test_the_prompt_of_an_example_tells_what_the_example_tells(told):
    rows = np.arange(N)
    x0, label = torch.zeros(N, 3, 4, 4), torch.from_numpy(LABELS)
    own = told.cond(rows, x0, label)
    asked = cond_of(told.vocabulary, of_examples(told.vocabulary, told.examples, rows))
    same(own, asked, N, small(told.vocabulary))
    assert own.hidden("text").tolist() == [i % 8 == 0 for i in range(N)]
    assert own.hidden("vector").tolist() == [i == 8 for i in range(N)]  # neither light nor shade is known
    light = told.examples.attributes[0].values[:30, 0].astype(np.float64)
    scaled = (light - np.nanmean(light)) / np.nanstd(light)
    assert np.allclose(own.vector[:30, 0], np.nan_to_num(scaled), atol=1e-5)
    assert own.vector[[3, 9], :2].eq(0).all()


def test_what_is_hidden_apart_is_as_if_it_were_not_said(told):
    assert told.vocabulary.apart == ("label", "vector.0", "vector.1", "vector", "text")
    rows, x0 = np.arange(1, 7), torch.zeros(6, 3, 4, 4)
    label = torch.from_numpy(LABELS[rows])
    apart = torch.cat([torch.eye(5, dtype=torch.bool), torch.tensor([[False, True, True, False, False]])])
    own = told.cond(rows, x0, label, torch.zeros(6, dtype=torch.bool), apart)
    prompts = list(of_examples(told.vocabulary, told.examples, rows))
    prompts[0] = replace(prompts[0], label=None)
    for i, left in ((1, ("shade",)), (2, ()), (3, ()), (5, ())):  # the third one, row 3, has a shade alone
        prompts[i] = replace(prompts[i], attributes={k: v for k, v in prompts[i].attributes.items() if k in left})
    prompts[4] = replace(prompts[4], text="")
    same(own, cond_of(told.vocabulary, prompts), 6, small(told.vocabulary))


def test_what_is_hidden_altogether_is_no_condition(told):
    rows, x0 = np.arange(6), torch.zeros(6, 3, 4, 4)
    hidden = torch.tensor([True, False] * 3)
    own = told.cond(rows, x0, torch.from_numpy(LABELS[rows]), hidden, torch.zeros(6, 5, dtype=torch.bool))
    net = small(told.vocabulary)
    assert torch.allclose(net(own, 6)[hidden], net(None, 6)[hidden], atol=1e-6)
    empty = cond_of(told.vocabulary, [Prompt(), Prompt(text="red")])
    assert torch.allclose(net(empty, 2)[:1], net(None, 1), atol=1e-6)
    assert not torch.allclose(net(empty, 2)[1:], net(None, 1), atol=1e-3)
    assert cond_of(told.vocabulary, [Prompt(), Prompt()]) is None


@pytest.mark.parametrize(
    ("changes", "apart"),
    [
        ({}, ("label", "vector.0", "vector.1", "vector", "text")),
        ({"classes": (), "text": None}, ("vector.0", "vector.1")),
        ({"classes": (), "attributes": ()}, ()),
        ({"attributes": (), "text": None}, ()),
        ({"classes": (), "text": None, "attributes": (Known("label", ("x", "y")),)}, ()),
        ({"attributes": (Known("label", ("x", "y")),), "text": None}, ("label", "vector")),
        ({"classes": (), "attributes": (Known("image", ("x", "y")),), "image": Masked()}, ("vector", "text", "image")),
    ],
)
def test_what_is_hidden_apart(told, changes, apart):
    """Whatever attributes are called."""
    made = replace(told.vocabulary, **changes)
    assert made.apart == apart
    assert made.plain == (made.parts == ("label",) and not made.attributes)


def test_a_prompt_is_the_same_beside_any_others(told):
    texts = ["red", "the green one", "", "a tile of many more words"]
    prompts = [Prompt(text=t, attributes={"shade": 1}) for t in texts]
    every = cond_of(told.vocabulary, prompts)
    assert every.words.shape == (4, 24)
    for i, prompt in enumerate(prompts):
        one = cond_of(told.vocabulary, [prompt])
        for name in ("words", "mask", "vector"):
            assert torch.equal(getattr(one, name)[0], getattr(every, name)[i])
        if prompt.text:
            assert torch.equal(one.drop[0], every.drop[i])


def test_samples_are_asked_in_turn(told):
    asked = in_turn(told.vocabulary, (0, None, 1), ["red ", ""], {"shade": ["left", None], "light": 0.7})
    assert asked == (
        Prompt(0, "red", {"shade": 0, "light": (0.7,)}),
        Prompt(None, "", {"light": (0.7,)}),
        Prompt(1, "red", {"shade": 0, "light": (0.7,)}),
    )
    several = in_turn(told.vocabulary, (None,) * 3, None, {"shade": ("left", "none"), "light": np.array([0.5, 0.25])})
    assert [prompt.attributes for prompt in several] == [
        {"shade": 0, "light": (0.5,)}, {"shade": 1, "light": (0.25,)}, {"shade": 0, "light": (0.5,)}
    ]  # fmt: skip
    bare = replace(told.vocabulary, text=None)
    for wrong in ({"text": "red"}, {"attributes": {"hue": 1}}, {"attributes": {"shade": []}}):
        with pytest.raises(ValueError, match=r"captions|no attribute 'hue'|empty list"):
            in_turn(bare, (None,), **wrong)


def test_several_numbers_of_one_attribute_are_one_value():
    vocabulary = Vocabulary((2,), attributes=(Known("place", mean=(0.0, 0.0), std=(1.0, 1.0)),))

    def asked(given):
        return [prompt.attributes.get("place") for prompt in in_turn(vocabulary, (None,) * 2, None, {"place": given})]

    for one in ([1, 2.5], (1, 2.5), np.array([1, 2.5]), "1, 2.5", [[1, 2.5]]):
        assert asked(one) == [(1.0, 2.5)] * 2
    for two in ([(1, 2), None], [[1, 2], None], ["1,2", None]):
        assert asked(two) == [(1.0, 2.0), None]
    assert asked(np.array([[1, 2], [3, 4]])) == [(1.0, 2.0), (3.0, 4.0)]
    for wrong in ([1, 2, 3], [1], 1):
        with pytest.raises(ValueError, match="place is 2 finite numbers; given"):
            asked(wrong)


def test_names_say_what_differs(told):
    made = [Prompt(0, "red", {"shade": 0, "light": (0.5,)}), Prompt(0, "red", {"shade": 1, "light": (0.5,)})]
    assert names(told.vocabulary, made) == ("left", "none")
    assert names(told.vocabulary, made[:1] * 3) == ()
    assert names(told.vocabulary, [made[0], Prompt(1, "blue")]) == ("red, a, left, light 0.5", "blue, b")


def test_names_do_not_say_again_what_the_text_says(told):
    styles = replace(told.vocabulary, attributes=(Known("style", ("Oil paint", "ink")),))
    asked = [Prompt(0, "a red boat, oil-paint", {"style": 0}), Prompt(1, "a B of inkwells", {"style": 1})]
    assert names(styles, asked) == ("a red boat, oil-paint", "a B of inkwells, ink")
    same = [Prompt(None, "ink", {"style": 0}), Prompt(None, "ink", {"style": 1})]
    assert names(styles, same) == ("Oil paint", "ink"), "the text is of all of them, so that it is not said"
    alike = [Prompt(None, "ink", {"style": 1}), Prompt(None, "ink"), Prompt(None, "oil")]
    assert names(styles, alike) == ("ink, ink", "ink", "oil"), "different prompts have different names"


def test_attributes_asked_for_are_columns_that_are_read_as_data(told, tmp_path):
    place = Known("place", mean=(0.0, 0.0), std=(1.0, 1.0))
    vocabulary = replace(told.vocabulary, attributes=(*told.vocabulary.attributes, place))
    asked = [
        Prompt(attributes={"shade": 1, "place": (1.0, 2.5)}),
        Prompt(attributes={"light": (0.25,)}),
        Prompt(attributes={"shade": 0}),
    ]
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((3, 2)), **columns(vocabulary, asked))
    read = {attribute.name: attribute for attribute in Arrays(str(tmp_path / "a.npz")).load().attributes}
    assert read["shade"].values.tolist() == [1, -1, 0]
    assert read["shade"].classes == ("left", "none")
    assert np.array_equal(read["light"].values, [[np.nan], [0.25], [np.nan]], equal_nan=True)
    assert np.array_equal(read["place"].values, [[1, 2.5], [np.nan] * 2, [np.nan] * 2], equal_nan=True)
    assert list(columns(vocabulary, asked[2:])) == ["attribute_shade"]
    assert columns(vocabulary, [Prompt(text="red")]) == {}


def test_typical_prompts_are_different_and_ask_for_something(told):
    found = typical(told.vocabulary, told.examples, np.arange(N), 12)
    assert len(found) == 12
    assert len({repr(prompt) for prompt in found}) == 12
    assert not any(prompt.empty for prompt in found)
    assert config.from_data(tuple[Prompt, ...], config.to_data(found)) == found
    bare = replace(told.vocabulary, classes=(), attributes=())
    texts = [prompt.text for prompt in typical(bare, told.examples, np.arange(N), 99)]
    assert "" not in texts
    assert len(set(texts)) == len(texts)
    every = typical(replace(told.vocabulary, classes=()), told.examples, np.arange(N), 99)
    assert len(every) > len({prompt.text for prompt in every}), "of one text there may be several, of other attributes"


def test_an_image_is_given_or_hidden_by_itself(told):
    vocabulary = replace(told.vocabulary, image=LowResolution(2))
    picture = torch.rand(1, 3, 4, 4)
    asked = cond_of(vocabulary, [Prompt(text="red"), Prompt()], picture)
    assert torch.equal(asked.image, picture.expand(2, -1, -1, -1))
    assert asked.drop.tolist() == [[True, True, False, False], [True, True, True, False]]
    for wrong, of in (
        (picture[:, :2], vocabulary),
        (picture.repeat(3, 1, 1, 1), vocabulary),
        (picture, told.vocabulary),
    ):
        with pytest.raises(ValueError, match=r"image must be of \(1 or 2, 3, 4, 4\)|without images"):
            cond_of(of, [Prompt(), Prompt()], wrong)


def test_chance_falls_on_an_example_however_a_whole_is_divided():
    examples = Examples(np.zeros((12, 1, 8, 8), np.uint8), image=True)
    told = OfExamples(Vocabulary(examples.shape, image=Masked()), examples)
    x0 = torch.rand(12, 1, 8, 8)
    whole = told.cond(np.arange(12), x0, place=Place(0, 12, (5, 6))).image
    parts = [told.cond(np.arange(i, i + 3), x0[i : i + 3], place=Place(i, 12, (5, 6))).image for i in range(0, 12, 3)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(whole, told.cond(np.arange(12), x0, place=Place(0, 12, (5, 7))).image)
    assert torch.equal(whole[:, :1], torch.where(whole[:, 1:] > 0, x0, 0.0))


def test_each_example_is_told_the_level_of_its_own_noise():
    """However a whole is divided; and the noise, of a picture that is 0, is as strong as the level says."""
    examples = Examples(np.zeros((12, 1, 64, 64), np.uint8), image=True)
    told = OfExamples(Vocabulary(examples.shape, image=LowResolution(2, 0.9)), examples)
    x0 = torch.zeros(12, 1, 64, 64)
    whole = told.cond(np.arange(12), x0, place=Place(0, 12, (5, 6)))
    parts = [told.cond(np.arange(i, i + 3), x0[i : i + 3], place=Place(i, 12, (5, 6))) for i in range(0, 12, 3)]
    assert torch.equal(torch.cat([part.level for part in parts]), whole.level)
    assert torch.equal(torch.cat([part.image for part in parts]), whole.image)
    strength = whole.image.std((1, 2, 3)) / torch.sin(torch.pi / 2 * whole.level)
    assert strength.std() / strength.mean() < 0.05
    assert whole.level.std() > 0.1


def test_nothing_known_of_a_lone_attribute_is_no_condition():
    values = np.array([0, -1, 1])
    examples = Examples(np.zeros((3, 2), np.float32), attributes=(Attribute("kind", values, ("x", "y")),))
    told = OfExamples(Vocabulary((2,), attributes=(Known("kind", ("x", "y")),)), examples)
    own = told.cond(np.arange(3), torch.zeros(3, 2))
    assert own.hidden("vector").tolist() == [False, True, False]
    assert told.several == 0
    assert isinstance(own, Cond)
