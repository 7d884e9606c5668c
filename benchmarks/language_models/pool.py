"""Rows measured in processes of one thread each; a model is loaded once in every one of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

import torch
from benchmarks.language_models.measure import Bench
from benchmarks.language_models.rows import Row, Wanted

_bench: Bench


def _begin(bench: Bench) -> None:
    global _bench  # what a worker holds between its rows
    torch.set_num_threads(1)
    _bench = bench


def _row(wanted: Wanted) -> Row:
    return _bench.row(wanted)


def measured(bench: Bench, wanted: Sequence[Wanted], workers: int, until: float) -> Iterator[Row | tuple[Wanted, Exception]]:
    """Rows as they come, from `workers` processes of one thread each; none is begun after `until`, in seconds of the clock."""
    left = iter(wanted)
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (bench,)) as pool:
        running: dict[Future[Row], Wanted] = {}
        while True:
            while len(running) < workers and time.monotonic() < until and (name := next(left, None)) is not None:
                running[pool.submit(_row, name)] = name
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, error = running.pop(future), future.exception()
                if isinstance(error, Exception):
                    yield name, error
                elif error is not None:
                    raise error
                else:
                    yield future.result()
