"""What depends on one set of features alone is computed once: the reference meets every set of samples."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from reverie.evaluation.extractors.base import Features

Value = TypeVar("Value")

_KEPT: WeakKeyDictionary[Features, dict[Hashable, Any]] = WeakKeyDictionary()


def once(of: Features, key: Hashable, make: Callable[[], Value]) -> Value:
    """What `make` gives, kept for as long as the features are; it must not change them.

    Args:
        of: the features that the value is a function of; they are told apart by identity.
        key: names the function and its settings.
        make: computes the value.
    """
    kept = _KEPT.setdefault(of, {})
    if key not in kept:
        kept[key] = make()
    value: Value = kept[key]
    return value
