import math

import pytest
import yaml as reader
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.report import yaml

scalars = (
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))
    | st.floats(allow_nan=False, allow_infinity=False)
)  # fmt: skip
plain = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=20
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), plain, min_size=1))
def test_what_is_written_is_read(data):
    assert reader.safe_load(yaml.dump(data)) == data


@pytest.mark.parametrize(
    "text", ["no", "1e3", "a: b", "- x", "# no", "{{x}}", "\u2028", "\x85", "\x7f", "\ufeff", "😀", "'\"\\"]
)
def test_strings_stay_strings(text):
    assert reader.safe_load(yaml.dump({"a": [text], text: {"no": text}})) == {"a": [text], text: {"no": text}}


def test_small_numbers_stay_numbers():
    assert reader.safe_load(yaml.dump({"a": 1e-7, "b": -2e300})) == {"a": 1e-7, "b": -2e300}


def test_half_a_character_becomes_a_question_mark():
    assert reader.safe_load(yaml.dump({"a": "x\udcffy"})) == {"a": "x?y"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        yaml.dump({"a": value})
