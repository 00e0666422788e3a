import math

import pytest
import torch
from helpers import DOUBLE, close, noise_from, seeded, stirred

from reverie.conditioning import Cond, Conditions, Reader
from reverie.losses.contrastive import Contrastive
from reverie.models import NoisyPair
from reverie.nets import MLPConfig
from reverie.schedules import Flow
from reverie.tensors import host
from reverie.time_labels import LogSNR

READER = Reader(words=9, length=4, width=16, depth=1, heads=2)
OWN = Conditions(tokens=16, reader=READER)
FROZEN = Conditions(tokens=6, pooled=5, classes=3)


def pair(conditions=OWN):
    torch.manual_seed(0)
    return NoisyPair.build(MLPConfig(16, 1), (2,), conditions, Flow(), LogSNR())


def test_images_and_texts_are_unit_vectors_whose_product_is_scaled():
    f = stirred(pair())
    x, t = torch.randn(3, 2, dtype=DOUBLE, generator=seeded(1)), host(0.4)
    cond = Cond(words=torch.tensor([[1, 2], [3, 0], [4, 5]]), mask=torch.tensor([[True, True], [True, False]] * 2)[:3])
    image, text = f.image(x, t), f.text(cond)
    assert close(image.norm(dim=1), torch.ones(3, dtype=DOUBLE))
    assert close(text.norm(dim=1), torch.ones(3), 1e-6)
    assert close(f(x, t, cond), f.scale.detach() * image @ text.double().T, 1e-6)
    longer = Cond(
        words=torch.cat([cond.words, torch.full((3, 1), 8)], 1), mask=torch.cat([cond.mask, torch.zeros(3, 1) > 0], 1)
    )
    assert close(f.text(longer), text, 1e-6)  # what the mask hides is not read
    assert close(f.text(cond[1:2]), text[1:2], 1e-6)


def test_frozen_encoders_are_read_and_what_is_no_text_is_not():
    f, g = stirred(pair(FROZEN)), seeded(2)
    cond = Cond(
        tokens=torch.randn(3, 4, 6, dtype=DOUBLE, generator=g), pooled=torch.randn(3, 5, dtype=DOUBLE, generator=g)
    )
    text = f.text(cond).detach()
    assert not close(text[0], text[1], 0.01)
    assert torch.equal(f.text(Cond(tokens=cond.tokens, pooled=cond.pooled, label=torch.tensor([0, 1, 2]))), text)
    with pytest.raises(ValueError, match="captions"):
        pair(Conditions(classes=3))


def test_the_scale_begins_as_published_and_never_passes_100():
    f = pair()
    assert float(f.scale.detach()) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        f.net.log_scale.fill_(9.0)
    assert float(f.scale.detach()) == 100
    f.net.constrain()
    assert float(f.net.log_scale.detach()) == pytest.approx(math.log(100))
    f.net.checkpointing = True
    assert f.net.image.backbone.checkpointing


def test_it_learns_which_of_four_texts_an_image_has():
    f, g = pair(), seeded(3)
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    texts = torch.tensor([[1, 2], [1, 3], [4, 2], [4, 3]])
    optimizer = torch.optim.Adam(f.parameters(), 0.003)

    def drawn(n):
        k = torch.randint(4, (n,), generator=g)
        return corners[k] + 0.1 * torch.randn(n, 2, generator=g), Cond(words=texts[k])

    for _ in range(100):
        x0, cond = drawn(32)
        value = Contrastive()(f, x0, torch.rand(32, dtype=DOUBLE, generator=g), cond, noise_from(g))
        optimizer.zero_grad()
        value.mean().backward()
        optimizer.step()
        f.net.constrain()
    x0, cond = drawn(200)
    t = host(0.1)
    with torch.no_grad():
        x = 0.9 * x0 + 0.1 * torch.randn(200, 2, generator=g)
        assert float(f.right(x, t, cond).mean()) > 0.95  # a quarter by chance; one caption is as good as another of it
        hidden = f.right(x, t, Cond(words=cond.words, drop=cond.words[:, 0] == 4))
    assert torch.equal(hidden.isnan(), cond.words[:, 0] == 4)
