"""Widths that a transformers configuration takes: most want multiples of the number of heads, whatever the code can run."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from math import lcm
from typing import Any

from torch import nn

from pomona.graph import Graph
from pomona.vocabulary import Axis


def configured(graph: Graph, model: nn.Module) -> Graph:
    """The graph whose widths come in multiples that the model's configuration can say, so that plain `from_pretrained` opens it.

    What its own checks refuse is neither saved nor opened. Models without a configuration that checks itself: the graph as it is.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "validate") or not hasattr(config, "to_dict") or not takes(config):
        return graph
    widths = {a.size for a in graph.axes.values() if a.family == "width" and a.frozen is None}
    steps = {size: _step(config, size) for size in widths}
    if all(step == 1 for step in steps.values()):
        return graph
    return replace(graph, axes={name: _stepped(axis, steps) for name, axis in graph.axes.items()})


def _stepped(axis: Axis, steps: Mapping[int, int]) -> Axis:
    if axis.family != "width" or axis.frozen is not None:
        return axis
    return replace(axis, stride=lcm(axis.stride, steps[axis.size]))


def _step(config: Any, size: int) -> int:
    """The smallest step down from a size that the configuration takes; 1 where it takes none, or says the size nowhere."""
    names = [name for name, value in config.to_dict().items() if type(value) is int and value == size]
    if not names:
        return 1
    steps = (step for step in range(1, size // 2 + 1) if size % step == 0)
    return next((step for step in steps if takes(config, dict.fromkeys(names, size - step))), 1)


def takes(config: Any, numbers: Mapping[str, int] | None = None) -> bool:
    """Whether a configuration with these numbers passes its own checks."""
    from huggingface_hub.errors import StrictDataclassError

    tried = deepcopy(config)
    try:
        for name, value in (numbers or {}).items():
            setattr(tried, name, value)
        tried.validate()
    except (StrictDataclassError, ValueError):
        return False
    return True
