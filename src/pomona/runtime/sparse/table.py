"""What was measured of packed layers on this machine, kept in the user's cache folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pomona.native import library
from pomona.runtime.kept import Kept
from pomona.vocabulary import sha256

DENSE = "dense torch"


class Table(Kept[dict[str, float]]):
    """Seconds by case (shape, batch, zeros, ...) and candidate, for one CPU, torch, library of kernels and thread count."""

    kind: ClassVar[str] = "sparse-times"
    what: ClassVar[str] = "layer times"
    format: ClassVar[int] = 1

    @classmethod
    def about(cls, threads: int) -> dict[str, Any]:
        """See `Kept.about`."""
        kernels = library()
        built = None if kernels.path is None else sha256(kernels.path)[:16]
        return {**super().about(threads), "isa": kernels.isa, "kernels": built}

    @classmethod
    def entry(cls, found: Any) -> dict[str, float]:
        """See `Kept.entry`."""
        return {str(name): float(seconds) for name, seconds in found.items()}

    def seconds(
        self, case: str, names: Sequence[str], measure: Callable[[], Mapping[str, float]]
    ) -> Mapping[str, float]:  # fmt: skip
        """The times of these candidates and of `DENSE`; where one is unknown, what `measure` finds, which is then kept.

        All of a case are measured together, since only then can they be compared.
        """
        if not {DENSE, *names} <= self.known.get(case, {}).keys():
            self.new[case] = self.known[case] = self.known.get(case, {}) | dict(measure())
        return self.known[case]
