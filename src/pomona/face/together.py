"""What several processes cannot do together, said before any work."""

from __future__ import annotations

from pomona.processes import Processes
from pomona.vocabulary import Goal, InputError, Recipe


def check_shared(recipe: Recipe, goal: Goal | None, processes: Processes) -> None:
    """Raises InputError where a run of several processes would have to measure or train before all is decided."""
    if not processes.several:
        return
    if goal is not None and goal.cost == "latency":
        raise InputError(
            "A goal in latency is aimed at by measuring, which processes on one machine would disturb; "
            "name it macs=0.5x or params=0.5x, or start one process."
        )
    schedule, recovery = recipe.schedule, recipe.recovery
    between = getattr(schedule, "n", 1) > 1 or getattr(schedule, "first_train", False) or getattr(recovery, "rewinds", False)
    if recovery is not None and between:
        raise InputError(
            "This recipe trains between its cuts, which several processes do not share; leave the recovery out "
            "(--recover none), or start one process."
        )
