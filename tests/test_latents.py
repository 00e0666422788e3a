"""Latents on the disk: those of the examples, by the weights, and of nothing else."""

import json
import logging
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from staged import begun_autoencoder, images, own_cache  # noqa: F401  # a fixture

from reverie import latents
from reverie.kept import CHUNK
from reverie.latents import folder, kept_latents
from reverie.models import Autoencoder
from reverie.spaces import Latent, OpenedLatent, Standardized

EXAMPLES = images(CHUNK + 9)


@pytest.fixture
def opened(tmp_path):
    """The space of an autoencoder that has learned nothing, by the seed of its weights."""

    def of(seed=0):
        run = begun_autoencoder(tmp_path / f"autoencoder-{seed}", images(20), seed)
        return OpenedLatent(Latent(latent=(3, 4, 4)), run.space, run.autoencoder)

    return of


@pytest.fixture
def encoded(monkeypatch):
    """How many examples were given to the encoder so far."""
    seen, encode = [], Autoencoder.encode
    monkeypatch.setattr(Autoencoder, "encode", lambda self, x: seen.append(len(x)) or encode(self, x))
    return seen


def files():
    return sorted(folder().glob("*.npy"))


def test_they_are_those_that_the_autoencoder_makes(opened):
    space = opened()
    found = kept_latents(space, EXAMPLES)
    data = torch.from_numpy(EXAMPLES.items)
    assert np.array_equal(found.items, space.raw(data).numpy())
    assert found.items.dtype == np.float32
    assert found.image is False
    assert found.labels is EXAMPLES.labels
    turned = kept_latents(space, EXAMPLES, mirrored=True)
    assert np.array_equal(turned.items, space.raw(data.flip(-1)).numpy())
    assert not np.allclose(turned.items, found.items[..., ::-1])  # which is why they are kept apart


def test_they_are_computed_once(opened, encoded):
    first = kept_latents(opened(), EXAMPLES)
    assert sum(encoded) >= len(EXAMPLES)
    encoded.clear()
    second = kept_latents(opened(), EXAMPLES)
    assert not encoded
    assert isinstance(second.items, np.memmap)
    assert np.array_equal(first.items, second.items)
    assert second.items.shape == (len(EXAMPLES), 3, 4, 4)


def test_where_they_are_kept(monkeypatch, tmp_path):
    assert folder() == tmp_path / "cache" / "latents"
    monkeypatch.delenv("REVERIE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == tmp_path / ".cache" / "reverie" / "latents"


def other_pixel():
    items = EXAMPLES.items.copy()
    items[-1, 0, -1, -1] ^= 1  # the last of the last part
    return replace(EXAMPLES, items=items)


def test_what_they_are_of_decides_their_name(opened, encoded):
    """Each of these has latents of its own; the labels have no say."""
    space = opened()
    kept_latents(space, EXAMPLES)
    for changed in (
        (opened(1), EXAMPLES, False),
        (space, EXAMPLES, True),
        (space, other_pixel(), False),
        (space, replace(EXAMPLES, items=EXAMPLES.items[::-1]), False),
        (space, replace(EXAMPLES, items=EXAMPLES.items[:-1], labels=EXAMPLES.labels[:-1]), False),
    ):
        encoded.clear()
        before = len(files())
        found = kept_latents(*changed)
        assert encoded
        assert len(files()) == before + 1
        data = torch.from_numpy(changed[1].items.copy())
        assert np.array_equal(found.items, changed[0].raw(data.flip(-1) if changed[2] else data).numpy())
    encoded.clear()
    kept_latents(space, replace(EXAMPLES, labels=None, classes=()))
    assert not encoded


def test_settings_of_the_way_to_the_autoencoder_are_part_of_the_name(opened):
    space = opened()
    keys = {latents._key(space, EXAMPLES, False)}
    for mean in (0.0, 1.0):
        inner = Standardized((mean,), (127.0,))
        keys.add(latents._key(OpenedLatent(space.settings, inner, space.model), EXAMPLES, False))
    config = space.model.config
    space.model.config = replace(config, eps=1e-5)
    keys.add(latents._key(space, EXAMPLES, False))
    space.model.config = config
    fitted = OpenedLatent(replace(space.settings, mean=(1.0,) * 3, std=(2.0,) * 3, tile=9), space.inner, space.model)
    assert latents._key(fitted, EXAMPLES, False) in keys  # it does not depend on what was fitted to them
    assert len(keys) == 4


def flipped(path):
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)


def dangerous(path):
    """An array of an object that writes a file when it is unpickled."""

    class Told:
        def __reduce__(self):
            return os.mkdir, (str(path.with_name("executed")),)

    np.save(path, np.array([Told()], dtype=object), allow_pickle=True)


def swapped(path):
    """One bit of the header, by which the bytes of every number are in another order."""
    raw = path.read_bytes()
    assert raw.count(b"'<f4'") == 1
    path.write_bytes(raw.replace(b"'<f4'", b"'>f4'"))


DAMAGE = {
    "a bit": flipped,
    "a bit of the header": swapped,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "a pickle": dangerous,
    "no note": lambda path: path.with_suffix(".json").unlink(),
    "another note": lambda path: path.with_suffix(".json").write_text(json.dumps({"crc32": 1})),
    "a note of nothing": lambda path: path.with_suffix(".json").write_text("{}"),
    "a note that is none": lambda path: path.with_suffix(".json").write_text("[1]"),
    "a note cut short": lambda path: path.with_suffix(".json").write_text("{"),
    "no file": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_computed_again(opened, encoded, damage):
    space = opened()
    wanted = np.array(kept_latents(space, EXAMPLES).items)
    (path,) = files()
    DAMAGE[damage](path)
    encoded.clear()
    assert np.array_equal(kept_latents(space, EXAMPLES).items, wanted)
    assert encoded
    encoded.clear()
    assert np.array_equal(kept_latents(space, EXAMPLES).items, wanted)
    assert not encoded
    assert not (folder() / "executed").exists()


def test_where_nothing_can_be_written_they_are_computed_every_time(opened, encoded, monkeypatch, tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, where a folder is to be")
    monkeypatch.setenv("REVERIE_CACHE", str(blocked))
    space = opened()
    with caplog.at_level(logging.WARNING, "reverie"):
        found = kept_latents(space, EXAMPLES)
    assert "they will be computed again" in caplog.text
    assert np.array_equal(found.items, space.raw(torch.from_numpy(EXAMPLES.items)).numpy())


def test_the_autoencoder_stays_where_it_was(opened):
    space = opened()
    kept_latents(space, EXAMPLES)
    assert {p.device.type for p in space.model.parameters()} == {"cpu"}
    assert not any(p.requires_grad for p in space.model.parameters())
