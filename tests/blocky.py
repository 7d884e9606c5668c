"""A small network with a list of blocks, without any library of models: starts fast, for tests in processes of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


class Blocky(nn.Module):
    def __init__(self, depth: int = 4, width: int = 16) -> None:
        super().__init__()
        self.stem, self.layers = nn.Linear(8, width), nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def blocky() -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    return Blocky().eval(), [torch.randn(6, 8, generator=torch.Generator().manual_seed(n)) for n in range(3)]
