"""An autoencoder of another project as a stage: converted, refused with a sentence, and never executed."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from staged import images, own_cache  # noqa: F401  # a fixture
from toys import MLP, begun, hashes

from reverie.data import Examples
from reverie.interop.autoencoder_folder import as_run, read, tensors
from reverie.recipe import compose
from reverie.runs import load

COLOUR = images(30, (3, 16, 16))
SETTINGS = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
    "latent_channels": 3,
    "mid_block_add_attention": False,
}


@pytest.fixture(scope="module")
def theirs():
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers.AutoencoderKL(**SETTINGS).eval().requires_grad_(False)


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def recipe():
    return compose([{"data": "digits", "space": {"kind": "latent"}}])


def begun_on(path, folder, examples=COLOUR, *settings):
    return begun(path, *MLP, "space.kind=latent", f"space.autoencoder={folder}", *settings, examples=examples)[0]


def test_latents_and_pictures_are_theirs(tmp_path, theirs, folder):
    run = begun_on(tmp_path / "run", folder)
    x0 = run.space.inner.encode(torch.from_numpy(COLOUR.items[:4]))
    z = theirs.encode(x0).latent_dist.mean
    assert run.shape == (3, 8, 8)
    assert torch.allclose(run.space.raw(torch.from_numpy(COLOUR.items[:4])), z, atol=1e-5)
    x = run.space.standard.encode(z)
    made, wanted = run.space.decode(x).int(), run.space.inner.decode(theirs.decode(z).sample).int()
    assert int((made - wanted).abs().max()) <= 1
    assert float((made - wanted).float().abs().mean()) < 0.01


def test_the_stage_is_a_run_of_ours_that_needs_theirs_no_more(tmp_path, folder):
    run = begun_on(tmp_path / "run", folder)
    wanted = run.space.encode(torch.from_numpy(COLOUR.items[:4]))
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    again = load(tmp_path / "run")
    assert torch.equal(again.space.encode(torch.from_numpy(COLOUR.items[:4])), wanted)
    stage = load(tmp_path / "run" / "autoencoder")
    assert stage.recipe.kind == "autoencoder"
    assert stage.about["from"] == "theirs"
    assert stage.facts.shape == (3, 16, 16)


def test_weights_in_half_precision_become_single(tmp_path, folder, theirs):
    state = {name: v.half() for name, v in theirs.state_dict().items()}
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    as_run(folder, tmp_path / "made", recipe(), COLOUR)
    net = load(tmp_path / "made").autoencoder.net
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def refused(tmp_path, folder, sentence, examples=COLOUR):
    """The run is not begun, and nothing is left of it."""
    before = hashes(folder) if folder.is_dir() else {}
    with pytest.raises(ValueError, match=sentence):
        begun_on(tmp_path / "run", folder, examples)
    assert not (tmp_path / "run").exists()
    assert (hashes(folder) if folder.is_dir() else {}) == before


def test_pictures_with_other_channels_are_refused(tmp_path, folder):
    refused(tmp_path, folder, r"images of \(3, H, W\), given \(1, 16, 16\)", images(30, (1, 16, 16)))


def test_arrays_are_refused(tmp_path, folder):
    arrays = Examples(np.random.default_rng(0).standard_normal((30, 3, 16, 16)).astype(np.float32))
    refused(tmp_path, folder, "an autoencoder of images; these data are not images", arrays)


def test_sides_that_it_does_not_divide_are_refused(tmp_path, folder):
    items = np.random.default_rng(0).integers(0, 256, (30, 3, 15, 15), np.uint8)
    refused(tmp_path, folder, "15x15|divide|multiple", Examples(items, image=True))


def test_a_folder_that_is_no_autoencoder_is_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(tmp_path, empty, "neither a run of kind=autoencoder nor an autoencoder of another project")
    (empty / "notes.txt").write_text("nothing")
    save_file({"a": torch.zeros(2)}, empty / "model.safetensors")
    refused(tmp_path, empty, "neither a run of kind=autoencoder nor an autoencoder of another project")
    refused(tmp_path, tmp_path / "nowhere", "nowhere")


def test_a_configuration_of_something_else_is_refused(tmp_path, folder):
    (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    refused(tmp_path, folder, "given that of a UNet2DModel")
    (folder / "config.json").write_text("{")
    refused(tmp_path, folder, "config.json")


def test_damaged_and_missing_weights_are_refused(tmp_path, folder):
    (file,) = folder.glob("*.safetensors")
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2])
    refused(tmp_path, folder, "damaged")
    (folder / "second.safetensors").write_bytes(raw)
    refused(tmp_path, folder, r"one \.safetensors file beside config\.json; it has 2")
    file.unlink()
    (folder / "second.safetensors").unlink()
    refused(tmp_path, folder, r"one \.safetensors file beside config\.json; it has 0")


class Told:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_is_not_executed(tmp_path, legacy):
    folder = tmp_path / "taesd"
    folder.mkdir()
    for half in ("encoder", "decoder"):
        told = {"0.weight": torch.zeros(8, 3, 3, 3), "evil": Told(tmp_path / "executed")}
        torch.save(told, folder / f"taesd_{half}.pth", _use_new_zipfile_serialization=not legacy)
    refused(tmp_path, folder, "cannot be read as weights")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([torch.zeros(2)], "something else than weights"),
        ({"a": 1}, "something else than weights"),
        ({"a": torch.zeros(2)}, "no weights of a tiny encoder"),
    ],
    ids=["a list", "a number", "other weights"],
)
def test_a_file_of_something_else_is_refused(tmp_path, found, sentence):
    folder = tmp_path / "taesd"
    folder.mkdir()
    for half in ("encoder", "decoder"):
        torch.save(found, folder / f"taesd_{half}.pth")
    refused(tmp_path, folder, sentence)


def test_the_two_formats_hold_the_same(tmp_path):
    state = {"a": torch.arange(6.0).reshape(2, 3)}
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert torch.equal(tensors(tmp_path / name)["a"], state["a"])


def test_two_encoders_are_one_too_many(tmp_path):
    for name in ("taesd_encoder.pth", "taesd_decoder.pth", "other_encoder.pth"):
        torch.save({}, tmp_path / name)
    with pytest.raises(ValueError, match="neither a run"):
        read(tmp_path)
