"""GGUF files of Llama-like models."""

from pomona.runtime.gguf.writing import TYPES, export_gguf

__all__ = ["TYPES", "export_gguf"]
