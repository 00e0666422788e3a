import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.data.captions import Row, captions, table

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)


def put(root: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"an image")
    return names


def write(path: Path, *rows: object) -> None:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_what_is_written_to_metadata_is_read(tmp_path_factory, texts):
    root = tmp_path_factory.mktemp("folder")
    sources = put(root, *(f"{i}.png" for i in range(len(texts))))
    rows = [{"file_name": name, "text": text} for name, text in zip(sources, texts, strict=True)]
    write(root / "metadata.jsonl", *reversed(rows))
    assert captions(root, sources) == tuple(texts)
    path = root / "metadata.jsonl"  # the same, with every character as it is, a mark of byte order and other line ends
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    assert captions(root, sources) == tuple(texts)


@given(WORDS)
def test_a_text_file_is_one_line(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("folder")
    put(root, "a/b.c.png")
    (root / "a/b.c.txt").write_bytes(text.encode())
    assert captions(root, ["a/b.c.png"]) == (" ".join(text.removeprefix("\ufeff").split()),) or not text.strip("\ufeff")


def test_a_folder_without_captions_has_none(tmp_path):
    sources = put(tmp_path, "a.png", "b.png")
    assert captions(tmp_path, sources) == ()
    (tmp_path / "readme.txt").write_text("not beside an image")
    write(tmp_path / "metadata.jsonl", {"file_name": "a.png", "objects": [1]})
    assert captions(tmp_path, sources) == ()
    assert captions(tmp_path, []) == ()


def test_metadata_may_be_in_any_folder_above_the_image(tmp_path):
    sources = put(tmp_path, "a/1.png", "a/b/2.png", "3.png")
    write(tmp_path / "metadata.jsonl", {"file_name": "3.png", "text": "three"})
    write(
        tmp_path / "a" / "metadata.jsonl",
        {"file_name": "b/2.png", "text": "two"},
        {"file_name": "1.png", "text": "one"},
    )
    assert captions(tmp_path, sources) == ("one", "two", "three")


def test_other_columns_are_kept_apart(tmp_path):
    put(tmp_path, "a.png", "b.png")
    write(
        tmp_path / "metadata.jsonl",
        {"file_name": "a.png", "text": " a cat ", "size": 3},
        "",
        {"file_name": "b.png", "size": 4},
    )
    (tmp_path / "b.txt").write_text("a\ndog\n")
    assert table(tmp_path, ["a.png", "b.png"]) == {
        "a.png": Row("a cat", "metadata.jsonl line 1", {"size": 3}),
        "b.png": Row("a dog", "metadata.jsonl line 3", {"size": 4}),
    }


def test_captions_of_images_that_were_left_out_do_no_harm(tmp_path):
    put(tmp_path, "a.png", "damaged.png")
    write(tmp_path / "metadata.jsonl", *({"file_name": n, "text": n} for n in ("a.png", "damaged.png")))
    assert captions(tmp_path, ["a.png"]) == ("a.png",)


GOOD = {"file_name": "a.png", "text": "a cat"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], r"metadata\.jsonl line 2 is no JSON"),
        (["[" * 100_000], r"line 2 is no JSON"),
        (["3"], r"line 2 names no image; right is an object with file_name and text"),
        ([{"text": "a dog"}], r"line 2 names no image"),
        ([{"file_name": 7, "text": "a dog"}], r"line 2 names no image"),
        ([{"file_name": "c.png", "text": "a dog"}], r"line 2 names 'c\.png', and there is no such file"),
        ([{"file_name": "c" * 5000, "text": "a dog"}], r"there is no such file"),
        ([{"file_name": "\udc80.png", "text": "a dog"}], r"is no name of a file"),
        ([{"file_name": "\0", "text": "a dog"}], r"is no name of a file"),
        ([{"file_name": "../a.png", "text": "a dog"}], r"line 2 names '\.\./a\.png', which leads out of the folder"),
        ([{"file_name": "/etc/passwd", "text": "a dog"}], r"which leads out of the folder"),
        ([{"file_name": "link/a.png", "text": "a dog"}], r"which leads out of the folder"),
        ([{"file_name": "b.png", "text": ["a", "dog"]}], r"line 2 has a text that is no text"),
        ([{"file_name": "b.png", "text": None}], r"line 2 has a text that is no text"),
        ([{"file_name": "b.png", "text": "  "}], r"line 2 holds an empty caption"),
        ([{"file_name": "b.png", "text": "\ud83d"}], r"line 2 holds a caption that UTF-8 cannot write"),
        ([GOOD], r"two captions for a\.png: metadata\.jsonl line 1 and metadata\.jsonl line 2; leave one"),
        ([{"file_name": "./x/../a.png", "text": "a dog"}], r"two captions for a\.png"),
        ([], r"1 of 2 images in .* have no caption, such as b\.png; give every image one"),
    ],
)
def test_what_is_wrong_in_metadata_is_named(tmp_path, lines, said):
    root = tmp_path / "folder"
    sources = put(root, "a.png", "b.png")
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    write(root / "metadata.jsonl", GOOD, *lines)
    with pytest.raises(ValueError, match=said):
        captions(root, sources)


def test_two_places_for_one_image(tmp_path):
    put(tmp_path, "a.png")
    write(tmp_path / "metadata.jsonl", GOOD)
    (tmp_path / "a.txt").write_text("a cat")
    with pytest.raises(ValueError, match=r"two captions for a\.png: metadata\.jsonl line 1 and a\.txt"):
        captions(tmp_path, ["a.png"])


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    put(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_bytes(b'\n\n{"file_name": "a.png", "text": "caf\xe9"}')
    with pytest.raises(ValueError, match=r"metadata\.jsonl line 3 is not UTF-8 \(byte 0xe9\)"):
        captions(tmp_path, ["a.png"])
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"a\.txt line 1 is not UTF-8"):
        captions(tmp_path, ["a.png"])


@pytest.mark.parametrize("name", ["a.txt", "metadata.jsonl"])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path, name):
    root = tmp_path / "folder"
    put(root, "a.png")
    (tmp_path / "secret").write_text("a secret")
    (root / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=rf"{name} is a link that leads out of the folder"):
        captions(root, ["a.png"])


def test_a_name_that_utf8_cannot_write_is_said_all_the_same(tmp_path):
    strange = os.fsdecode(b"\xff.png")
    put(tmp_path, "a.png", strange)
    (tmp_path / "a.txt").write_text("a cat")
    with pytest.raises(ValueError, match=r"1 of 2 images .* such as \\xff\.png"):
        captions(tmp_path, ["a.png", strange])
