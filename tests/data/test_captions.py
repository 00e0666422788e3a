import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.data.captions import judged, told

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)


def put(root: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"an image")
    return names


def write(path: Path, *rows: object) -> None:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")


def said(found):
    return [f"{s.path}: {s.reason}" for s in found.troubles]


@settings(max_examples=25)
@given(st.lists(WORDS, min_size=1, max_size=5))
def test_what_is_written_to_metadata_is_read(tmp_path_factory, texts):
    root = tmp_path_factory.mktemp("folder")
    sources = put(root, *(f"{i}.png" for i in range(len(texts))))
    rows = [{"file_name": name, "text": text} for name, text in zip(sources, texts, strict=True)]
    write(root / "metadata.jsonl", *reversed(rows))
    assert told(root, sources).texts == tuple(texts)
    path = root / "metadata.jsonl"  # the same, with every character as it is, a mark of byte order and other line ends
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    assert told(root, sources).texts == tuple(texts)
    assert told(root, sources).troubles == ()


@settings(max_examples=25)
@given(WORDS)
def test_a_text_file_is_one_line(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("folder")
    put(root, "a/b.c.png")
    (root / "a/b.c.txt").write_bytes(text.encode())
    line = " ".join(text.removeprefix("\ufeff").split())
    found = told(root, ["a/b.c.png"])
    assert found.texts == ((line,) if line else ())
    assert said(found) == ([] if line else ["a/b.c.txt: holds an empty caption"])


def test_a_folder_without_captions_has_none(tmp_path):
    sources = put(tmp_path, "a.png", "b.png")
    (tmp_path / "readme.txt").write_text("not beside an image")
    found = told(tmp_path, sources)
    assert (found.texts, found.attributes, found.troubles, found.left_out) == ((), (), (), ())
    write(tmp_path / "metadata.jsonl", *({"file_name": name, "size": i} for i, name in enumerate(sources)))
    assert (told(tmp_path, sources).texts, told(tmp_path, sources).troubles) == ((), ())
    assert told(tmp_path, []).texts == ()


def test_metadata_may_be_in_any_folder_above_the_image_and_in_two_forms(tmp_path):
    sources = put(tmp_path, "a/1.png", "a/b/2.png", "3.png", "a/4.png", "a/5.png")
    write(tmp_path / "metadata.jsonl", {"file_name": "3.png", "text": " three "})
    write(
        tmp_path / "a" / "metadata.jsonl",
        {"file_name": "b/2.png", "text": "two", "caption": "zwei"},
        "",
        {"file_name": "x/../1.png", "caption": "one"},
    )
    (tmp_path / "a" / "metadata.csv").write_text('file_name,text\n4.png,"four, and\nmore"\n')
    (tmp_path / "a" / "5.txt").write_text("fi\nve\n")
    found = told(tmp_path, sources)
    assert found.texts == ("one", "two", "three", "four, and\nmore", "fi ve")
    assert said(found) == []


def test_a_row_and_a_text_file_complete_each_other(tmp_path):
    sources = put(tmp_path, "a.png", "b.png")
    write(tmp_path / "metadata.jsonl", *({"file_name": n, "text": None, "size": i} for i, n in enumerate(sources)))
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "b.txt").write_text("a dog")
    found = told(tmp_path, sources)
    assert found.texts == ("a cat", "a dog")
    assert [(a.name, a.values.tolist()) for a in found.attributes] == [("size", [[0.0], [1.0]])]
    assert said(found) == []


def test_rows_of_images_that_were_left_out_do_no_harm_and_those_of_other_files_are_named(tmp_path):
    put(tmp_path, "a.png", "damaged.png", ".hidden.png", "film.mp4")
    names = ("a.png", "damaged.png", ".hidden.png", "film.mp4")
    write(tmp_path / "metadata.jsonl", *({"file_name": n, "text": n} for n in names))
    found = told(tmp_path, ["a.png"], ["damaged.png"])
    assert found.texts == ("a.png",)
    assert said(found) == [
        "metadata.jsonl line 3: names '.hidden.png', which is not read as an image",
        "metadata.jsonl line 4: names 'film.mp4', which is not read as an image",
    ]


GOOD = {"file_name": "a.png", "text": "a cat"}
LINE, NONE = "metadata.jsonl line 2: ", "b.png: has no caption"
FORM = "right is an object with file_name and text"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{", [LINE + "no JSON (Expecting property name enclosed in double quotes); " + FORM, NONE]),
        ("[" * 100_000, [LINE + "no JSON (", NONE]),
        ("3", [LINE + "names no image; " + FORM, NONE]),
        ({"text": "a dog"}, [LINE + "names no image", NONE]),
        ({"file_name": 7, "text": "a dog"}, [LINE + "names no image", NONE]),
        ({"file_name": "c.png", "text": "a dog"}, [LINE + "names 'c.png', which does not exist", NONE]),
        ({"file_name": "c" * 5000, "text": "a dog"}, [LINE + f"names '{'c' * 56}..., which does not exist", NONE]),
        (
            {"file_name": "\udc80.png", "text": "a dog"},
            [LINE + "names '\\udc80.png', which is no name of a file", NONE],
        ),
        ({"file_name": "\0", "text": "a dog"}, [LINE + "names '\\x00', which is no name of a file", NONE]),
        ({"file_name": "../a.png", "text": "a dog"}, [LINE + "names '../a.png', which leads out of the folder", NONE]),
        ({"file_name": "/etc/passwd", "text": "a dog"}, [LINE + "names '/etc/passwd', which leads out", NONE]),
        ({"file_name": "link/a.png", "text": "a dog"}, [LINE + "names 'link/a.png', which leads out", NONE]),
        ({"file_name": "b.png", "text": ["a", "dog"]}, [LINE + "has a text that is no text: ['a', 'dog']"]),
        ({"file_name": "b.png", "caption": 3}, [LINE + "has a caption that is no text: 3"]),
        ({"file_name": "b.png", "text": "  "}, [LINE + "holds an empty caption"]),
        ({"file_name": "b.png", "text": None}, [NONE]),
        ({"file_name": "b.png", "text": "\ud83d"}, [LINE + "holds a caption that UTF-8 cannot write"]),
        (GOOD, [LINE + "a second row for a.png; the one in metadata.jsonl line 1 is kept", NONE]),
        ({"file_name": "./x/../a.png", "text": "a dog"}, [LINE + "a second row for a.png", NONE]),
        ("", [NONE]),
    ],
)
def test_what_is_wrong_in_metadata_is_named_and_the_rest_is_read(tmp_path, row, expected):
    root = tmp_path / "folder"
    sources = put(root, "a.png", "b.png", "c.jpg")
    put(tmp_path, "a.png", "outside/a.png")
    (root / "link").symlink_to(tmp_path / "outside")
    write(root / "metadata.jsonl", GOOD, row, {"file_name": "c.jpg", "text": "猫 🐈"})
    found = told(root, sources)
    assert found.texts == ("a cat", "", "猫 🐈")
    assert len(said(found)) == len(expected)
    assert all(text.startswith(start) for text, start in zip(said(found), expected, strict=True))


def test_a_caption_in_two_places_is_the_first(tmp_path):
    put(tmp_path, "a.png")
    write(tmp_path / "metadata.jsonl", GOOD)
    (tmp_path / "a.txt").write_text("a dog")
    found = told(tmp_path, ["a.png"])
    assert found.texts == ("a cat",)
    assert said(found) == ["a.txt: a second caption for a.png; the one in metadata.jsonl line 1 is kept"]


def test_bytes_that_are_no_text_cost_one_line_or_one_file(tmp_path):
    put(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.jsonl").write_bytes(
        b'\n\n{"file_name": "a.png", "text": "caf\xe9"}\n{"file_name": "b.png", "text": "caf\xc3\xa9"}'
    )
    (tmp_path / "c.txt").write_bytes(b"one\n\xff")
    found = told(tmp_path, ["a.png", "b.png", "c.png"])
    assert found.texts == ("", "café", "")
    assert said(found) == [
        "metadata.jsonl line 3: not UTF-8 (byte 0xe9)",
        "c.txt line 2: not UTF-8 (byte 0xff)",
        "a.png: has no caption",
    ]


@pytest.mark.parametrize("name", ["a.txt", "metadata.jsonl", "metadata.csv"])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path, name, monkeypatch):
    root = tmp_path / "folder"
    put(root, "a.png")
    (tmp_path / "secret").write_text("a secret")
    (root / name).symlink_to(tmp_path / "secret")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was opened"))
    found = told(root, ["a.png"])
    assert said(found)[0] == f"{name}: a link that leads out of the folder"
    assert found.texts == ()


def test_what_is_no_file_is_named(tmp_path):
    put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "metadata.jsonl")
    (tmp_path / "metadata.csv").symlink_to("gone")
    assert said(told(tmp_path, ["a.png"])) == ["metadata.jsonl: not a regular file", "metadata.csv: a link to nothing"]


def test_a_name_that_utf8_cannot_write_is_said_all_the_same(tmp_path):
    strange = os.fsdecode(b"\xff.png")
    put(tmp_path, "a.png", strange)
    (tmp_path / "a.txt").write_text("a cat")
    assert said(told(tmp_path, ["a.png", strange])) == ["\\xff.png: has no caption"]


def test_images_without_a_row_are_named_where_there_are_no_captions(tmp_path):
    put(tmp_path, "a.png", "b.png")
    write(tmp_path / "metadata.jsonl", {"file_name": "a.png", "size": 3})
    assert said(told(tmp_path, ["a.png", "b.png"])) == ["b.png: no row names it"]


def test_ten_thousand_captions_of_all_the_world_one_of_them_very_long(tmp_path):
    random = np.random.default_rng(0)
    sources = [f"{i:05}.png" for i in range(10_000)]
    words = np.array(["γάτα", "кошка", "قطة", "猫", "🐈\u200d⬛", "cat"])
    texts = [" ".join(words[random.integers(0, 6, 1 + i % 30)]) for i in range(10_000)]
    texts[7] = "long " * 20_000 + "end"
    write(
        tmp_path / "metadata.jsonl",
        *(
            {"file_name": name, "text": text, "style": "abc"[i % 3], "id": f"row {i}"}
            for i, (name, text) in enumerate(zip(sources, texts, strict=True))
        ),
    )
    found = told(tmp_path, sources)
    assert found.texts == tuple(texts)
    assert found.troubles == ()
    assert (found.attributes[0].values == np.arange(10_000) % 3).all()
    assert [s.path for s in found.left_out] == ["column 'id'"]


def test_the_order_of_rows_and_of_their_columns_does_not_matter(tmp_path):
    sources = [f"{i}.png" for i in range(12)]
    rows = [{"file_name": n, "text": n, "style": "ba"[i % 2], "age": i} for i, n in enumerate(sources)]
    write(tmp_path / "metadata.jsonl", *rows)
    one = told(tmp_path, sources)
    write(tmp_path / "metadata.jsonl", *(dict(reversed(row.items())) for row in reversed(rows)))
    other = told(tmp_path, sources)
    assert one.texts == other.texts
    assert [a.name for a in one.attributes] == [a.name for a in other.attributes] == ["age", "style"]
    for a, b in zip(one.attributes, other.attributes, strict=True):
        assert a.classes == b.classes
        assert (a.values == b.values).all()


def test_troubles_are_counted_in_one_warning_or_one_error(tmp_path, caplog):
    sources = put(tmp_path, *(f"{i}.png" for i in range(8)))
    write(tmp_path / "metadata.jsonl", "{", {"file_name": "0.png", "text": "nought"})
    found = told(tmp_path, sources)
    assert len(found.troubles) == 8
    assert found.troubles == told(tmp_path, sources).troubles
    with caplog.at_level(logging.WARNING, "reverie"):
        judged((), tmp_path, True)
        assert caplog.text == ""
        judged(found.troubles, tmp_path, False)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"8 troubles with the captions or attributes of {tmp_path} (metadata.jsonl")
    assert record.getMessage().endswith("; 4.png: has no caption; and 3 more)")
    with pytest.raises(ValueError, match=r"^8 troubles .*, the first: metadata\.jsonl line 1: no JSON"):
        judged(found.troubles, tmp_path, True)
