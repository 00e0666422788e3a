"""What a model can be asked for, what one sample is asked to be, and both as the `Cond` that its network reads."""

from reverie.prompts.asked import Asked, cond_of
from reverie.prompts.examples import OfExamples, Place
from reverie.prompts.known import Known
from reverie.prompts.prompt import Prompt, columns, in_turn, names, of_examples, typical
from reverie.prompts.remarks import remarks
from reverie.prompts.vocabulary import Vocabulary

__all__ = [
    "Asked",
    "Known",
    "OfExamples",
    "Place",
    "Prompt",
    "Vocabulary",
    "columns",
    "cond_of",
    "in_turn",
    "names",
    "of_examples",
    "remarks",
    "typical",
]
