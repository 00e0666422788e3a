import json

import numpy as np
import pytest
import torch
import transformers

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Weights, embed
from reverie.evaluation.extractors.preparing import bicubic, bilinear

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
}  # fmt: skip
SEEING = {**SMALL, "intermediate_size": 32}
READING = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50,
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
ITEMS = np.random.default_rng(0).integers(0, 256, (5, 3, 40, 30), dtype=np.uint8)
SOME = Collection(ITEMS, True, "some")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def dino():
    return transformers.Dinov2Model(transformers.Dinov2Config(**SMALL))


def dino_with_registers():
    return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**SMALL))


def clip():
    settings = transformers.CLIPConfig(text_config=READING, vision_config=SEEING, projection_dim=8)
    return transformers.CLIPModel(settings)


def clip_vision():
    return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**SEEING, projection_dim=8))


@pytest.fixture
def saved(tmp_path):
    def save(make, preprocessor=None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = make().eval()
        net.save_pretrained(tmp_path)
        if preprocessor is not None:
            (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        return net, Weights(str(tmp_path))

    return save


def prepared(side, scale, resize=bicubic):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in scale)
    return (resize(torch.from_numpy(ITEMS).float(), side) / 255 - mean) / std


def own(net, x):
    """What the network itself gives as its feature."""
    with torch.inference_mode():
        if isinstance(net, transformers.CLIPModel):
            found = net.get_image_features(pixel_values=x)
            return found if isinstance(found, torch.Tensor) else found.pooler_output
        if isinstance(net, transformers.CLIPVisionModelWithProjection):
            return net(pixel_values=x).image_embeds
        return net(pixel_values=x).pooler_output


@pytest.mark.parametrize(
    ("make", "side", "scale", "width"),
    [
        (dino, 224, IMAGENET, 16),
        (dino_with_registers, 224, IMAGENET, 16),
        (clip, 28, CLIP, 8),
        (clip_vision, 28, CLIP, 8),
    ],
)
def test_features_are_the_networks_own(saved, make, side, scale, width):
    net, weights = saved(make)
    opened = weights.open(SOME)
    found = embed(opened, ITEMS).values
    assert found.shape == (5, width) == (5, opened.width)
    assert np.allclose(found, own(net, prepared(side, scale)).numpy(), atol=1e-4, rtol=1e-4)
    assert np.ptp(found, axis=0).min() > 1e-3


def test_the_folder_says_how_pictures_are_prepared(saved):
    told = {
        "do_center_crop": True, "size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56},
        "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "resample": 2,
    }  # fmt: skip
    net, weights = saved(dino, told)
    found = embed(weights.open(SOME), ITEMS).values
    x = prepared(56, ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)), bilinear)
    assert np.allclose(found, own(net, x).numpy(), atol=1e-4, rtol=1e-4)
    assert "bilinear" in weights.open(SOME).about["resize"]
    assert "56x56" in weights.open(SOME).about["resize"]


def test_a_size_may_be_written_in_several_ways(saved):
    for size in (28, {"shortest_edge": 28}, {"height": 28, "width": 28}):
        _, weights = saved(clip, {"do_center_crop": False, "size": size})
        assert "28x28" in weights.open(SOME).about["resize"]


def test_the_digest_is_of_the_weights_that_see(saved):
    net, weights = saved(clip)
    digest = weights.open(SOME).digest
    net.logit_scale.data += 1
    net.text_projection.weight.data += 1
    net.save_pretrained(weights.path)
    with_other_text = weights.open(SOME).digest
    net.visual_projection.weight.data += 1
    net.save_pretrained(weights.path)
    assert with_other_text == digest != weights.open(SOME).digest


def test_loading_shows_nothing_and_changes_nothing(saved, capfd):
    from transformers.utils import logging

    _, weights = saved(dino)
    before, state = (logging.get_verbosity(), logging.is_progress_bar_enabled()), torch.random.get_rng_state()
    capfd.readouterr()
    weights.open(SOME)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"size": {"height": 28, "width": 56}}, "not known; right are a square size"),
        ({"image_mean": 0.5}, "image_mean and image_std of three numbers"),
        ({"do_normalize": False}, "not known"),
        ({"size": 42}, "wants pictures of 42x42, and its network has another size: 28"),
    ],
)
def test_unknown_preparations_are_refused(saved, told, said):
    _, weights = saved(clip, told)
    with pytest.raises(ValueError, match=said):
        weights.open(SOME)


def test_a_side_that_the_patches_do_not_fill(saved):
    _, weights = saved(dino, {"size": 30})
    with pytest.raises(ValueError, match="a multiple of 14"):
        weights.open(SOME)


def test_a_network_without_its_projection_is_not_whole(saved, capfd):
    _, weights = saved(lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SEEING, projection_dim=8)))
    capfd.readouterr()
    with pytest.raises(ValueError, match=r"no whole CLIP; missing: visual_projection\.weight"):
        weights.open(SOME)
    assert capfd.readouterr() == ("", "")


def test_other_folders_are_told_what_would_do(saved, tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        Weights(str(tmp_path)).open(SOME)
    _, weights = saved(dino)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="does not hold the DINOv2 that its config"):
        weights.open(SOME)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no \*\.safetensors"):
        weights.open(SOME)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "code.Model"}}')
    with pytest.raises(ValueError, match="type 'bert'; known are dinov2"):
        weights.open(SOME)


def test_a_name_of_the_hub_is_downloaded(saved, monkeypatch):
    _, weights = saved(dino)
    asked = []

    def downloaded(name, allow_patterns):
        asked.append((name, tuple(allow_patterns)))
        return weights.path

    monkeypatch.setattr("huggingface_hub.snapshot_download", downloaded)
    assert Weights("owner/name").open(SOME).digest == weights.open(SOME).digest
    assert asked[0][0] == "owner/name"
    assert not any(pattern.endswith((".bin", ".py", "*")) and "safetensors" not in pattern for pattern in asked[0][1])


def test_without_a_network_the_hub_is_a_sentence(monkeypatch):
    def offline(name, allow_patterns):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ValueError, match=r"owner/name is neither a file nor a folder here.*\(no route to host\)"):
        Weights("owner/name").open(SOME)
