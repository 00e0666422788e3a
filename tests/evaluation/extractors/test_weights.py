import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reverie.config import from_data, registered, to_data
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import (
    Classifier,
    EfficientNetLite0,
    Extractor,
    Pixels,
    Values,
    Weights,
    from_text,
    suited,
)

SOME = Collection(np.zeros((2, 3, 8, 8), np.uint8), True, "some")


class Code:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_pickle_is_not_run(tmp_path):
    path, made = tmp_path / "some.pth", tmp_path / "made"
    torch.save({"weight": Code(str(made))}, path)
    with pytest.raises(ValueError, match="holds code beside its weights, which is never run"):
        Weights(str(path)).open(SOME)
    assert not made.exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("some.pth", {"weight": torch.zeros(2)}, r"a network that is not known \(weight, ...\); right are Inception"),
        ("some.pt", [torch.zeros(2)], "holds a list, not tensors by name"),
        ("some.pth", {"epoch": 3}, "holds a dict, not tensors by name"),
        ("some.bin", {"weight": torch.zeros(2)}, "is no file of weights; right are"),
    ],
)
def test_other_files_are_told_what_would_do(tmp_path, name, value, said):
    path = tmp_path / name
    torch.save(value, path)
    with pytest.raises(ValueError, match=said):
        Weights(str(path)).open(SOME)


def test_damaged_files_are_a_sentence(tmp_path):
    for name in ("some.pth", "some.safetensors"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ValueError, match="damaged"):
            Weights(str(tmp_path / name)).open(SOME)
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not known"):
        Weights(str(tmp_path / "other.safetensors")).open(SOME)
    with pytest.raises(ValueError, match=r"there are no weights .*missing\.pth"):
        Weights(str(tmp_path / "missing.pth")).open(SOME)


def test_images_alone():
    with pytest.raises(ValueError, match="takes images"):
        Weights("some").open(Collection(np.zeros((2, 3), np.float32), False, "some"))


# ------------------------------------------------------------------------------------- choice


def test_words_paths_and_names(tmp_path):
    path = tmp_path / "some.pth"
    path.touch()
    assert from_text(" pixels ") == Pixels()
    assert from_text("Efficient_Net") == EfficientNetLite0()
    assert from_text(str(path)) == Weights(str(path))
    assert from_text(str(tmp_path)) == Weights(str(tmp_path))
    assert from_text("facebook/dinov2-base") == Weights("facebook/dinov2-base")


def test_a_folder_beside_may_be_named_without_a_slash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert from_text("mine") == Weights("mine")


@pytest.mark.parametrize("text", ["", "inception", "weights", "missing.pth", "runs/missing.pth", "a/b/c", "./missing"])
def test_what_is_nothing_is_told_what_there_is(text):
    with pytest.raises(ValueError, match=r"classifier, efficientnet, .*, a file or folder of weights"):
        from_text(text)


@pytest.mark.parametrize("cls", registered(Extractor).values(), ids=lambda cls: cls.kind)
def test_settings_come_back(cls):
    extractor = cls("some") if cls is Weights else cls()
    assert from_data(Extractor, to_data(extractor)) == extractor


def collection(image, classes, side=8):
    items = np.zeros((4, 1, side, side), np.uint8) if image else np.zeros((4, 2), np.float32)
    labels = np.arange(4) % classes if classes else None
    return Collection(items, image, "some", labels=labels, classes=tuple("abcd"[:classes]))


def test_what_suits(monkeypatch):
    assert suited(collection(True, 2, side=16)) == (EfficientNetLite0(), Classifier(), Pixels())
    assert suited(collection(True, 2)) == (Classifier(), Pixels())  # small pictures, whose classes are known
    assert suited(collection(True, 0)) == (EfficientNetLite0(), Pixels())
    assert suited(collection(True, 1)) == (EfficientNetLite0(), Pixels())
    assert suited(collection(True, 2, side=7)) == (EfficientNetLite0(), Pixels())
    assert suited(collection(False, 2)) == (Classifier(), Values())
    assert suited(collection(False, 0)) == (Values(),)
    monkeypatch.setattr("reverie.evaluation.extractors.efficientnet.PACKAGES", ("of_no_such_name",))
    assert suited(collection(True, 2)) == (Classifier(), Pixels())
