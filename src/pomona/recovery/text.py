"""Recoveries as users write them: `finetune:3epochs`, `distil:2epochs,lr=1e-4`, `finetune:1epochs+recalibrate`, `none`.

Trainings last for epochs or for steps: `perp:200steps,which=biases+norms`.
"""

from __future__ import annotations

import re
from ast import literal_eval
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from pomona.recovery.chain import Chain
from pomona.recovery.distil import Distil
from pomona.recovery.fine_tune import FineTune
from pomona.recovery.lora import Lora
from pomona.recovery.mask_lora import MaskLora
from pomona.recovery.perp import Perp
from pomona.recovery.recalibrate import Recalibrate
from pomona.recovery.reconstruct import Reconstruct
from pomona.recovery.refit import Refit
from pomona.recovery.retrain import Retrain
from pomona.recovery.scale_lora import ScaleLora
from pomona.recovery.tune_masks import TuneMasks
from pomona.training.subset import WORDS
from pomona.vocabulary import InputError, Recovery

_NAMES: dict[str, type] = {
    "finetune": FineTune,
    "distil": Distil,
    "recalibrate": Recalibrate,
    "retrain": Retrain,
    "perp": Perp,
    "masklora": MaskLora,
    "scalelora": ScaleLora,
    "lora": Lora,
    "tunemasks": TuneMasks,
    "reconstruct": Reconstruct,
    "refit": Refit,
}
_UNITS = ("epochs", "steps")
# A + joins recoveries, and the words of `which`, which are no recoveries.
_JOINT = re.compile(rf"\+(?!\s*(?:{'|'.join(WORDS)})\b)")
FORMS = (
    "finetune:3epochs, finetune:3epochs,lr=1e-4, distil:200steps, retrain:3epochs,start=step 100, perp:200steps, "
    "masklora:200steps,rank=8, scalelora:1epoch, lora:200steps, reconstruct:200steps, refit, tunemasks, recalibrate or none"
)


def parse(text: str) -> Recovery | None:
    """Read a recovery; `none` is None, `a+b` a chain. Raises InputError with the nearest spelling.

    >>> parse("finetune:2epochs,lr=1e-4") == FineTune(epochs=2, lr=1e-4)
    True
    >>> parse("none")
    """
    if text.strip() == "none":
        return None
    parts = tuple(_one(word.strip()) for word in _JOINT.split(text))
    return parts[0] if len(parts) == 1 else Chain(parts)


def _one(text: str) -> Recovery:
    name, _, rest = text.partition(":")
    if name not in _NAMES:
        raise InputError(f"'{name}' is not a recovery{_nearest(name, (*_NAMES, 'none'))}; write {FORMS}.")
    kind = _NAMES[name]
    settings: dict[str, Any] = {}
    for word in filter(None, (w.strip() for w in rest.split(","))):
        key, equals, value = word.partition("=")
        unit = next((unit for unit in _UNITS if f"{word.rstrip('s')}s".endswith(unit)), None)
        if not equals and unit:
            key, value = unit, f"{word.rstrip('s')}s".removesuffix(unit)
        settings[key.strip()] = _value(kind, key.strip(), value.strip(), text)
    for unit in _UNITS:
        if settings.get(unit, 1) < 1:
            raise InputError(f"'{text}' trains for {settings[unit]} {unit}; write none for no recovery.")
    made: Recovery = kind(**settings)
    return made


def _value(kind: type, key: str, value: str, text: str) -> Any:
    """A setting as the type of its default."""
    known = {f.name: f.default for f in fields(kind)}
    if key not in known:
        offered = f"; it takes {', '.join(known)}" if known else "; it takes none"
        raise InputError(f"'{key}' in '{text}' is not a setting{_nearest(key, known)}{offered}.")
    default = known[key]
    if isinstance(default, str):
        return value
    try:
        read = literal_eval(value)
        return (read if isinstance(read, tuple) else (read,)) if isinstance(default, tuple) else _like(read, default)
    except (ValueError, SyntaxError):
        wanted = "a whole number" if isinstance(default, int) and not isinstance(default, bool) else "a value"
        raise InputError(f"'{value}' in '{text}' is not {wanted} for {key}; write {FORMS}.") from None


def _like(value: Any, default: Any) -> Any:
    """Whole numbers stay whole, others become floats; settings that are off by default take what is written."""
    if default is None:
        return value
    if not isinstance(value, (int, float)) or (isinstance(default, int) and not isinstance(value, int)):
        raise ValueError(value)
    return type(default)(value)


def _nearest(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""
