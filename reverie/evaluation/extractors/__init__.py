"""Extractors: what turns examples into features, a file each."""

from reverie.evaluation.extractors.base import Extractor, Features, Opened

__all__ = ["Extractor", "Features", "Opened"]
