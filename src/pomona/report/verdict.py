"""What the report says first: one sentence, and the three claims that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pomona.report import units

Tone = Literal["good", "bad", "open"]


@dataclass(frozen=True)
class Claim:
    """One checked statement: true, false, or open because nobody measured it."""

    tone: Tone
    text: str


@dataclass(frozen=True)
class Verdict:
    """The sentence, the reason and the advice that belong to it, and the claims."""

    sentence: str
    reason: str | None
    advice: str | None
    claims: tuple[Claim, ...]


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict of a cleaned report. It names a result that is not faster or not proven before any good news."""
    latency, proof, quality = report.get("latency") or {}, report.get("proof") or {}, report.get("quality") or {}
    price, speed, cost, equal = smaller(report), _speed(latency), _cost(quality), _equality(proof)
    slow = latency.get("faster") is False
    if proof.get("passed") is False:
        sentence = f"Do not use this model: {equal}."
    elif slow:
        sentence = f"{not_faster(latency)}: {_listed(price, speed, cost)}; {equal}."
    else:
        sentence = f"{_capital(_listed(price, speed, cost))}: {equal}."
    claims = (_proven(proof), _faster(latency), _quality(quality))
    return Verdict(sentence, latency.get("reason") if slow else None, latency.get("advice") if slow else None, claims)


def not_faster(latency: Mapping[str, Any]) -> str:
    """What to call a result that is not reported as faster: slow, or lost in the scatter of the timings.

    >>> not_faster({"ratio": 0.8, "spread": [0.6, 1.2]}), not_faster({"ratio": 1.0, "spread": [0.9, 1.1]})
    ('Not shown to be faster', 'Not faster')
    """
    low, high = latency.get("spread") or (1.0, 1.0)
    lost = (latency.get("ratio") or 1.0) <= 0.97 and low < 1 <= high
    return "Not shown to be faster" if lost else "Not faster"


def smaller(report: Mapping[str, Any]) -> str:
    """The largest saving in words: fewer MACs, else fewer parameters, else weights that are zero."""
    for key, words in (("macs", "fewer MACs"), ("params", "fewer parameters")):
        factor = reduction(report.get(key))
        if factor is not None and factor > 1.005:
            return f"{units.times(factor)} {words}"
    zeros = zeroed(report)
    return f"{units.share(zeros)} of the parameters are zero" if zeros else "nothing removed"


def reduction(pair: Mapping[str, Any] | None) -> float | None:
    """How many times smaller `after` is than `before`; None where either is unknown or nothing is left."""
    before, after = (pair or {}).get("before"), (pair or {}).get("after")
    return before / after if before and after else None


def zeroed(report: Mapping[str, Any]) -> float | None:
    """The share of the stored parameters that are zero."""
    stored, living = (report.get("params") or {}).get("after"), (report.get("nonzeros") or {}).get("after")
    return max(0.0, 1 - living / stored) if stored and living is not None else None


def last(quality: Mapping[str, Any]) -> float | None:
    """The quality of what is handed back: recovered if there was a recovery, else pruned."""
    recovered: float | None = quality.get("recovered")
    after: float | None = quality.get("after")
    return after if recovered is None else recovered


def speedup(latency: Mapping[str, Any]) -> float | None:
    """How many times faster; None where the ratio is unknown."""
    ratio = latency.get("ratio")
    return 1 / ratio if ratio else None


def as_fraction(quality: Mapping[str, Any]) -> bool:
    """Whether this report's metric is read in per cent."""
    values = (quality.get("before"), quality.get("after"), quality.get("recovered"))
    return units.is_fraction(str(quality.get("metric") or ""), values)


def _speed(latency: Mapping[str, Any]) -> str | None:
    factor = speedup(latency)
    if factor is None:
        return None
    if latency.get("faster") is False:
        return f"{units.times(factor)} the speed"
    return f"{units.times(factor)} faster"


def _cost(quality: Mapping[str, Any]) -> str | None:
    before, after = quality.get("before"), last(quality)
    if before is None or after is None:
        return None
    fraction = as_fraction(quality)
    left, right = units.quality(before, fraction), units.quality(after, fraction)
    # No-break spaces: "91.2 → 90.8 %" is read in one look.
    return f"{quality.get('metric') or 'quality'} {left.removesuffix(units.GAP + '%')}{units.GAP}→{units.GAP}{right}"


def _equality(proof: Mapping[str, Any]) -> str:
    if proof.get("passed") is None:
        return "not proven"
    return "proven equal to the masked model" if proof["passed"] else "it does not equal the masked model"


def _proven(proof: Mapping[str, Any]) -> Claim:
    if proof.get("passed") is None:
        return Claim("open", "Not proven")
    error = units.scientific(proof.get("max_error"))
    return Claim("good", f"Proven, error {error}") if proof["passed"] else Claim("bad", f"Proof failed, error {error}")


def _faster(latency: Mapping[str, Any]) -> Claim:
    factor = speedup(latency)
    if factor is None:
        return Claim("open", "Latency not measured")
    if latency.get("faster"):
        return Claim("good", f"{units.times(factor)} faster on this machine")
    return Claim("bad", f"{not_faster(latency)}: {units.times(factor)} the speed")


def _quality(quality: Mapping[str, Any]) -> Claim:
    before, after = quality.get("before"), last(quality)
    if before is None or after is None:
        return Claim("open", "Quality not measured")
    gain = (after - before) * (1 if quality.get("higher_is_better", True) else -1)
    text = units.change(after - before, as_fraction(quality))
    return Claim("good" if gain >= -0.02 * abs(before) else "bad", f"{_capital(str(quality.get('metric') or 'quality'))} {text}")


def _listed(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
