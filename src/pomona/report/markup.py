"""The one way in which the report makes HTML and SVG: elements whose text and attributes are escaped by construction."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

VOID = frozenset({"meta", "br", "hr", "input", "link"})


class Markup(str):
    """Text that is already HTML. A plain `str` is not, and is escaped wherever it is put into an element."""

    __slots__ = ()


Child = str | None
Attributes = Mapping[str, object]


def join(*children: Child) -> Markup:
    """The children in a row, each escaped unless it is Markup; None vanishes.

    >>> join("a < b", Markup("<br>"), None)
    'a &lt; b<br>'
    """
    return Markup("".join(_inside(child) for child in children if child is not None))


def el(tag: str, attributes: Attributes | None = None, *children: Child) -> Markup:
    """One element. Attributes that are None are left out; floats are written with at most three decimals.

    >>> el("b", {"title": '"quoted"', "id": None}, "<script>")
    '<b title="&quot;quoted&quot;">&lt;script&gt;</b>'
    """
    written = "".join(f' {name}="{_attribute(value)}"' for name, value in (attributes or {}).items() if value is not None)
    return Markup(f"<{tag}{written}>" if tag in VOID else f"<{tag}{written}>{join(*children)}</{tag}>")


def number(value: float) -> str:
    """A coordinate: short, without an exponent.

    >>> number(12.3456), number(3.0)
    ('12.346', '3')
    """
    return f"{value:.3f}".rstrip("0").rstrip(".")


def percent(value: float) -> str:
    """A coordinate in per cent of the drawing's width, so that a picture stretches and its letters do not."""
    return f"{number(value)}%"


def _inside(child: str) -> str:
    return child if isinstance(child, Markup) else escape(child, quote=False)


def _attribute(value: object) -> str:
    return escape(number(value) if isinstance(value, float) else str(value), quote=True)
