import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Weights
from reverie.evaluation.extractors.inception import FORMS, Inception, OpenedInception
from reverie.evaluation.extractors.preparing import bilinear, tensorflow

FID, TORCHVISION = FORMS
SOME = Collection(np.zeros((1, 3, 8, 8), np.uint8), True, "some")


def drawn(form, seed=0):
    """Random weights that keep the size of activations, by name."""
    random = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in Inception(form).state_dict().items() if "num_batches" not in k}
    found = {}
    for name, shape in shapes.items():
        if name.endswith(("running_var", "bn.weight")):
            found[name] = torch.rand(shape, generator=random) + 0.5
        else:
            scale = math.sqrt(2 / shape[1:].numel()) if len(shape) > 1 else 0.1
            found[name] = torch.randn(shape, generator=random) * scale
    return found


@pytest.fixture(scope="module", params=FORMS, ids=["fid", "torchvision"])
def opened(request):
    return OpenedInception(drawn(request.param), "some")


def test_the_number_of_weights_is_the_published_one():
    """27,161,264 in torchvision, 3,326,696 of them in the auxiliary classifier."""
    counts = [sum(v.numel() for k, v in drawn(form).items() if "running" not in k) for form in FORMS]
    assert counts == [23_834_568 + 8 * 2049, 23_834_568]


def test_float64_says_the_same(opened):
    x = torch.rand(2, 3, 107, 107, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        values, logits = opened.net(x)
        exact = deepcopy(opened.net).double()(x.double())
    assert values.shape == (2, 2048)
    assert logits.shape == (2, opened.net.form.classes)
    for found, right in zip((values, logits), exact, strict=True):
        assert (found - right).norm() < 1e-5 * right.norm()


def test_a_picture_of_299_ends_in_8_by_8(opened):
    sizes = {}
    names = ("Conv2d_4a_3x3", "Mixed_5b", "Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7a", "Mixed_7c")
    with torch.device("meta"):
        net = Inception(opened.net.form).eval()
        for name in names:
            net.get_submodule(name).register_forward_hook(lambda m, i, y, name=name: sizes.update({name: y.shape[1:]}))
        net(torch.empty(1, 3, 299, 299))
    table = [(192, 71), (256, 35), (288, 35), (768, 17), (768, 17), (1280, 8), (2048, 8)]
    assert sizes == {name: (width, side, side) for name, (width, side) in zip(names, table, strict=True)}


def test_means_near_the_border(opened):
    """Those of FID leave the padding out, torchvision's count its zeros."""
    ones = torch.ones(1, 1, 5, 5)
    counted = torch.tensor([4, 6, 6, 6, 4]) / 9
    for name in ("Mixed_5b", "Mixed_6c", "Mixed_7b"):
        pooled = opened.net.get_submodule(name)._pool(ones)[0, 0]
        assert torch.allclose(pooled[0], torch.ones(5) if opened.net.form is FID else counted)


def test_the_last_block_of_fid_takes_the_maximum(opened):
    x = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    pooled = opened.net.Mixed_7c._pool(x)
    windows = x[0, 0].unfold(0, 3, 1).unfold(1, 3, 1)
    right = windows.amax((2, 3)) if opened.net.form is FID else windows.mean((2, 3))
    assert torch.allclose(pooled[0, 0, 1:-1, 1:-1], right, atol=1e-6)


LAYOUT = {
    "Mixed_5b": {"branch1x1": 64, "branch5x5_2": 64, "branch3x3dbl_3": 96, "branch_pool": 32},
    "Mixed_6a": {"branch3x3": 384, "branch3x3dbl_3": 96},
    "Mixed_6b": {"branch1x1": 192, "branch7x7_3": 192, "branch7x7dbl_5": 192, "branch_pool": 192},
    "Mixed_7a": {"branch3x3_2": 320, "branch7x7x3_4": 192},
    "Mixed_7b": {
        "branch1x1": 320, "branch3x3_2a": 384, "branch3x3_2b": 384,
        "branch3x3dbl_3a": 384, "branch3x3dbl_3b": 384, "branch_pool": 192,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUT)
def test_outputs_stand_in_their_published_order(name):
    """A branch whose last unit says 7 whatever comes in is heard in its own channels, and in no others."""
    net = OpenedInception(drawn(FID), "some").net
    block = net.get_submodule(name)
    inputs = {"Mixed_5b": 192, "Mixed_6a": 288, "Mixed_6b": 768, "Mixed_7a": 768, "Mixed_7b": 1280}[name]
    x = torch.rand(1, inputs, 9, 9, generator=torch.Generator().manual_seed(2))
    start = 0
    for unit, width in LAYOUT[name].items():
        other = deepcopy(block)
        other.get_submodule(unit).bn.weight.data.zero_()
        other.get_submodule(unit).bn.bias.data.fill_(7)
        heard = (other(x) == 7).all(dim=(0, 2, 3))
        assert torch.equal(heard.nonzero()[:, 0], torch.arange(start, start + width))
        start += width
    if "branch_pool" not in LAYOUT[name]:
        assert torch.equal(block(x)[:, start:], torch.nn.functional.max_pool2d(x, 3, 2))
    else:
        assert block(x).shape[1] == start


def test_each_form_prepares_in_its_own_way(opened):
    items = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 40, 30), dtype=np.uint8))
    if opened.net.form is FID:
        x = (tensorflow(items.float(), 299) - 128) / 128
    else:  # its own mean and deviation, and then what its network does with `transform_input`
        mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x = (bilinear(items.float(), 299) / 255 - mean) / std
        x = x * (std / 0.5) + (mean - 0.5) / 0.5
    with torch.inference_mode():
        values, probabilities = opened.both(items)
        right, logits = opened.net(x)
    assert (values - right).norm() < 1e-5 * right.norm()
    assert torch.allclose(probabilities, logits.double().softmax(1), atol=1e-5)
    assert opened.about["network"] == opened.net.form.name


def test_the_bias_counts_for_torchvision_alone(opened):
    x = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        features, logits = opened.net(x)
    bias = 0 if opened.net.form is FID else opened.net.fc.bias
    assert torch.allclose(logits, features @ opened.net.fc.weight.T + bias, atol=1e-3, rtol=1e-4)


def test_either_form_of_file(tmp_path):
    """What torchvision saves has an auxiliary classifier and counters; neither matters."""
    weights = drawn(TORCHVISION)
    paths = tmp_path / "some.safetensors", tmp_path / "some.pth"
    save_file(weights, paths[0])
    extra = {"AuxLogits.fc.weight": torch.zeros(1000, 768), "Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(3)}
    torch.save({**weights, **extra}, paths[1])
    try:
        digests = {Weights(str(path)).open(SOME).digest for path in paths}
    finally:
        for path in paths:
            path.unlink()
    assert len(digests) == 1
    assert digests != {OpenedInception(drawn(TORCHVISION, 1), "some").digest}


def test_a_misfit_is_a_sentence():
    weights = drawn(FID)
    with pytest.raises(
        ValueError, match="some holds an Inception v3 of 10 classes; right are weights of FID, with 1008"
    ):
        OpenedInception({**weights, "fc.weight": torch.zeros(10, 2048)}, "some")
    del weights["Mixed_5b.branch1x1.conv.weight"]
    with pytest.raises(ValueError, match=r"no whole Inception v3: Mixed_5b\.branch1x1\.conv\.weight is missing"):
        OpenedInception(weights, "some")
