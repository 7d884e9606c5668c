"""The latency of a model at any widths of its axes, told from measured times of its ops without touching it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod

from pomona.graph import Graph
from pomona.graph.expr import Atom, atoms
from pomona.runtime.calls import Call, calls_of
from pomona.runtime.steps import Stairs, step
from pomona.runtime.times import Times
from pomona.vocabulary import InputError

_PYTHON = 20e-6  # seconds that modules and the interpreter take between two ops, at most


@dataclass(frozen=True, eq=False)
class Forecast:
    """Milliseconds of one forward pass as the sum over the graph's ops.

    The sum leaves out what lies between the ops, `between` seconds each whatever their widths, and what they do to each
    other's caches, a factor `scale`; `calibrated` sets both. Times are measured when they are asked for, so the first
    candidates take seconds, later ones milliseconds.
    """

    graph: Graph
    times: Times
    scale: float = 1.0
    between: float = 0.0
    _told: dict[tuple[Call, tuple[int, ...]], float] = field(default_factory=dict, repr=False)

    @cached_property
    def calls(self) -> list[Call]:
        """Every op that is timed."""
        return calls_of(self.graph)

    def calibrated(self, milliseconds: float) -> Forecast:
        """Such that the dense model takes what it was measured to take as a whole.

        What is missing is laid to Python between the ops, as far as that is credible, and to the ops themselves beyond that.
        """
        ops, whole = self.at({}) / 1e3, milliseconds / 1e3
        between = min(_PYTHON, max(0.0, (whole - ops) / len(self.calls)))
        return replace(self, scale=(whole - between * len(self.calls)) / ops, between=between)

    @cached_property
    def _touching(self) -> dict[Atom, list[Call]]:
        found: dict[Atom, list[Call]] = {}
        for call in self.calls:
            for atom in atoms(*call.variables):
                found.setdefault(atom, []).append(call)
        return found

    def at(self, sizes: Mapping[str, int], without: Iterable[str] = ()) -> float:
        """Axis name -> units that stay, modules that are left out -> milliseconds.

        Raises InputError for an axis that is not there or is frozen.
        """
        gone = frozenset(without)
        return self._sum((call for call in self.calls if not call.frames & gone), self._atoms(sizes))

    def of_blocks(self, sizes: Mapping[str, int], blocks: Iterable[str]) -> list[float]:
        """Milliseconds within each of these modules."""
        now = self._atoms(sizes)
        return [self._sum((call for call in self.calls if block in call.frames), now) for block in blocks]

    def along(self, sizes: Mapping[str, int], axis: str, counts: Iterable[int]) -> list[float]:
        """`at` for several counts of one axis, the others staying: only the ops that it reaches are told anew."""
        atom, now = self.graph.atoms[axis], self._atoms(sizes)
        reached = self._touching.get(atom, [])
        rest = self._sum(self.calls, now) - self._sum(reached, now)
        return [rest + self._sum(reached, {**now, atom: count}) for count in counts]

    def _atoms(self, sizes: Mapping[str, int]) -> dict[Atom, int]:
        if fixed := next((name for name in sizes if name not in self.graph.atoms), None):
            raise InputError(f"The size of '{fixed}' cannot change: {self.graph.why(fixed)}.")
        return {self.graph.atoms[name]: count for name, count in sizes.items()}

    def _sum(self, calls: Iterable[Call], sizes: Mapping[Atom, int]) -> float:
        with self.times.measuring():
            return 1e3 * sum(self.scale * self._seconds(call, call.widths(sizes)) + self.between for call in calls)

    def _seconds(self, call: Call, widths: tuple[int, ...]) -> float:
        key = (call, widths)
        if key not in self._told:
            self._told[key] = self._by_bytes(call, widths) if call.linear else self._between(call, widths)
        return self._told[key]

    def _between(self, call: Call, widths: tuple[int, ...]) -> float:
        """Interpolated on the grid of measured widths."""
        near = [Stairs(full, step()).around(width) for full, width in zip(call.full, widths, strict=True)]
        return sum(
            prod(weight for _, weight in corner) * self.times.seconds(call.at(tuple(width for width, _ in corner)))
            for corner in product(*near)
        )

    def _by_bytes(self, call: Call, widths: tuple[int, ...]) -> float:
        """A straight line over the bytes that go in, through the whole op and one at the least widths."""
        ends = [call.at(tuple(1 for _ in widths)), call.at(call.full)]
        (low, high), (least, most) = map(self.times.seconds, ends), (made.bytes for made in ends)
        share = (call.at(widths).bytes - least) / max(1, most - least)
        return low + share * (high - low)
