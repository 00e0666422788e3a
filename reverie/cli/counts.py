"""Several numbers in one option, as 1,2,4."""

from __future__ import annotations


def counts_in(
    text: str, option: str, like: str, what: str = "whole numbers", least: int | None = None
) -> tuple[int, ...]:
    """Those in a text, rising, each once.

    Args:
        text: what was given.
        option: to which.
        like: an example.
        what: in words, what they are.
        least: that the smallest may be; any unless given.

    Raises:
        ValueError: something else stands there.
    """
    try:
        found = sorted({int(word) for word in text.split(",")})
        if least is None or found[0] >= least:
            return tuple(found)
    except ValueError:
        pass
    raise ValueError(f"{option} takes {what} with commas, such as {like}; given {text!r}")
