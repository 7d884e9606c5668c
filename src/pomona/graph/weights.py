"""Every parameter as the ops of the model read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pomona.graph.facts import Use
from pomona.vocabulary import Weight


def weights_of(
    shapes: Mapping[str, tuple[int, ...]],
    readings: Sequence[Use],
    macs: Mapping[str | None, int],
    classes: Mapping[str, str],
) -> dict[str, Weight]:
    """Weights in the order of first use, those that are never read as a weight last. `classes`: module name -> its class."""
    by_tensor: dict[str, list[Use]] = {}
    for reading in readings:
        if reading.tensor in shapes:
            by_tensor.setdefault(reading.tensor, []).append(reading)
    modules = {name.rpartition(".")[0]: None for name in by_tensor}  # in the order of first use; within one, as registered
    place = {module: number for number, module in enumerate(modules)}
    order = sorted(shapes, key=lambda name: (name not in by_tensor, place.get(name.rpartition(".")[0], len(place))))
    found = (_weight(name, shapes[name], by_tensor.get(name, []), macs.get(name, 0)) for name in order)
    return {w.tensor: replace(w, module=classes.get(w.tensor.rpartition(".")[0], "")) for w in found}


def _weight(name: str, shape: tuple[int, ...], readings: Sequence[Use], macs: int) -> Weight:
    if not readings:
        return Weight(name, "other", shape, macs=macs)
    # A table that is also the output layer is a table: `sparsity` does not count it unless asked to. What an op contracts
    # is a matrix or kernel, whatever standardises it first.
    order = ("embedding", "linear", "conv", "recurrent")
    chosen = min(readings, key=lambda r: order.index(r.kind) if r.kind in order else len(order))
    calls = sum(r.kind in order for r in readings) or len(readings)
    biases = {r.bias for r in readings if r.kind in order}  # ops that add different ones leave none that is the weight's own
    bias = biases.pop() if len(biases) == 1 else None
    return Weight(name, chosen.kind, shape, chosen.out_dim, chosen.in_dim, macs, calls, chosen.conv, bias=bias)
