"""Tiny text networks of random weights, with a tokenizer of a few words."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))


def tokenizer():
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["<pad>", "<unk>", "<start>", "<end>", "cat", "dog", "a", "red", "blue", "on"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names)


def _models():
    import transformers as t

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 10, "max_position_embeddings": 8}
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    clip = t.CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 16, "patch_size": 8}, projection_dim=12)
    t5 = t.T5Config(vocab_size=10, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    bert = t.BertConfig(**sizes, vocab_size=10, max_position_embeddings=32)
    return {"t5": t.T5ForConditionalGeneration(t5), "clip": t.CLIPModel(clip), "bert": t.BertForMaskedLM(bert)}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """By the kind of network: a folder as transformers saves it, and the whole network."""
    pytest.importorskip("transformers")
    from reverie.text.hub import silent

    made = {}
    with torch.random.fork_rng(), silent():
        torch.random.manual_seed(0)
        for kind, net in _models().items():
            for weight in net.parameters():
                torch.nn.init.normal_(weight, std=0.3)
            folder: Path = tmp_path_factory.mktemp("models") / kind
            net.eval().save_pretrained(folder)
            tokenizer().save_pretrained(folder)
            made[kind] = SimpleNamespace(folder=folder, net=net, tokenizer=tokenizer())
    return made
