"""Structures in plain words, both ways."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pomona.registry import build, parts
from pomona.vocabulary import InputError, Structure


def structure(text: str | Structure) -> Structure:
    """A structure from words (`2:4`, `4x1`, `weights`, `heads+neurons`, ...) or from its call (`NM(2, 4)`).

    Each structure reads its own spelling. Raises InputError with the nearest right one.

    >>> structure("2:4")
    NM(n=2, m=4, only=(), keep=())
    >>> structure("heads+neurons").families
    ('head', 'neuron')
    """
    if not isinstance(text, str):
        return text
    words = " ".join(text.lower().split())
    kinds: list[Any] = list(parts("structures").values())
    if "(" in text:
        made = build(text)
        if not isinstance(made, Structure):
            raise InputError(f"'{text}' is not a structure; use {_list(kinds)}.")
        return made
    for kind in sorted(kinds, key=lambda kind: not kind.spellings):  # what joins others reads last
        found: Structure | None = kind.read(words)
        if found is not None:
            return found
    close = get_close_matches(words, [s for kind in kinds for s in kind.spellings], 1)
    hint = f"did you mean '{close[0]}'?" if close else f"use {_list(kinds)}."
    raise InputError(f"There is no structure '{text}'; {hint}")


def named(structure: Structure) -> str:
    """The plain words for reports: "2:4", "channels", "blocks of 4x1".

    >>> named(structure("kv-groups"))
    'kv-groups'
    """
    return str(structure)


def _list(kinds: list[Any]) -> str:
    return ", ".join(s for kind in kinds for s in kind.spellings)
