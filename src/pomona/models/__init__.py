"""Models as users bring them."""

from pomona.models.example import example_inputs
from pomona.models.hub import copy_tokenizer
from pomona.models.loading import Loaded, load_model, rebuild
from pomona.models.source import Source

__all__ = ["Loaded", "Source", "copy_tokenizer", "example_inputs", "load_model", "rebuild"]
