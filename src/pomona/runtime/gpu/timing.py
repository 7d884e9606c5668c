"""Times on a GPU: by its own events, turn by turn, with caches that hold something else."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from statistics import median
from typing import TypeAlias

import torch

Turns: TypeAlias = Mapping[str, Callable[[], object]]
Measure: TypeAlias = Callable[[Turns], Mapping[str, float]]  # seconds of one call of each, comparable
_ROUNDS = 15
_WARM = 3  # calls before the first sample: kernels are compiled and picked at the first
_FLUSH = 512 << 20  # bytes written before a sample: ten times the largest cache, and longer than the CPU takes to launch a call


def samples(turns: Turns, device: torch.device, rounds: int = _ROUNDS, seed: int = 0) -> dict[str, list[float]]:
    """Seconds of each, round after round, in random order within a round.

    Between two events on the GPU. Each is launched while the GPU still fills its cache with zeros, so weights come from
    memory, as in a model larger than the cache. What the CPU takes to launch a call does not count unless it takes longer.
    """
    draw, names = random.Random(seed), list(turns)
    with torch.cuda.device(device), torch.inference_mode():
        flush = torch.empty(_FLUSH, dtype=torch.uint8, device=device)
        for call in turns.values():
            for _ in range(_WARM):
                call()
        found: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in draw.sample(names, len(names)):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                flush.zero_()
                begin.record()  # type: ignore[no-untyped-call]
                turns[name]()
                end.record()  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
                found[name].append(begin.elapsed_time(end) * 1e-3)  # type: ignore[no-untyped-call]
    return found


def on(device: torch.device) -> Measure:
    """How turns are measured there: the first one's median, times the median ratio of the others to it in the same rounds."""

    def measured(turns: Turns) -> dict[str, float]:
        found = samples(turns, device)
        first = next(iter(found.values()))
        ratios = {n: median(b / a for a, b in zip(first, each, strict=True)) for n, each in found.items()}
        return {name: median(first) * ratio for name, ratio in ratios.items()}

    return measured
