"""Vocabularies of the captions' own: any text, always the same, and what a network is told."""

import logging
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import DOUBLE

from reverie.conditioning import Conditions, Reader
from reverie.config import from_data, to_data
from reverie.nets import UNetConfig
from reverie.text import TextEncoder, Transformer

CAPTIONS = ["a red heart", "a blue heart", "smiling cat", "red and blue", "two red hearts", "猫の顔", "笑う猫の顔"]
STRANGE = {
    "upper": "A Red HEART",
    "accents": "café naïve Ünïcode",  # with combining accents
    "arabic": "قلب أحمر",
    "chinese": "红色的心",
    "devanagari": "लाल दिल",
    "emoji": "👩🏽‍🚀 ❤️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🇩🇪",
    "control": "red\u0000heart\u200b",
    "blanks": "  red \n\t heart ",
}


@pytest.fixture
def opened(tmp_path):
    return Transformer(words=300, length=16).fit(CAPTIONS, tmp_path).open(tmp_path)


def test_fitting_twice_makes_the_same_file(tmp_path):
    """In another order, and with texts that come more often or are blank."""
    first = Transformer().fit(CAPTIONS, tmp_path / "a")
    assert Transformer().fit([*CAPTIONS[::-1], CAPTIONS[0], "", "  "], tmp_path / "b") == first
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    assert first.fitted
    assert not Transformer().fitted
    assert from_data(TextEncoder, to_data(first), "text") == first
    assert Transformer(words=260).fit(CAPTIONS, tmp_path / "c").vocabulary == 260


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_any_text_can_be_read_back(tmp_path, text):
    opened = Transformer(length=256).fit(CAPTIONS, tmp_path).open(tmp_path)
    cond = opened.encode([text, CAPTIONS[0]])
    assert cond.drop is None
    expected = " ".join(unicodedata.normalize("NFC", text).lower().split())
    assert opened.tokenizer.decode(cond.words[0][cond.mask[0]].tolist()).strip() == expected


def test_a_word_is_the_same_wherever_it_stands(opened):
    words = opened.encode(["red heart", "heart red", "RED"])
    assert words.words[0, :2].tolist() == words.words[1, :2].tolist()[::-1]
    assert words.words[2, 0] == words.words[0, 0]
    assert words.mask.sum(1).tolist() == [2, 2, 1], "the words of the captions are one token each"


def test_blank_texts_are_no_text(opened):
    for texts in (["", "red", " \n "], ["", ""]):
        cond = opened.encode(texts)
        assert cond.hidden("text").tolist() == [not text.strip() for text in texts]
        assert not cond.hidden("label").any()
        assert not cond.mask[cond.hidden("text")].any()
    assert opened.encode(["red"]).drop is None
    assert opened.encode([]).words.shape == (0, 1)


def test_a_table_has_the_rows_that_encode_gives(opened):
    texts = [*CAPTIONS, "", CAPTIONS[0], "half \ud83d a character"]
    table, whole = opened.table(texts), opened.encode(texts)
    assert len(table) == len(texts)
    for index in (np.array([3, 7, 0]), torch.tensor([8]), np.arange(10)):
        rows = table.rows(index)
        assert rows.words.shape == (len(index), table.length)
        for name in ("words", "mask", "drop"):
            assert torch.equal(getattr(rows, name), getattr(whole, name)[torch.as_tensor(index)])


def test_long_captions_are_cut_and_counted(tmp_path, caplog):
    long = "red " * 5000
    with caplog.at_level(logging.WARNING, "reverie"):
        encoder = Transformer(length=8).fit([*CAPTIONS[:2], long], tmp_path)
    assert "1 of 3 captions (33.3 %) are longer than 8 tokens; the rest of them is cut off (text.length)" in caplog.text
    cond = encoder.open(tmp_path).encode([long, "red " * 8])
    assert torch.equal(cond.words[0], cond.words[1])
    assert cond.words.shape == (2, 8)
    assert encoder.open(tmp_path).counts([long, "red " * 8, " ", "half \ud83d"])[:3] == [5000, 8, 0]


def test_ten_thousand_captions(tmp_path):
    kinds = ["heart", "cat", "猫", "дом", "👩🏽‍🚀", "rocket"]
    texts = [f"{kinds[i % 6]} number {i} of {10_000 - i}" for i in range(10_000)]
    encoder = Transformer().fit(texts, tmp_path)
    table = encoder.open(tmp_path).table(texts)
    assert encoder.vocabulary <= encoder.words
    assert torch.unique(table.words, dim=0).shape[0] == 10_000, "no two of them are read as the same"


def test_a_network_reads_what_the_encoder_says(tmp_path):
    """`conditions` and `encode` fit each other, and a blank text is to the network as none."""
    encoder = Transformer(words=300, width=16, heads=2, depth=1, length=12).fit(CAPTIONS, tmp_path)
    told = Conditions(**encoder.conditions())
    assert told == Conditions(tokens=16, reader=Reader(words=encoder.vocabulary, length=12, width=16, heads=2, depth=1))
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        net = UNetConfig(width=8, multipliers=(1,), blocks=1, attention=8).build((1, 8, 8), told).to(DOUBLE)
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=0.2)
        x = torch.randn(2, 1, 8, 8, dtype=DOUBLE)
    label = torch.full((2,), 300.0, dtype=DOUBLE)
    out = net(x, label, encoder.open(tmp_path).encode(["", "a red heart"]))
    nothing = net(x, label, None)
    torch.testing.assert_close(out[0], nothing[0], rtol=0, atol=1e-12)
    assert (out[1] - nothing[1]).abs().max() > 1e-3


def test_wrong_settings_and_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="words of the text encoder transformer must be at least 256"):
        Transformer(words=255)
    with pytest.raises(ValueError, match="width of a reader must be a multiple of twice its 4 heads; given 20"):
        Transformer(width=20)
    with pytest.raises(ValueError, match="the text encoder transformer has no caption to be fitted to"):
        Transformer().fit(["", " "], tmp_path)
    with pytest.raises(ValueError, match="the text encoder transformer is not fitted"):
        Transformer().conditions()
    encoder = Transformer().fit(CAPTIONS, tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing: the vocabulary of the text encoder transformer"):
        encoder.open(tmp_path / "other")
    Transformer().fit(CAPTIONS[1:], tmp_path)
    with pytest.raises(ValueError, match="is not the vocabulary that this run was trained with"):
        encoder.open(tmp_path)
    with pytest.raises(ValueError, match="not fitted"):
        replace(encoder, digest="").open(tmp_path)
