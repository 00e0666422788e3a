"""Embeddings of images and texts, and the way between two of them on the sphere."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from embedded import SMALL, pair_of, prior_of
from helpers import DOUBLE, close, randn
from staged import own_cache  # noqa: F401  # a fixture

from reverie.joint import ROWS, Joint, spherical
from reverie.prompts import Prompt
from reverie.request import Request
from reverie.unclip import OfText, differed

CPU = torch.device("cpu")


def angle(a, b):
    """(N,), by the chord, which is exact for small angles too."""
    chord = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).norm(dim=1)
    return 2 * torch.asin((chord / 2).clamp(max=1))


# ----------------------------------------------------------------------------------- on the sphere


def test_it_begins_at_one_ends_in_the_direction_of_the_other_and_keeps_its_length():
    a, b = randn(20, 7, seed=1), 3 * randn(20, 7, seed=2)
    length = a.norm(dim=1)
    assert close(spherical(a, b, 0), a)
    assert close(spherical(a, b, 1), length[:, None] * F.normalize(b, dim=1))
    for share in torch.linspace(0, 1, 9):
        assert close(spherical(a, b, share).norm(dim=1), length)


def test_equal_shares_are_equal_angles_in_the_plane_of_both():
    a, b = randn(20, 7, seed=1), randn(20, 7, seed=2)
    whole = angle(a, b)
    for share in (0.1, 0.25, 0.5, 0.9):
        c = spherical(a, b, share)
        assert close(angle(a, c), share * whole)
        assert close(angle(c, b), (1 - share) * whole)
    assert close(spherical(a, b, 0.5), a.norm(dim=1, keepdim=True) * F.normalize(F.normalize(a, dim=1) + F.normalize(
        b, dim=1), dim=1))  # fmt: skip


def test_it_is_the_quotient_of_sines():
    """Shoemake (1985): sin((1 - w) o) / sin o u + sin(w o) / sin o v."""
    u, v = (F.normalize(randn(20, 5, seed=seed), dim=1) for seed in (1, 2))
    o = (u * v).sum(1, keepdim=True).acos()
    w = torch.linspace(0, 1, 20, dtype=DOUBLE)
    expected = (((1 - w[:, None]) * o).sin() * u + (w[:, None] * o).sin() * v) / o.sin()
    assert close(spherical(u, v, w), expected)
    assert close(spherical(u, v, w)[3:4], spherical(u[3:4], v[3:4], float(w[3])))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("tiny", [0, 1e-12, 1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize("sign", [1, -1], ids=["near", "opposite"])
def test_vectors_that_are_all_but_the_same_or_opposite(sign, tiny, dtype):
    """Finite and of the same length on the whole way, from one to the other; small angles are in proportion."""
    a = randn(20, 6, seed=1).to(dtype)
    b = (sign * (a + tiny * randn(20, 6, seed=2).to(dtype))).to(dtype)
    rounding = 50 * torch.finfo(dtype).eps
    for share in (0.0, 0.3, 0.5, 0.7, 1.0):
        c = spherical(a, b, share)
        assert close(c.norm(dim=1), a.norm(dim=1), rounding)
        if sign > 0:
            assert close(angle(a, c), share * angle(a, b), max(rounding, 3e-6 * (tiny < 1e-5)))
    assert close(spherical(a, b, 0.0), a, rounding)
    assert close(spherical(a, b, 1.0), a.norm(dim=1, keepdim=True) * F.normalize(b, dim=1), max(rounding, 3e-6))


def test_a_direction_that_is_none_leads_nowhere():
    a = randn(4, 5)
    for share in (0.0, 0.5, 1.0):
        assert close(spherical(a, torch.zeros_like(a), share), a)
        assert close(differed(a, a[0], a[0], share), a)


def test_a_turn_by_two_texts_is_the_formula():
    """slerp(z, (to - of) / |to - of|, w), of the length of z."""
    z, of, to = randn(3, 6, seed=1), randn(6, seed=2), randn(6, seed=3)
    d, share = F.normalize(to - of, dim=0), torch.tensor([0.25, 0.4, 0.5], dtype=DOUBLE)
    made = differed(z, of, to, share)
    whole = angle(z, d.expand(3, -1))
    assert close(angle(z, made), share * whole)
    assert close(angle(made, d.expand(3, -1)), (1 - share) * whole)
    assert close(made.norm(dim=1), z.norm(dim=1))
    assert float(angle(made[:1], to[None] - of[None])) < float(angle(made[:1], of[None] - to[None]))


# -------------------------------------------------------------------------------------- embeddings


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return pair_of(tmp_path_factory.mktemp("joint") / "pair")


def test_embeddings_are_what_the_pair_makes_of_clean_images_and_of_texts_at_length_sqrt_e(pair):
    joint = Joint(pair)
    images, texts = joint.images(SMALL.items), joint.texts(["a red square", "a blue square"])
    assert joint.width == images.shape[1] == 128
    for made in (images, texts):
        assert made.dtype == torch.float32
        assert close(made.norm(dim=1), torch.full((len(made),), math.sqrt(128)), 1e-5)
    t = torch.tensor(0.01 / 1.01)  # of a flow, where sigma / alpha = t / (1 - t) is 1 in 100
    with torch.no_grad():
        x = (1 - t) * pair.space.encode(torch.from_numpy(SMALL.items[:5]))
        assert close(images[:5], math.sqrt(128) * pair.pair.image(x, t), 1e-5)
        read = pair.pair.text(pair.vocabulary.reader.encode(["a red square"]))
    assert close(texts[:1], math.sqrt(128) * read, 1e-5)
    assert len(images.unique(dim=0)) == len(SMALL) - 1  # of which two are the same


def test_embeddings_do_not_depend_on_what_is_beside_them(pair):
    joint, items = Joint(pair), SMALL.items
    many = joint.images(torch.from_numpy(items).repeat(2, 1, 1, 1))
    assert len(many) > ROWS
    assert close(many, torch.cat([joint.images(items)] * 2), 1e-5)
    assert close(torch.cat([joint.images(items[i : i + 1]) for i in range(5)]), many[:5], 1e-5)
    texts = ["a red square", "a square that is said to be of a green that is nearly blue", "red"]
    assert torch.equal(joint.texts(texts), torch.cat([joint.texts([text]) for text in texts]))
    assert torch.equal(joint.texts([" red\n"]), joint.texts(["red"]))


def test_a_text_that_is_empty_has_no_embedding(pair):
    made = Joint(pair).texts(["", "red", "  \n"])
    assert made.isnan().all(1).tolist() == [True, False, True]
    assert not made[1].isnan().any()
    assert made.shape == (3, 128)


# --------------------------------------------------------------------- a text that there is not


@pytest.fixture(scope="module")
def prior(pair):
    return prior_of(pair.path.with_name("prior"), pair)


def test_no_text_is_hidden_in_training(prior):
    """Its embedding only, for there is nothing else; its caption besides, as ever."""
    told, rows = prior.told(SMALL), [6, 7, 8, 15]
    assert told.embedded.isnan().any(1).tolist() == [not text for text in SMALL.texts]
    cond = told.cond(np.array(rows), torch.zeros(4, 128))
    assert cond.hidden("vector").tolist() == [False, True, False, True]
    assert not cond.vector.isnan().any()
    assert torch.equal(cond.vector[0], told.embedded[6])
    hidden = told.cond(np.array(rows), torch.zeros(4, 128), apart=torch.tensor([[True, False]] * 3 + [[False] * 2]))
    assert prior.vocabulary.apart == ("vector", "text")
    assert hidden.hidden("vector").tolist() == [True] * 4
    assert hidden.hidden("text").tolist() == [False, True, False, True]


def test_no_text_is_hidden_in_sampling(prior):
    below = OfText(prior.joint)
    prompts = (Prompt(text="red"), Prompt(), Prompt(text="blue"))
    made = below(prior.request(prompts), prior.settings(), CPU)
    assert made.hidden("vector").tolist() == [False, True, False]
    assert made.hidden("text").tolist() == [False] * 3
    assert close(made.vector[[0, 2]], prior.joint.texts(["red", "blue"]), 0)
    assert not made.vector.isnan().any()
    assert below(prior.request(prompts[:1]), prior.settings(), CPU).drop is None
    none = below(Request((None, None)), prior.settings(), CPU)
    assert none.hidden("vector").tolist() == [True, True]
    assert below.depth == 0
