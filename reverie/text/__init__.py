"""What reads a text for a network, a file a part: a pretrained transformer, or one trained from scratch."""

from reverie.text.base import OpenedText, TextEncoder, TextTable
from reverie.text.pretrained import Pretrained
from reverie.text.transformer import Transformer

__all__ = ["OpenedText", "Pretrained", "TextEncoder", "TextTable", "Transformer"]
