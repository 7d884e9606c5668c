"""From which step to which a result of the program lies in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, fx

from pomona.graph.expr import Dims
from pomona.graph.nodes import frames, name_of
from pomona.graph.op import Record

# Results of these share their input's memory, or pass it on.
_VIEWS = frozenset((
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "numpy_T", "unsqueeze", "squeeze",
    "expand", "slice", "select", "split", "chunk", "unbind", "split_with_sizes", "getitem", "detach", "alias", "contiguous",
    "dropout", "to", "_assert_tensor_metadata",
))  # fmt: skip


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
    """Every result that takes memory of its own, in the order in which they are made; inputs and weights are none."""
    owned: dict[fx.Node, list[Life]] = {}
    found: list[Life] = []
    for step, n in enumerate(record.values):
        around = tuple(frames(n))
        read = [life for v in n.all_input_nodes for life in owned.get(v, ())]
        for life in read:
            _read(life, step, around)
        if n.op != "call_function":
            continue
        passed = _passed(n)
        made = [Life(size, dims, around, around, step, step) for size, dims in _tensors(n, record)] if passed is None else []
        owned[n] = made + [life for v in passed or () for life in owned.get(v, ())]
        found += made
    for v in (v for n in record.values for v in n.users if v.op == "output"):
        for life in (life for n in v.all_input_nodes for life in owned.get(n, ())):
            _read(life, len(record.values), ())
    return found


def _read(life: Life, step: int, around: tuple[str, ...]) -> None:
    life.dies = step
    life.inside = tuple(module for module in life.inside if module in around)


def _passed(n: fx.Node) -> list[fx.Node] | None:
    """Whose memory an op returns, where it makes none: views, ops that write into their input, regions of other ops."""
    name = name_of(n)
    if name.startswith("wrap_with"):
        held = (getattr(n.graph.owning_module, str(v.target), None) for v in n.all_input_nodes if v.op == "get_attr")
        regions = (module for module in held if isinstance(module, fx.GraphModule))
        return [v for region in regions for v in region.graph.output_node().all_input_nodes]
    return n.all_input_nodes[:1] if name in _VIEWS or name.endswith("_") else None


def _tensors(n: fx.Node, record: Record) -> Iterator[tuple[int, Dims]]:
    """(bytes an element, dimensions) of each tensor that an op returns."""
    value, dims = n.meta.get("val"), record.values[n]
    pairs = zip(value, dims, strict=True) if isinstance(value, (list, tuple)) and isinstance(dims, list) else [(value, dims)]
    for tensor, here in pairs:
        if isinstance(tensor, Tensor) and isinstance(here, tuple):
            yield tensor.element_size(), here
