"""What the calibration data never reached: inputs that were always zero, experts that no token was sent to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from torch import Tensor

from pomona.vocabulary import Site, View

_LISTED = 3  # places a note names


@runtime_checkable
class Covering(Protocol):
    """A statistic that can tell what the data never reached; `covered` says what that is, in the plural."""

    @property
    def covered(self) -> str:
        """Such as: inputs."""
        ...

    def unreached(self, value: Tensor, site: Site) -> Tensor:
        """One entry an input or expert: bool (n,)."""
        ...


_SAID = {
    "inputs": "Zero in all of the calibration data, so weights on them were judged by nothing: ",
    "experts": "No token of the calibration data was sent to some experts, so they were judged by nothing: ",
}


def unreached(views: Iterable[View]) -> tuple[str, ...]:
    """One sentence for inputs and one for experts, naming the worst places with shares; none where all were reached.

    Only of units that are all alive: what was cut before is zero for its readers.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for view in views:
        if not bool(view.alive.all()):
            return ()
        for need, value in view.stats.items():
            if isinstance(need, Covering):
                idle = need.unreached(value, view.site)
                if bool(idle.any()):
                    found.setdefault(need.covered, {})[_place(view.site)] = (int(idle.sum()), idle.numel())
    return tuple(_SAID[kind] + _listed(kind, places) for kind, places in found.items())


def _listed(kind: str, places: dict[str, tuple[int, int]]) -> str:
    worst = sorted(places.items(), key=lambda entry: -entry[1][0] / entry[1][1])
    named = ", ".join(f"{idle} of {all_} {kind} of {place}" for place, (idle, all_) in worst[:_LISTED])
    return named + (f" and some of {len(worst) - _LISTED} more modules." if len(worst) > _LISTED else ".")


def _place(site: Site) -> str:
    """The module of the weight, or what holds the experts."""
    stacked = [
        member.tensor for member in site.members if not member.buffer and (site.kind == "element" or len(member.shape) > 2)
    ]
    return stacked[0].rpartition(".")[0] if stacked else site.name
