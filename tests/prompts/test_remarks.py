"""What a user is told of prompts that are not read as they stand, or ask for what the model has not seen."""

import pytest
from told import tiles

from reverie.prompts import Known, Prompt, Vocabulary, remarks
from reverie.text import Transformer


@pytest.fixture
def vocabulary(tmp_path):
    made = tiles(40)
    text = Transformer(words=256, width=8, depth=1, heads=2, length=6).fit(made.texts, tmp_path)
    known = (Known("place", mean=(1.0, 5.0), std=(2.0, 0.5)), Known("shade", ("left", "none")))
    return Vocabulary(made.shape, (), known, text, None, tmp_path)


def test_a_prompt_that_is_cut_is_named_with_its_tokens_and_the_limit(vocabulary):
    assert remarks(vocabulary, [Prompt(text="abcdef"[:5]), Prompt()]) == ()  # a token each, and the blank in front
    (said,) = remarks(vocabulary, [Prompt(text="qzqzqzqz")] * 9)
    assert said == (
        "the end of the prompt is not read: 'qzqzqzqz' has 9 tokens, and the model was trained to read 6 (text.length)"
    )
    several = [Prompt(text="qz" * n) for n in (1, 4, 40, 3)]
    (said,) = remarks(vocabulary, several)
    assert said.startswith(f"the ends of 3 of 4 prompts are not read: '{'qz' * 18}q...' has 81 tokens, and")


def test_numbers_far_from_those_of_training_are_remarked(vocabulary):
    assert remarks(vocabulary, [Prompt(attributes={"place": (-6.9, 6.9), "shade": 0})]) == ()
    asked = [Prompt(attributes={"place": (1.0, v)}) for v in (7.5, 8.0, 2.9)]
    assert remarks(vocabulary, asked) == (
        "place 8 is far from the 5 ± 0.5 of training: the model has seen little or nothing like it",
    )


def test_nothing_is_said_of_what_is_not_there(vocabulary):
    assert remarks(Vocabulary((2,), ("a", "b")), [Prompt(label=1)]) == ()
    assert remarks(vocabulary, []) == ()
