"""Figures as people read them: three significant digits, a unit, and a no-break space between the two.

Every function takes None for "not measured" and answers with a dash.
"""

from __future__ import annotations

from collections.abc import Sequence

GAP = "\u00a0"
MINUS = "\u2212"
MISSING = "\u2013"
FRACTIONS = (
    "accuracy",
    "acc",
    "top1",
    "top5",
    "top-1",
    "top-5",
    "f1",
    "precision",
    "recall",
    "agreement",
    "choice",
    "cloze",
    "auc",
    "map",
)


def significant(value: float, digits: int = 3) -> str:
    """A plain decimal with that many significant digits, never an exponent.

    >>> significant(25.557), significant(1234.0), significant(0.04567)
    ('25.6', '1234', '0.0457')
    """
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - _power(value, digits))
    return f"{value:.{decimals}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A number of things with k, M, G or T.

    >>> count(512), count(25_557_032).replace(GAP, " "), count(999_999).replace(GAP, " ")
    ('512', '25.6 M', '1.00 M')
    """
    if value is None:
        return MISSING
    if abs(value) < 1000:
        return str(round(value))
    return _scaled(float(value), 1000.0, ("", "k", "M", "G", "T", "P"))


def whole(value: float | None) -> str:
    """A number of things to the last one, thousands apart.

    >>> whole(1379).replace(GAP, " ")
    '1 379'
    """
    return MISSING if value is None else f"{int(value):,}".replace(",", GAP)


def size(value: float | None) -> str:
    """Bytes in binary units.

    >>> size(512).replace(GAP, " "), size(13_631_488).replace(GAP, " ")
    ('512 B', '13.0 MiB')
    """
    if value is None:
        return MISSING
    return f"{int(value)}{GAP}B" if abs(value) < 1024 else _scaled(float(value), 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"))


def duration(milliseconds: float | None) -> str:
    """Milliseconds, written in the unit that suits.

    >>> [duration(t).replace(GAP, " ") for t in (0.0421, 3.14159, 1530.0, 600_000.0)]
    ['42.1 µs', '3.14 ms', '1.53 s', '10.0 min']
    """
    if milliseconds is None:
        return MISSING
    for limit, factor, unit in ((1.0, 1e-3, "µs"), (1e3, 1.0, "ms"), (12e4, 1e3, "s")):
        if abs(milliseconds) < limit:
            return f"{significant(milliseconds / factor)}{GAP}{unit}"
    return f"{significant(milliseconds / 6e4)}{GAP}min"


def share(fraction: float | None) -> str:
    """A fraction in per cent: one decimal, more only where it would read 0 or 100 and is neither.

    >>> share(0.908).replace(GAP, " "), share(0.35).replace(GAP, " "), share(0.00012).replace(GAP, " ")
    ('90.8 %', '35 %', '0.012 %')
    """
    if fraction is None:
        return MISSING
    hundred = 100 * fraction
    if hundred != 0 and abs(hundred) < 0.05:
        return f"{significant(hundred, 2)}{GAP}%"
    nearly = 0 < abs(100 - hundred) < 0.05
    text = f"{hundred:.{min(9, -_power(100 - hundred, 1))}f}" if nearly else f"{hundred:.1f}".removesuffix(".0")
    return f"{text.replace('-', MINUS)}{GAP}%"


def times(factor: float | None) -> str:
    """How many times: 2.9×, 12×, 1.05×.

    >>> times(2.857), times(12.3), times(1.8), times(1.048)
    ('2.9×', '12×', '1.8×', '1.05×')
    """
    if factor is None:
        return MISSING
    decimals = 0 if factor >= 9.95 else 1 if factor >= 1.95 else 2
    text = f"{factor:.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if decimals == 2 else text}×"


def scientific(value: float | None) -> str:
    """An error: two digits and a power of ten.

    >>> scientific(3.14e-15).replace(GAP, " "), scientific(0.0)
    ('3.1 × 10⁻¹⁵', '0')
    """
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa.replace('-', MINUS)}{GAP}×{GAP}10{raised}"


def amount(value: float) -> str:
    """A number of unknown size: plain where that is short, else a power of ten.

    >>> amount(0.83), amount(4e-7).replace(GAP, " ")
    ('0.83', '4.0 × 10⁻⁷')
    """
    return significant(value, 2) if value == 0 or 0.01 <= abs(value) < 1000 else scientific(value)


def short(text: str) -> str:
    """The same figure without zeros that say nothing, for ticks.

    >>> short("20.0" + GAP + "ms").replace(GAP, " "), short("0.500"), short("20")
    ('20 ms', '0.5', '20')
    """
    figure, gap, unit = text.partition(GAP)
    return (figure.rstrip("0").rstrip(".") if "." in figure else figure) + gap + unit


def is_fraction(metric: str, values: Sequence[float | None]) -> bool:
    """Whether the metric lives in [0, 1] and is read in per cent. Accuracies given out of 100 stay as they are."""
    known = any(word in FRACTIONS for word in metric.lower().replace("_", " ").replace("@", " ").split())
    return known and all(0.0 <= value <= 1.0 for value in values if value is not None)


def quality(value: float | None, fraction: bool) -> str:
    """A quality in its own unit.

    >>> quality(0.9124, True).replace(GAP, " "), quality(23.456, False)
    ('91.2 %', '23.5')
    """
    if value is None:
        return MISSING
    return f"{100 * value:.1f}{GAP}%" if fraction else significant(value)


def change(difference: float | None, fraction: bool) -> str:
    """A signed difference of qualities: percentage points for fractions.

    >>> change(-0.004, True).replace(GAP, " "), change(0.51, False), change(0.0, True).replace(GAP, " ")
    ('−0.4 points', '+0.51', '±0 points')
    """
    if difference is None:
        return MISSING
    text = f"{100 * difference:+.1f}" if fraction else f"{'+' if difference > 0 else ''}{significant(difference, 2)}"
    text = "±0" if not text.strip("+-0.") else text.replace("-", MINUS)
    return f"{text}{GAP}points" if fraction else text


def _scaled(value: float, base: float, units: Sequence[str]) -> str:
    step = 0
    while abs(value) >= base and step < len(units) - 1:
        value, step = value / base, step + 1
    text = significant(value)
    if float(text.replace(MINUS, "-")) >= base and step < len(units) - 1:  # 999 999 rounds to 1000 k: say 1.00 M
        text, step = significant(round(value) / base), step + 1
    return f"{text}{GAP}{units[step]}".rstrip(GAP)


def _power(value: float, digits: int) -> int:
    """The power of ten after rounding to that many digits: 999.9 is 1.00e3."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])
