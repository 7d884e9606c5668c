"""What several processes have gathered, each on its share of the data, as if one had gathered all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pomona.processes import Processes
from pomona.vocabulary import Site, State, Statistic

Key = tuple[Statistic, str]  # of a state: the statistic and the site's name


def combined(
    processes: Processes, readers: Sequence[tuple[Statistic, Site]], states: Mapping[Key, State], device: torch.device
) -> dict[Key, State]:
    """The merged states of all processes, the same in each of them to the last bit; a process without data has none to give.

    They are merged in the order of ranks, one at a time: three states of the largest kind are in memory at once. Sites that
    share a state in every process share the merged one.
    """
    keys = [(need, site.name) for need, site in readers]
    number: dict[int, int] = {}
    own = [number.setdefault(id(states[key]), len(number)) if key in states else None for key in keys]
    everywhere = list(zip(*processes.all(own), strict=True))  # for each key, which of its states each process means
    together: dict[tuple[Statistic, tuple[int | None, ...]], list[Key]] = {}
    for key, which in zip(keys, everywhere, strict=True):
        together.setdefault((key[0], which), []).append(key)
    merged: dict[Key, State] = {}
    for (need, which), same in together.items():
        total: State | None = None
        for rank in (rank for rank, one in enumerate(which) if one is not None):
            theirs = processes.broadcast(states.get(same[0], {}), rank, device)
            total = theirs if total is None else need.merge(total, theirs)
        merged |= {} if total is None else dict.fromkeys(same, total)
    return merged
