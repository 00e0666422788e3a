"""What an emoji is called, which emoji it is a variant of, and where Unicode files it.

A key stands for an emoji: its code points without the variation selector U+FE0F, which some file names have and
others leave out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from importlib import resources

Key = tuple[int, ...]

SELECTOR, JOINER = 0xFE0F, 0x200D
TONES = range(0x1F3FB, 0x1F400)
ADULT, CHILD, FAMILY = 0x1F9D1, 0x1F9D2, 0x1F46A
SIGNS = frozenset({0x2640, 0x2642, 0x27A1, *range(0x1F9B0, 0x1F9B4)})
"""Joined to an emoji they make a variant of it: female, male, facing right, and four kinds of hair."""
PERSONS = {0x1F468: ADULT, 0x1F469: ADULT, 0x1F466: CHILD, 0x1F467: CHILD}
"""Man, woman, boy and girl, as the adult or child that they are variants of."""
COUNTERPARTS: dict[Key, Key] = {
    (0x1F474,): (0x1F9D3,), (0x1F475,): (0x1F9D3,),  # old man, old woman: older person
    (0x1F934,): (0x1FAC5,), (0x1F478,): (0x1FAC5,),  # prince, princess: person with crown
    (0x1F385,): (ADULT, 0x1F384), (0x1F936,): (ADULT, 0x1F384),  # Santa and Mrs. Claus: Mx Claus
    (0x1F930,): (0x1FAC4,), (0x1FAC3,): (0x1FAC4,),  # pregnant woman, man: person
    (0x1F57A,): (0x1F483,),  # man dancing: woman dancing
    (0x1F931,): (ADULT, 0x1F37C),  # breast-feeding: person feeding baby
    (0x1F46C,): (0x1F46B,), (0x1F46D,): (0x1F46B,), (ADULT, 0x1F91D, ADULT): (0x1F46B,),  # holding hands
    (ADULT, 0x2764, ADULT): (0x1F491,), (ADULT, 0x2764, 0x1F48B, ADULT): (0x1F48F,),  # couple with heart, kiss
    (ADULT, 0x1F430, ADULT): (0x1F46F,), (ADULT, 0x1FAEF, ADULT): (0x1F93C,),  # bunny ears, wrestlers
    (0x1FAF1, 0x1FAF2): (0x1F91D,),  # a hand of one tone and a hand of another: handshake
}  # fmt: skip
"""Emoji that are one picture of a man, a woman or a person, though their code points do not say so."""

_TONE = r"(?:light|medium-light|medium|medium-dark|dark) skin tone"
_LOOK = rf"(?:{_TONE}|red hair|blond hair|curly hair|white hair|bald|beard)"
_KIN = rf"(?:{_LOOK}|man|woman|person|adult|boy|girl|child)"
_DETAILS = (
    re.compile(rf"(family|kiss|couple with heart) ({_KIN}(?: {_KIN})*)"),
    re.compile(rf"(.+?) ({_LOOK}(?: {_LOOK})*)"),
)


def key_of(points: Iterable[int]) -> Key:
    """The key of an emoji.

    >>> [hex(point) for point in key_of((0x2764, 0xFE0F))]
    ['0x2764']
    """
    return tuple(point for point in points if point != SELECTOR)


def base(key: Key) -> Key:
    """The emoji of which this one is a variant, joiners left out.

    Skin tone, gender, hair and the side it faces make no difference, and all families are one emoji. A skin
    tone by itself is a variant of the lightest one.

    >>> [hex(point) for point in base((0x1F468, 0x1F3FD, JOINER, 0x1F33E))]  # a man of medium tone who farms
    ['0x1f9d1', '0x1f33e']
    """
    plain = [PERSONS.get(point, point) for point in key if point not in TONES and point != JOINER]
    points = tuple(point for place, point in enumerate(plain) if place == 0 or point not in SIGNS)
    if len(points) > 1 and set(points) <= {ADULT, CHILD}:
        return (FAMILY,)
    return COUNTERPARTS.get(points, points) or (TONES[0],)


@functools.cache
def names() -> dict[Key, str]:
    """The short name of every emoji as Unicode's CLDR has it, such as `waving hand: light skin tone`.

    Raises:
        ImportError: the package `emoji` is not installed.
    """
    try:
        from emoji import EMOJI_DATA
    except ImportError as error:
        raise ImportError("the names of emoji are in the package emoji: pip install 'reverie[emoji]'") from error
    return {key: _named(key, data["en"]) for text, data in EMOJI_DATA.items() for key in [key_of(map(ord, text))]}


def _named(key: Key, alias: str) -> str:
    """`:man_dark_skin_tone_bald:` as CLDR writes it, `man: dark skin tone, bald`."""
    name = alias.strip(":").replace("_", " ")
    if 0x1F1E6 <= key[0] <= 0x1F1FF or key[-1] == 0xE007F:  # two regional letters, or tags and their end
        return f"flag: {name}"
    if key[-1] == 0x20E3:
        return name.replace("keycap ", "keycap: ", 1)
    for pattern, detail in zip(_DETAILS, (_KIN, _LOOK), strict=True):
        if found := pattern.fullmatch(name):
            return f"{found[1]}: {', '.join(re.findall(detail, found[2]))}"
    return name


@functools.cache
def groups() -> dict[Key, tuple[str, str]]:
    """Category and subcategory of every base emoji, in the order of Unicode's emoji-test.txt (version 16)."""
    found: dict[Key, tuple[str, str]] = {}
    category = ""
    for line in resources.files("reverie.data").joinpath("emoji_groups.txt").read_text("utf-8").splitlines():
        subcategory, colon, members = line.strip().partition(": ")
        if not colon:
            category = subcategory
        for text in members.split():
            found[tuple(map(ord, text))] = category, subcategory
    return found
