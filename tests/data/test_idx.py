import gzip

import numpy as np
import pytest
from small_sets import pack, write_set

from reverie.data import Digits, Fashion, Idx, idx, resolve, split


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_round_trip(tmp_path, dtype, zipped):
    array = (np.arange(24).reshape(2, 3, 4) * 7 - (0 if dtype == "u1" else 50)).astype(dtype)
    (tmp_path / "a").write_bytes(gzip.compress(pack(array)) if zipped else pack(array))
    read = idx.read_idx(tmp_path / "a")
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("short", lambda b: b[:-1]),
        ("long", lambda b: b + b"\0"),
        ("empty", lambda b: b""),
        ("header", lambda b: b[:9]),
        ("magic", lambda b: b"PK" + b[2:]),
        ("half-gzip", lambda b: gzip.compress(b)[:-12]),
        ("flipped-gzip", lambda b: gzip.compress(b)[:-8] + bytes(8)),
        ("huge", lambda b: b[:4] + b"\xff" * 12 + b[16:]),
    ],
)
def test_damaged_idx_is_named(tmp_path, name, damage):
    (tmp_path / name).write_bytes(damage(pack(np.ones((20, 8, 8), np.uint8))))
    with pytest.raises(ValueError, match=f"{name} is damaged or not an idx file"):
        idx.read_idx(tmp_path / name)


@pytest.mark.parametrize(("zipped", "names"), [(True, "{}-{}-idx{}-ubyte"), (False, "{}-{}.idx{}-ubyte")])
def test_mnist_folder_is_read_whole_and_its_test_part_is_never_trained_on(tmp_path, zipped, names):
    made = write_set(tmp_path / "mnist", zipped=zipped, names=names)
    data = resolve(str(tmp_path / "mnist"))
    assert isinstance(data, Idx)
    found = data.load()
    assert np.array_equal(found.items[:20, 0], made["train"][0])
    assert np.array_equal(found.items[20:, 0], made["t10k"][0])
    assert found.classes == tuple("0123456789")
    assert split(found, 0.5, 0).validation.tolist() == list(range(20, 30))


def test_training_part_alone_has_no_official_test_set(tmp_path):
    write_set(tmp_path)
    for path in tmp_path.glob("t10k*"):
        path.unlink()
    found = Idx(str(tmp_path)).load()
    assert len(found) == 20
    assert found.held_out is None


def test_labels_that_do_not_fit_are_named(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(pack(np.zeros(9, np.uint8)))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz must hold 10 whole numbers"):
        Idx(str(tmp_path)).load()


def test_fashion_is_looked_for_where_it_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("REVERIE_DATA", str(tmp_path / "mine"))
    with pytest.raises(ValueError, match=r"apt-get install dataset-fashion-mnist, or write data\.path=FOLDER"):
        Fashion().load()
    (tmp_path / "mine").mkdir()
    write_set(tmp_path / "mine" / "fashion-mnist")
    assert Fashion().load().classes[9] == "ankle boot"
    write_set(tmp_path / "system", train=12)
    assert len(Fashion().load()) == 22
    assert resolve(str(tmp_path / "mine" / "fashion-mnist")).kind == "fashion"
    with pytest.raises(ValueError, match="elsewhere"):  # never another folder than the one asked for
        Fashion(str(tmp_path / "elsewhere")).load()


def test_digits_are_sixteenths():
    from sklearn.datasets import load_digits

    found, source = Digits().load(), load_digits()
    assert len(found) == 1797
    assert np.array_equal(np.rint(found.items[:, 0] / (255 / 16)), source.images)
    assert (found.items.min(), found.items.max()) == (0, 255)
    assert np.array_equal(found.labels, source.target)
