"""A traced model on paper: weights, axes and branches written by hand, costs counted element by element."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import torch

from pomona.vocabulary import Axis, Branch, Convolution, Member, Weight


@dataclass(frozen=True, eq=False)
class PaperGraph:
    weights: dict[str, Weight]
    axes: dict[str, Axis] = field(default_factory=dict)
    branches: tuple[Branch, ...] = ()

    def costs(self, sizes=None, densities=None):
        sizes, densities = sizes or {}, densities or {}
        masks = {name: torch.ones(w.shape) for name, w in self.weights.items()}
        for name, kept in sizes.items():
            for m in self.axes[name].members:
                mask = masks[m.tensor].movedim(m.dim, 0)
                index = torch.arange(self.axes[name].size)[:, None] if m.index is None else m.index
                mask[index[kept:].flatten()] = 0
        share = {name: float(mask.mean()) * densities.get(name, 1.0) for name, mask in masks.items()}
        return SimpleNamespace(
            params=sum(share[n] * w.size for n, w in self.weights.items()),
            macs=sum(share[n] * w.macs for n, w in self.weights.items()),
        )


def linear(name, out, width):
    return Weight(name, "linear", (out, width), 0, 1, macs=out * width)


def transposed(name, width, out):
    """As GPT-2 stores it."""
    return Weight(name, "linear", (width, out), 1, 0, macs=out * width)


def conv(name, out, width, kernel=3, groups=1, flipped=False):
    shape = (width, out // groups) if flipped else (out, width // groups)
    walk = Convolution((1, 1), (0, 0), (1, 1), groups, flipped)
    shape = (*shape, kernel, kernel)
    size = torch.Size(shape).numel()
    return Weight(name, "conv", shape, 1 if flipped else 0, 0 if flipped else 1, macs=size * 16, conv=walk)


def bias(name, size):
    return Weight(name, "bias", (size,), 0)


def graph():
    """conv 4->8, conv 8->8, flatten 2x2, 32->12, 12->12 in two blocks, 12->4; biases and a table of 10 words."""
    weights = [
        conv("conv1.weight", 8, 4),
        bias("conv1.bias", 8),
        conv("conv2.weight", 8, 8),
        linear("fc.weight", 12, 32),
        bias("fc.bias", 12),
        linear("blocks.0.map.weight", 12, 12),
        linear("blocks.1.map.weight", 12, 12),
        transposed("head.weight", 12, 4),
        Weight("words.weight", "embedding", (10, 12), 1, None),
    ]
    by_name = {w.tensor: w for w in weights}
    places = torch.arange(8)[:, None] * 4 + torch.arange(4)
    first = (Member("conv1.weight", "out", 0), Member("conv1.bias", "scale", 0), Member("conv2.weight", "in", 1))
    stream = (Member("fc.weight", "out", 0), Member("fc.bias", "scale", 0), Member("head.weight", "in", 0))
    axes = [
        Axis("conv1", 8, "channel", first),
        Axis("conv2", 8, "channel", (Member("conv2.weight", "out", 0), Member("fc.weight", "in", 1, places))),
        Axis("stream", 12, "width", stream),
        Axis("classes", 4, "neuron", (Member("head.weight", "out", 1),), frozen="it reaches the output"),
    ]
    blocks = Branch("blocks", ("blocks.0", "blocks.1"))
    return PaperGraph(by_name, {a.name: a for a in axes}, (blocks,))
