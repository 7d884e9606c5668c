"""Statistics gathered from data, one pass a probe."""

from pomona.collect.collector import collect, observe

__all__ = ["collect", "observe"]
