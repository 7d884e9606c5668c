"""Pomona prunes PyTorch models: a model and a goal go in, a proven smaller and faster model comes out."""

__version__ = "0.1.0"
