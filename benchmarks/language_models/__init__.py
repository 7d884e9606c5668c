"""Perplexity of pruned language models beside controls and the authors' code: `python -m benchmarks.language_models`."""
