"""Conditions are made a batch at a time, and are those that would be made at once."""

from dataclasses import fields, replace

import pytest
import torch
from told import tiles

from reverie.conditioning import Cond
from reverie.image_conditions import LowResolution
from reverie.nets import DiTConfig
from reverie.prompts import Asked, Known, Prompt, Vocabulary, asked, cond_of
from reverie.request import Request
from reverie.text import OpenedText, Transformer

TEXTS = ("red", "a green tile", "", "something of many words", "red")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    made, folder = tiles(40), tmp_path_factory.mktemp("asked")
    text = Transformer(words=256, width=8, depth=1, heads=2, length=24).fit(made.texts, folder)
    known = (Known("shade", ("left", "none")),)
    return Vocabulary(made.shape, ("a", "b"), known, text, LowResolution(2), folder)


def wishes(n):
    return [Prompt(i % 2 if i % 3 else None, TEXTS[i % 5], {"shade": 1} if i % 4 else {}) for i in range(n)]


def same(a, b):
    for field in fields(Cond):
        u, v = getattr(a, field.name), getattr(b, field.name)
        assert (u is None and v is None) or torch.equal(u, v), field.name


def test_a_batch_is_made_of_its_own_rows_alone(vocabulary, monkeypatch):
    """Each different text is read once, and no more rows of its states are made than are wanted."""
    read, made = [], []
    own = type(vocabulary.reader).read

    class Spied:
        def __init__(self, table):
            self.table, self.drop, self.length = table, table.drop, table.length

        def rows(self, index):
            made.append(len(index))
            return self.table.rows(index)

    def spied(self, texts, keep):
        read.append((tuple(texts), keep))
        return Spied(own(self, texts, keep))

    images = torch.rand(60, 3, 4, 4)
    whole = cond_of(vocabulary, wishes(60), images)
    monkeypatch.setattr(type(vocabulary.reader), "read", spied)
    told = Asked.of(vocabulary, wishes(60), images)
    request = Request(tuple(prompt.label for prompt in told.prompts), cond=told)
    assert read == [(("red", "a green tile", "", "something of many words"), False)]
    assert made == []
    for first in range(0, 60, 7):
        part = request.part(first, min(60, first + 7))
        same(part.condition(slice(None), "cpu"), whole[first : first + 7])
    same(request.part(10, 50).part(5, 9).condition([3, 0], "cpu"), whole[torch.tensor([18, 15])])
    assert max(made) == 7
    assert len(read) == 1
    monkeypatch.setattr(asked, "MANY", 3)
    Asked.of(vocabulary, wishes(60), images)
    assert read[1][1], "many texts are not held in memory"


def test_what_is_hidden_somewhere_is_said_in_every_batch(vocabulary):
    """Else the last bits of a sample would depend on its batch."""
    bare = replace(vocabulary, image=None)
    told = Asked.of(bare, [Prompt(0, "red", {"shade": 0}), Prompt()])
    assert told.part(0, 1)[:].drop.tolist() == [[False] * 4]
    assert told.part(1, 2)[:].drop.tolist() == [[True, True, True, False]]
    assert told.part(1, 2)[:].words.shape == (1, 24)
    assert Asked.of(bare, [Prompt(), Prompt()]) is None


def test_a_text_without_tokens_is_no_text(vocabulary):
    class Deaf(OpenedText):
        """Throws blanks of no width away."""

        def read(self, texts, keep):
            return vocabulary.reader.read([text.replace("\u200b", "") for text in texts], keep)

        def counts(self, texts):
            return vocabulary.reader.counts(texts)

    made = replace(vocabulary, classes=(), attributes=(), image=None)
    made.__dict__["reader"] = Deaf()
    cond = cond_of(made, [Prompt(text="\u200b"), Prompt(text="red"), Prompt(text="\u200b\u200b")])
    assert cond.hidden("text").tolist() == [True, False, True]
    assert cond.mask.any(1).tolist() == [False, True, False]


def test_the_level_of_an_image_goes_with_its_sample(vocabulary):
    """A level for each or one for all, 0 unless told; and a network is told it."""
    noisy = replace(vocabulary, image=LowResolution(2, 0.5))
    images, level = torch.rand(60, 3, 4, 4), torch.linspace(0, 0.5, 60)
    assert noisy.conditions.level
    assert not vocabulary.conditions.level
    told = Asked.of(noisy, wishes(60), images, level)
    assert torch.equal(told[:].level, level)
    assert torch.equal(told.part(10, 50).part(5, 9)[torch.tensor([3, 0])].level, level[[18, 15]])
    one = Asked.of(noisy, wishes(60), images[:1], torch.tensor([0.25]))
    assert torch.equal(one.part(7, 9)[:].level, torch.full((2,), 0.25))
    assert torch.equal(cond_of(noisy, wishes(3), images[:3]).level, torch.zeros(3))
    assert cond_of(vocabulary, wishes(3), images[:3]).level is None
    assert cond_of(noisy, wishes(3)).level is None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = DiTConfig(width=16, depth=1, heads=2).build(noisy.shape, noisy.conditions).eval()
        for p in net.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
    x, t = torch.ones(2, *noisy.shape), torch.zeros(2)
    made = net(x, t, cond_of(noisy, [Prompt()] * 2, images[:1], torch.tensor([0.0, 0.5])))
    assert torch.allclose(made[:1], net(x, t, cond_of(noisy, [Prompt()] * 2, images[:1]))[:1], atol=1e-6)
    assert not torch.allclose(made[0], made[1], atol=1e-3)


@pytest.mark.parametrize(
    ("noise", "given", "level", "message"),
    [
        (0.5, True, torch.zeros(2), r"level must be of \(1 or 3,\); given \(2,\)"),
        (0.5, True, torch.zeros(3, 1), r"level must be of \(1 or 3,\); given \(3, 1\)"),
        (0.5, False, torch.zeros(3), "give the image too"),
        (0.0, True, torch.zeros(3), "told no level"),
    ],
)
def test_a_level_that_is_of_no_image_is_refused(vocabulary, noise, given, level, message):
    of = replace(vocabulary, image=LowResolution(2, noise))
    with pytest.raises(ValueError, match=message):
        cond_of(of, wishes(3), torch.rand(3, 3, 4, 4) if given else None, level)
