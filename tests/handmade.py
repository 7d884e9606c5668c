"""A small net of every kind with its sites written down by hand, so that parts can be tested without a graph."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from pomona.structures.axes import Axes
from pomona.structures.layers import Layers
from pomona.structures.weights import Weights
from pomona.vocabulary import Axis, Convolution, Gathered, Member, Site, View, Weight, generator

CLASSES = 3


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.map(x))


class Net(nn.Module):
    """conv -> norm -> relu -> flatten -> linear -> blocks -> linear; images of 2 x 4 x 4."""

    def __init__(self, channels: int = 5, width: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels * 16, width)
        self.blocks = nn.ModuleList([Block(width), Block(width), Block(width)])
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def net(seed: int = 0) -> Net:
    """A net with a living norm: random scales, shifts and running statistics."""
    torch.manual_seed(seed)
    made = Net()
    with torch.no_grad():
        made.norm.weight.uniform_(0.5, 1.5)
        made.norm.bias.normal_(0, 0.3)
        made.norm.running_mean.normal_(0, 0.2)
        made.norm.running_var.uniform_(0.5, 1.5)
    return made.eval()


def data(size: int = 64, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(size, 2, 4, 4, generator=g), torch.randint(0, CLASSES, (size,), generator=g)


def axis_site(order: Tensor | None = None) -> Site:
    """The channels of the convolution, optionally listed in another order."""
    units = torch.arange(5) if order is None else order
    place, features = units.unsqueeze(1), units.unsqueeze(1) * 16 + torch.arange(16)
    conv = Weight("conv.weight", "conv", (5, 2, 3, 3), 0, 1, macs=1440, conv=Convolution((1, 1), (1, 1), (1, 1)))
    fc, gamma = Weight("fc.weight", "linear", (6, 80), 0, 1, macs=480, bias="fc.bias"), Weight("norm.weight", "norm", (5,))
    members = (
        Member("conv.weight", "out", 0, place, shape=(5, 2, 3, 3), weight=conv),
        Member("conv.bias", "scale", 0, place, shape=(5,), weight=Weight("conv.bias", "bias", (5,))),
        Member("norm.weight", "scale", 0, place, shape=(5,), weight=gamma),
        Member("norm.bias", "scale", 0, place, shape=(5,), weight=Weight("norm.bias", "bias", (5,))),
        Member("norm.running_mean", "scale", 0, place, buffer=True, shape=(5,)),
        Member("fc.weight", "in", 1, features, shape=(6, 80), weight=fc),
    )
    return Site("channels", "axis", (5,), members, axis=Axis("channels", 5, "channel", members))


def element_site() -> Site:
    conv = Convolution((1, 1), (1, 1), (1, 1))
    weight = Weight("conv.weight", "conv", (5, 2, 3, 3), 0, 1, conv=conv)
    return Site("conv.weight", "element", weight.shape, (Member("conv.weight", "self", shape=weight.shape),), weight=weight)


def linear_site(name: str, shape: tuple[int, int], out_dim: int = 0) -> Site:
    weight = Weight(name, "linear", shape, out_dim, 1 - out_dim)
    return Site(name, "element", shape, (Member(name, "self", shape=shape),), weight=weight)


def branch_site() -> Site:
    blocks = ("blocks.0", "blocks.1", "blocks.2")
    parts = (("weight", (6, 6)), ("bias", (6,)))
    members = tuple(Member(f"{block}.map.{part}", "self", shape=shape) for block in blocks for part, shape in parts)
    return Site("blocks", "branch", (3,), members, blocks=blocks)


SITES = {"axis": (axis_site, Axes()), "element": (element_site, Weights()), "branch": (branch_site, Layers())}


def view(model: nn.Module, site: Site, stats: Gathered | None = None, seed: int = 0) -> View:
    """The site with the model's values, everyone alive."""
    names = [name for m in site.members if not m.buffer for name in (m.tensor, m.weight and m.role == "in" and m.weight.bias)]
    values = {name: model.get_parameter(name).detach() for name in names if name}
    structure = SITES[site.kind][1]
    return View(site, structure, values, torch.ones(site.shape, dtype=torch.bool), stats or Gathered(), generator(seed))


def filters(rows: Tensor, **changes: Tensor) -> View:
    """A bare axis whose units are the rows of one weight."""
    members = (Member("w", "out", 0, shape=tuple(rows.shape)),)
    site = Site("a", "axis", (len(rows),), members, axis=Axis("a", len(rows), "channel", members))
    made = View(site, Axes(), {"w": rows}, torch.ones(len(rows), dtype=torch.bool))
    return replace(made, **changes)
