"""Random networks: programs over tensors of known rank, drawn by hypothesis and run by one module.

A step reads one earlier value, perhaps joins the result with another, and writes a new one. What does not fit is adapted with
a convolution of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from program_ops import Op


@dataclass(frozen=True)
class Line:
    """One step of a program: what it does, to which earlier value, whether and with which other value it is joined."""

    op: Op
    source: int
    width: int
    join: str | None = None
    other: int = 0


class Layer(nn.Module):
    """The layers of one line."""

    def __init__(self, held: dict[str, Any]) -> None:
        super().__init__()
        for name, value in held.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)


class Network(nn.Module):
    """Runs a program. Joins of unequal widths go through a convolution of their own."""

    def __init__(self, lines: tuple[Line, ...], width: int) -> None:
        super().__init__()
        self.lines = lines
        self.stem = nn.Conv1d(3, width, 1)
        self.layers, self.fit, widths = nn.ModuleList(), nn.ModuleList(), [width]
        for line in lines:
            before = widths[line.source % len(widths)]
            self.layers.append(Layer(line.op.layers(before, line.width)))
            made, other = line.op.after(before, line.width), widths[line.other % len(widths)]
            adds = line.join in ("add", "mul")
            self.fit.append(nn.Conv1d(other, made, 1) if adds and other != made else nn.Identity())
            widths.append(made + other if line.join == "cat" else made)
        self.head = nn.Linear(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        values = [self.stem(x)]
        for line, layer, fit in zip(self.lines, self.layers, self.fit, strict=True):
            y, other = line.op.run(layer, values[line.source % len(values)]), values[line.other % len(values)]
            if line.join == "cat":
                y = torch.cat([y, other], 1)
            elif line.join is not None:
                y = y + fit(other) if line.join == "add" else y * torch.tanh(fit(other))
            values.append(y)
        return self.head(values[-1].mean(-1))


@st.composite
def networks(draw: Any, ops: tuple[Op, ...], most: int = 5, one_of: tuple[Op, ...] = ()) -> Network:
    """A network of a few steps out of `ops`; with `one_of`, one of those is among them."""
    width = 4 * draw(st.integers(1, 2))
    count = draw(st.integers(1, most))
    special = draw(st.integers(0, count - 1)) if one_of else -1
    lines: list[Line] = []
    widths = [width]
    for number in range(count):
        source = draw(st.integers(0, len(widths) - 1)) if number != special + 1 else len(widths) - 1
        fitting = [op for op in (one_of if number == special else ops) if op.fits(widths[source])]
        op = draw(st.sampled_from(fitting))
        line = Line(
            op,
            source,
            2 * draw(st.integers(1, 3)),
            draw(st.sampled_from([None, None, "add", "cat", "mul"])),
            draw(st.integers(0, len(widths) - 1)),
        )
        made = op.after(widths[source], line.width)
        if made > 48 or (line.join == "cat" and made + widths[line.other] > 48):
            continue
        lines.append(line)
        widths.append(made + (widths[line.other] if line.join == "cat" else 0))
    torch.manual_seed(draw(st.integers(0, 1000)))
    return Network(tuple(lines), width)
