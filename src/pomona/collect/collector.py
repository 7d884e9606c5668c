"""Gathers every statistic that the parts of a recipe declare, in one pass a probe over the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pomona.collect.combined import combined
from pomona.processes import Processes
from pomona.vocabulary import (
    Batch,
    Gathered,
    InputError,
    Loss,
    Probe,
    Progress,
    Seen,
    Silent,
    Site,
    State,
    Statistic,
    Watch,
    finite,
)


@dataclass(frozen=True, eq=False)
class _Pass:
    """One probe, all that it must record, and who reads it."""

    probe: Probe
    watch: Watch
    readers: tuple[tuple[Statistic, Site], ...]


def collect(
    model: nn.Module,
    sites: Sequence[Site],
    needs: Iterable[Statistic],
    batches: Iterable[Any],
    loss: Loss | None = None,
    progress: Progress | None = None,
    processes: Processes | None = None,
) -> dict[str, Gathered]:
    """The needed statistics of every site, by site name; the model comes back as it was, even on error.

    `batches` yields `Batch` or what `Batch.of` reads, and is gone through once. Equal needs are gathered once, and statistics
    with the same probe share its pass. Memory: the accumulators plus what the probe records of one batch. Of several `processes`
    each gives its share of the batches, and all get what one would gather on all of them.

    Raises InputError for empty data, for NaN or infinities in the data or in what they lead to (naming the batch), and
    for what the probes refuse (no loss, labels out of range, a weight that its module does not read).
    """
    passes = _passes(sites, tuple(dict.fromkeys(needs)))
    if not passes:
        return {site.name: Gathered() for site in sites}
    processes, states = processes or Processes(), dict[tuple[Statistic, str], State]()
    device = next(iter(model.parameters()), torch.empty(0)).device
    total = len(batches) if isinstance(batches, Sized) else None
    count = 0
    with (progress or Silent()).stage("statistics", total) as stage:
        for count, raw in enumerate(batches, 1):
            batch = _onto(Batch.of(raw), device)
            _refuse_bad_data(batch, number := processes.place(count))
            for one in passes:
                for piece in split(batch) if one.probe.per_example else (batch,):
                    seen = one.probe.run(model, piece, loss, one.watch)
                    _refuse_bad_values(seen, number)
                    _fold(states, one.readers, seen)
            stage.advance()
    if not any(processes.all(count)):
        raise InputError("The data is empty; this method needs at least one batch.")
    if processes.several:
        states = combined(processes, [reader for one in passes for reader in one.readers], states, device)
    return _values(passes, sites, states)


def observe(sites: Sequence[Site], needs: Iterable[Statistic], seen: Seen) -> dict[str, Gathered]:
    """The statistics of one pass that somebody else made, such as a live training step.

    `seen` must hold what the needs watch: for gradients, `grads` and `weights` by parameter name.
    """
    passes = _passes(sites, tuple(dict.fromkeys(needs)))
    states: dict[tuple[Statistic, str], State] = {}
    for one in passes:
        _fold(states, one.readers, seen)
    return _values(passes, sites, states)


def split(batch: Batch) -> Iterator[Batch]:
    """The examples of a batch, each as a batch of one; tensors that do not count examples are passed on whole."""
    leaves = [leaf for leaf in tree_leaves((batch.args, dict(batch.kwargs))) if isinstance(leaf, Tensor) and leaf.ndim]
    if not leaves:
        raise InputError("A batch holds no tensor with a batch dimension, so its examples cannot be told apart.")
    size = len(leaves[0])
    for i in range(size):

        def one(value: Any, i: int = i) -> Any:
            return value[i : i + 1] if isinstance(value, Tensor) and value.ndim and len(value) == size else value

        yield Batch(tree_map(one, batch.args), tree_map(one, dict(batch.kwargs)), tree_map(one, batch.target), one(batch.mask))


def _passes(sites: Sequence[Site], needs: Sequence[Statistic]) -> list[_Pass]:
    made = []
    for probe in dict.fromkeys(need.probe for need in needs):
        readers = tuple((need, site) for need in needs if need.probe == probe for site in sites)
        made.append(_Pass(probe, Watch.joined(need.watch(site) for need, site in readers), readers))
    return made


def _fold(states: dict[tuple[Statistic, str], State], readers: Sequence[tuple[Statistic, Site]], seen: Seen) -> None:
    """One pass added to the states. Sites that had the same state and see the same have the same state again."""
    together: dict[tuple[Statistic, int, Hashable], list[Site]] = {}
    for need, site in readers:
        alike = getattr(need, "alike", None)
        sees = site.name if alike is None else alike(site, seen)
        together.setdefault((need, id(states.get((need, site.name))), sees), []).append(site)
    parting = Counter((need, state) for need, state, _ in together)
    for (need, number, _), sites in together.items():
        state = states.get((need, sites[0].name))
        if state is not None and parting[need, number] > 1:
            state = {name: value.clone() for name, value in state.items()}  # statistics may add in place
        state = need.update(state, sites[0], seen)
        states |= {(need, site.name): state for site in sites}


def _values(passes: Sequence[_Pass], sites: Sequence[Site], states: Mapping[tuple[Statistic, str], State]) -> dict[str, Gathered]:
    gathered = {site.name: Gathered() for site in sites}
    for one in passes:
        for need, site in one.readers:
            gathered[site.name][need] = need.value(states[need, site.name], site)
    return gathered


def _onto(batch: Batch, device: torch.device) -> Batch:
    def move(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    return Batch(tree_map(move, batch.args), tree_map(move, dict(batch.kwargs)), tree_map(move, batch.target), move(batch.mask))


def _refuse_bad_data(batch: Batch, number: int) -> None:
    # Attention masks are let through: -inf is their way of saying no.
    given = (batch.args, {k: v for k, v in batch.kwargs.items() if "mask" not in k}, batch.target)
    tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
    if any(not tensor.numel() for tensor in tensors):
        raise InputError(f"Batch {number} of the data is empty; every batch needs at least one example.")
    if not all(finite(tensor) for tensor in tensors):
        raise InputError(f"Batch {number} of the data holds NaN or infinite numbers; clean the data.")


def _refuse_bad_values(seen: Seen, number: int) -> None:
    kinds = {
        "input": {**seen.inputs, **{name: rows for name, (rows, _) in seen.experts.items()}},
        "input gradient": seen.input_grads,
        "gradient": seen.grads,
        "second derivative": seen.curvatures,
    }
    for kind, tensors in kinds.items():
        for name, tensor in tensors.items():
            if not finite(tensor):
                raise InputError(f"Batch {number} of the data makes the {kind} of {name} NaN or infinite; check the model on it.")
    for name, ends in seen.blocks.items():
        if not all(map(finite, ends)):
            raise InputError(f"Batch {number} of the data makes the output of {name} NaN or infinite; check the model on it.")
