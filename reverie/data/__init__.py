"""Data: what to learn from. `resolve` finds it, `Data.load` decodes it, `split` keeps some for validation."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path

from reverie.config import lookup, registered
from reverie.data.arrays import Arrays
from reverie.data.base import Attribute, Data, Examples, Skipped, Split, groups, split
from reverie.data.digits import Digits
from reverie.data.emoji import Emoji
from reverie.data.idx import Fashion, Idx
from reverie.data.images import Folder
from reverie.data.look import Look, contact_sheet, look
from reverie.data.smaller import Smaller

__all__ = [
    "Arrays",
    "Attribute",
    "Data",
    "Digits",
    "Emoji",
    "Examples",
    "Fashion",
    "Folder",
    "Idx",
    "Look",
    "Skipped",
    "Smaller",
    "Split",
    "contact_sheet",
    "groups",
    "look",
    "resolve",
    "split",
]


def built_in() -> list[str]:
    """The kinds of data that need no settings, in alphabetical order."""
    return [
        name
        for name, cls in registered(Data).items()
        if all(
            f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]  # every part is a dataclass
        )
    ]


def resolve(text: str) -> Data:
    """The data that a word or a path on the command line stands for.

    >>> resolve("digits")
    Digits()

    Args:
        text: a built-in name, or the path of a folder of images, of a folder of idx files, or of an
            .npz or .npy file.

    Raises:
        ValueError: it is none of these; the message says what is possible.
    """
    names = built_in()
    if text.strip().lower() in names:
        return lookup(Data, text.strip())()  # type: ignore[return-value]
    path = Path(text).expanduser()
    possible = (
        f"data is one of {', '.join(names)}, a folder of images, a folder of idx files as MNIST has them, "
        "or an .npz or .npy file"
    )
    if not text.strip() or not path.exists():
        raise ValueError(f"there is no data {text!r}; {possible}{_hint(text, path, names)}")
    kinds = [cls for cls in registered(Data).values() if issubclass(cls, Data)]
    for general in (False, True):
        claims = [found for cls in kinds if cls.general is general and (found := cls.opens(path))]
        if len(claims) > 1:
            listed = " or ".join(f"data.kind={claim.kind}" for claim in claims)
            raise ValueError(f"{text} may be read in several ways; write {listed} with data.path={text}")
        if claims:
            return claims[0]
    what = "a folder without images or idx files" if path.is_dir() else "a file of another kind"
    raise ValueError(f"{text} is {what}; {possible}")


def _hint(text: str, path: Path, names: list[str]) -> str:
    near = difflib.get_close_matches(text.strip().lower(), names, n=1)
    if not near and path.name and path.parent.is_dir():
        beside = {str(path.with_name(p.name)) for p in path.parent.iterdir()}
        near = difflib.get_close_matches(str(path), sorted(beside), n=1, cutoff=0.8)
    return f" (did you mean {near[0]!r}?)" if near else ""
