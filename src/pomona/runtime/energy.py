"""The energy that calls take, by the best of what the machine offers, and which of these it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from time import perf_counter, process_time
from typing import Literal, TypeAlias

from pomona.vocabulary import InputError

Source: TypeAlias = Literal["rapl", "codecarbon", "model"]

WATTS = 10.0  # of a busy core, where nobody measures: a round figure for server cores, to be stated anew by who knows better
_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Energy:
    """`joules` per call. `by` says who knows.

    "rapl": the counters of the processor's packages, which count everything that ran meanwhile; "codecarbon": that package's
    estimate; "model": processor seconds of this process times `watts`.
    """

    joules: float
    by: Source
    watts: float | None = None

    @property
    def said(self) -> str:
        """The source for people, with the assumption of the model."""
        return self.by if self.watts is None else f"model: processor seconds x {self.watts:g} W"


def energy_of(
    function: Callable[[], object], seconds: float = 1.0, watts: float = WATTS, by: Source | None = None, rapl: Path = _RAPL
) -> Energy:
    """The energy of one call, from calls for so many seconds.

    `by` asks for one source; None takes the first that is there. `watts` a busy core is for the model. Raises InputError where
    the source that is asked for is not there.
    """
    if not (0 < watts < inf and 0 < seconds < inf):
        raise InputError(f"Energy needs some time and a power above 0, both finite; got {seconds:g} seconds and {watts:g} W.")
    counters = _counters(rapl)
    there: dict[Source, bool] = {"rapl": bool(counters), "codecarbon": find_spec("codecarbon") is not None, "model": True}
    source = by if by is not None else next(name for name, found in there.items() if found)
    if not there.get(source, False):
        offered = ", ".join(name for name, found in there.items() if found)
        raise InputError(f"Energy cannot be had by {source} here; there is {offered}.")
    if source == "rapl":
        before = [_read(counter) for counter in counters]
        calls = _calls(function, seconds)
        return Energy(sum(_used(c, b) for c, b in zip(counters, before, strict=True)) / 1e6 / calls, source)
    if source == "codecarbon":
        return Energy(_by_codecarbon(lambda: _calls(function, seconds)), source)
    start = process_time()
    calls = _calls(function, seconds)
    return Energy((process_time() - start) * watts / calls, "model", watts)


def _calls(function: Callable[[], object], seconds: float) -> int:
    end, calls = perf_counter() + seconds, 0
    while calls == 0 or perf_counter() < end:
        function()
        calls += 1
    return calls


def _counters(folder: Path) -> list[Path]:
    """One a package, as far as this user may read them; most systems show them to root alone."""
    found = []
    for counter in sorted(folder.glob("intel-rapl:[0-9]*/energy_uj")):
        if counter.parent.name.count(":") == 1:  # those below are parts of their package
            try:
                _read(counter)
            except (OSError, ValueError):
                continue
            found.append(counter)
    return found


def _read(counter: Path) -> int:
    return int(counter.read_text())


def _used(counter: Path, before: int) -> int:
    """Microjoules since then; a counter begins anew when it is full."""
    used = _read(counter) - before
    return used if used >= 0 else used + int(counter.with_name("max_energy_range_uj").read_text())


def _by_codecarbon(run: Callable[[], int]) -> float:
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level="critical", measure_power_secs=1, allow_multiple_runs=True
    )
    tracker.start()
    calls = run()
    tracker.stop()
    return float(tracker.final_emissions_data.energy_consumed) * 3.6e6 / calls
