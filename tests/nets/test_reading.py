"""The transformer by which a network reads a text itself."""

import pytest
import torch
from helpers import DOUBLE, randn, seeded
from torch import nn

from reverie.conditioning import Cond, Conditions, Reader
from reverie.nets.embeddings import Conditioning
from reverie.nets.reading import Reading

SIZES = Reader(words=11, length=7, width=12, depth=2, heads=3)


@pytest.fixture(scope="module")
def reading():
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        made = Reading(SIZES).to(DOUBLE)
        for weight in made.parameters():
            nn.init.normal_(weight, std=0.5)
    return made


def drawn(batch, length, key):
    return torch.randint(0, SIZES.words, (batch, length), generator=seeded(key))


def test_it_is_its_formula(reading):
    """The blocks are those of torch's own transformer, norms first, with the same weights."""
    h = reading.word(words := drawn(3, 5, 1)) + reading.place[:5]
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]], dtype=torch.bool)
    for block in reading.blocks:
        own = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True, dtype=DOUBLE)
        own.self_attn.in_proj_weight.data, own.self_attn.in_proj_bias.data = block.qkv.weight.data, block.qkv.bias.data
        for theirs, ours in (
            (own.self_attn.out_proj, block.joined), (own.linear1, block.inner), (own.linear2, block.outer),
            (own.norm1, block.before), (own.norm2, block.between),
        ):  # fmt: skip
            theirs.load_state_dict(ours.state_dict())
        h = own(h, src_key_padding_mask=~mask)
    expected = reading.norm(h)
    torch.testing.assert_close(reading(words, mask)[mask], expected[mask], rtol=0, atol=1e-10)


def test_hidden_words_do_not_matter(reading):
    words, mask = drawn(2, 6, 2), torch.arange(6) < torch.tensor([[4], [2]])
    tokens = reading(words, mask)
    other = torch.where(mask, words, (words + 3) % SIZES.words)
    torch.testing.assert_close(reading(other, mask)[mask], tokens[mask], rtol=0, atol=1e-12)
    torch.testing.assert_close(reading(words[:, :4], mask[:, :4])[mask[:, :4]], tokens[mask], rtol=0, atol=1e-12)
    torch.testing.assert_close(reading(words[:1, :4])[0], tokens[0, :4], rtol=0, atol=1e-12)
    seen = torch.where(torch.arange(6) == 1, (words + 3) % SIZES.words, words)
    assert (reading(seen, mask)[:, 0] - tokens[:, 0]).abs().min() > 1e-6, "what is not hidden matters"


def test_a_text_without_words_has_finite_gradients(reading):
    words, mask = drawn(2, 4, 3), torch.tensor([[False] * 4, [True] * 4])
    (reading(words, mask) * mask[:, :, None]).square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in reading.parameters())
    reading.zero_grad()


def test_texts_that_are_too_long_are_refused(reading):
    with pytest.raises(ValueError, match="reads texts of 7 tokens at the most; given 8"):
        reading(drawn(1, 8, 4))


def test_a_network_makes_the_tokens_itself(reading):
    """Words are to `Conditioning` what the tokens made of them are; where text is hidden, nothing."""
    with torch.random.fork_rng():
        torch.random.manual_seed(1)
        told = Conditioning(8, Conditions(tokens=SIZES.width, reader=SIZES)).to(DOUBLE)
    told.reader.load_state_dict(reading.state_dict())
    words, mask, label = drawn(3, 5, 5), torch.arange(5) < torch.tensor([[5], [3], [2]]), randn(3, seed=6).abs()
    drop = torch.zeros(3, 4, dtype=torch.bool)
    drop[2, 2] = True
    a = told(label, Cond(words=words, mask=mask, drop=drop))
    b = told(label, Cond(tokens=reading(words, mask), mask=mask, drop=drop))
    torch.testing.assert_close(a.e, b.e, rtol=0, atol=1e-12)
    torch.testing.assert_close(a.tokens, b.tokens, rtol=0, atol=1e-12)
    nothing = told(label, None)
    torch.testing.assert_close(a.e[2], nothing.e[2], rtol=0, atol=1e-12)
    assert (a.e[:2] - nothing.e[:2]).abs().max() > 1e-3
