"""Data as users bring it, and small sets that come with packages."""

from pomona.data.data import Data
from pomona.data.loaders import ArrayLoader, SentenceLoader, TokenLoader
from pomona.data.loading import from_object, load_data

__all__ = ["ArrayLoader", "Data", "SentenceLoader", "TokenLoader", "from_object", "load_data"]
