"""From which step to which a result of the program lies in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, fx

from pomona.graph.expr import Dims
from pomona.graph.nodes import frames, name_of, traced
from pomona.graph.op import Record

# In evaluation these hand on what they get.
_PASS = frozenset(("getitem", "dropout", "feature_dropout", "_assert_tensor_metadata"))


@dataclass(eq=False)
class Life:
    """One tensor of `bytes` an element, from the step at which it is made to the last one that reads it or a view of it.

    `within` are the modules around the op that makes it, `inside` those around all that read it as well.
    """

    bytes: int
    dims: Dims
    within: tuple[str, ...]
    inside: tuple[str, ...]
    born: int
    dies: int


def lives(record: Record) -> list[Life]:
    """Every result that takes memory of its own, in the order in which they are made; inputs and weights are none.

    Whether a result is a view, or was written in place, is told by the storage of the traced tensor.
    """
    storages: dict[int, list[Life]] = {}
    owned: dict[fx.Node, list[Life]] = {}
    found: list[Life] = []
    for step, n in enumerate(record.values):
        around = tuple(frames(n))
        _read((life for v in n.all_input_nodes for life in owned.get(v, ())), step, around)
        passed = _passed(n)
        if passed is not None:
            owned[n] = [life for v in passed for life in owned.get(v, ())]
            continue
        owned[n] = []
        for tensor, dims in _tensors(n, record):
            storage = tensor.untyped_storage()._cdata
            if storage not in storages:
                made = [Life(tensor.element_size(), dims, around, around, step, step)] if n.op == "call_function" else []
                storages[storage] = made
                found += made
            owned[n] += storages[storage]
    for v in (v for n in record.values for v in n.users if v.op == "output"):
        _read((life for n in v.all_input_nodes for life in owned.get(n, ())), len(record.values), ())
    return found


def _read(given: Iterable[Life], step: int, around: tuple[str, ...]) -> None:
    for life in given:
        life.dies = step
        life.inside = tuple(module for module in life.inside if module in around)


def _passed(n: fx.Node) -> list[fx.Node] | None:
    """Whose memory an op returns, where that is known without looking at storages; regions return what ops within made."""
    name = name_of(n)
    if name.startswith("wrap_with"):
        held = (getattr(n.graph.owning_module, str(v.target), None) for v in n.all_input_nodes if v.op == "get_attr")
        regions = (module for module in held if isinstance(module, fx.GraphModule))
        return [v for region in regions for v in region.graph.output_node().all_input_nodes]
    return n.all_input_nodes[:1] if name in _PASS else None


def _tensors(n: fx.Node, record: Record) -> Iterator[tuple[Tensor, Dims]]:
    """Each tensor that an op returns, with its dimensions."""
    value, dims = traced(n), record.values[n]
    pairs = zip(value, dims, strict=True) if isinstance(value, (list, tuple)) and isinstance(dims, list) else [(value, dims)]
    for tensor, here in pairs:
        if isinstance(tensor, Tensor) and isinstance(here, tuple):
            yield tensor, here
