"""Lengths that depend on data (rows picked by a mask, edges without loops): as they are for the example inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

PLAIN = "plain"  # beside a node's own "val": the same with every length a number


@torch.no_grad()
def settle(program: ExportedProgram) -> None:
    """Where tracing left lengths open, run the program once and note what they are; other programs are left alone."""
    if any(_is_open(value) for n in program.graph.nodes for value in _tensors(n.meta.get("val"))):
        _Noting(program.graph_module).run(*_inputs(program))


class _Noting(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        made = super().run_node(n)
        if any(map(_is_open, _tensors(n.meta.get("val")))):
            n.meta[PLAIN] = pytree.tree_map(lambda t: torch.empty_like(t, device="meta") if isinstance(t, Tensor) else t, made)
        return made


def _is_open(tensor: Tensor) -> bool:
    return any(not isinstance(length, int) for length in tensor.shape)


def _tensors(value: Any) -> Iterator[Tensor]:
    for part in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(part, Tensor):
            yield part


def _inputs(program: ExportedProgram) -> list[Any]:
    """What the placeholders stand for; buffers as copies, since models may write to them."""
    given = iter(pytree.tree_leaves(program.example_inputs))
    held = {**program.constants, **program.state_dict}
    found: list[Any] = []
    for spec in program.graph_signature.input_specs:
        value = next(given) if spec.kind == InputKind.USER_INPUT else held[spec.target or ""]
        found.append(value.clone() if isinstance(value, Tensor) and spec.kind != InputKind.PARAMETER else value)
    return found
