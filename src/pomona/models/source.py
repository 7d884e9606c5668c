"""Where a model comes from, as data: enough to build its architecture again on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from pomona.vocabulary import InputError

Kind = Literal["transformers", "timm", "function", "program"]


@dataclass(frozen=True)
class Source:
    """JSON data that names a model.

    `value` is a folder or hub id, a timm name, `module:function` or the path of a `.pt2` file; `task` the class within
    the transformers package; `kwargs` what builds the architecture: the transformers config, or timm's arguments.

    >>> Source.from_json(Source("timm", "resnet18", kwargs={"num_classes": 10}).to_json()).value
    'resnet18'
    """

    kind: Kind
    value: str
    task: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `json.dumps` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        """The inverse of `to_json`; raises InputError on anything else."""
        known = {"kind", "value", "task", "kwargs"}
        if not {"kind", "value"} <= set(data) <= known or data["kind"] not in get_args(Kind):
            raise InputError(
                f"A model source has the fields kind ({', '.join(get_args(Kind))}), value, task and kwargs; got {dict(data)}."
            )
        return cls(data["kind"], data["value"], data.get("task"), dict(data.get("kwargs") or {}))
