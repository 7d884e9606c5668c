"""Networks on graphs: written out with scatter and sparse-like products, and those of torch_geometric where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from halving import F, check, laws, noise

EDGES = torch.tensor([[0, 1, 2, 3, 4, 1, 2, 3], [1, 2, 3, 4, 0, 0, 1, 2]])
NODES = 5


class Convolution(nn.Module):
    """Kipf and Welling: normalised by degrees, self loops, sums by index_add."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.lin, self.bias = nn.Linear(before, after, bias=False), nn.Parameter(torch.zeros(after))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        loops = torch.arange(x.shape[0])
        src, dst = torch.cat([edges[0], loops]), torch.cat([edges[1], loops])
        degree = torch.zeros(x.shape[0], dtype=x.dtype).index_add(0, dst, torch.ones(dst.shape[0], dtype=x.dtype))
        norm = degree[src].rsqrt() * degree[dst].rsqrt()
        h = self.lin(x)
        return torch.zeros_like(h).index_add(0, dst, h[src] * norm[:, None]) + self.bias


class Attention(nn.Module):
    """GAT: heads, a softmax over neighbours by scatter, concatenated heads."""

    def __init__(self, before: int, size: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.lin = nn.Linear(before, heads * size, bias=False)
        self.a_src, self.a_dst = nn.Parameter(noise(1, heads, size)), nn.Parameter(noise(1, heads, size, seed=2))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        src, dst = edges
        h = self.lin(x).view(-1, self.heads, self.size)
        score = F.leaky_relu((h * self.a_src).sum(-1)[src] + (h * self.a_dst).sum(-1)[dst], 0.2).exp()
        total = torch.zeros(x.shape[0], self.heads, dtype=x.dtype).index_add(0, dst, score)
        out = torch.zeros_like(h).index_add(0, dst, h[src] * (score / (total[dst] + 1e-9))[:, :, None])
        return out.reshape(-1, self.heads * self.size)


class Sample(nn.Module):
    """SAGE: the mean of neighbours beside the node itself; maxima by scatter_reduce."""

    def __init__(self, before: int, after: int, how: str = "mean") -> None:
        super().__init__()
        self.own, self.others, self.how = nn.Linear(before, after), nn.Linear(before, after), how

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        src, dst = edges
        if self.how == "mean":
            count = torch.zeros(x.shape[0], 1, dtype=x.dtype).scatter_add(
                0, dst[:, None], torch.ones(dst.shape[0], 1, dtype=x.dtype)
            )
            mean = torch.zeros_like(x).scatter_add(0, dst[:, None].expand(-1, x.shape[1]), x[src]) / count.clamp(min=1)
        else:
            mean = torch.zeros_like(x).scatter_reduce(0, dst[:, None].expand(-1, x.shape[1]), x[src], "amax", include_self=False)
        return self.own(x) + self.others(mean)


class Messages(nn.Module):
    """A message network over edges with features of their own, a recurrent update, a sum over each graph."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.into, self.message = nn.Linear(4, width), nn.Sequential(nn.Linear(2 * width + 3, 12), nn.ReLU(), nn.Linear(12, 10))
        self.update, self.out = nn.GRUCell(10, width), nn.Linear(width, 2)

    def forward(self, x: Tensor, edges: Tensor, e: Tensor, graph: Tensor) -> Tensor:
        h = torch.relu(self.into(x))
        for _ in range(2):
            m = self.message(torch.cat([h[edges[0]], h[edges[1]], e], -1))
            h = self.update(torch.zeros(h.shape[0], m.shape[1], dtype=m.dtype).index_add(0, edges[1], m), h)
        return self.out(torch.zeros(2, h.shape[1], dtype=h.dtype).index_add(0, graph, h))


class Dense(nn.Module):
    """A full adjacency, powers of it side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = torch.relu(self.a(torch.cat([x, adjacency @ x, adjacency @ (adjacency @ x)], -1)))
        return self.b(adjacency @ x).log_softmax(-1)


class Layers(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = F.elu(x) if number else x
            x = layer(x, edges)
        return x


CASES = {
    "convolutions": (lambda: Layers(Convolution(4, 10), Convolution(10, 8), Convolution(8, 3)), (noise(NODES, 4), EDGES)),
    "attention": (lambda: Layers(Attention(4, 6, 2), Attention(12, 4, 2), Sample(8, 3)), (noise(NODES, 4), EDGES)),
    "samples": (lambda: Layers(Sample(4, 10), Sample(10, 3)), (noise(NODES, 4), EDGES)),
    "maxima": (lambda: Layers(Sample(4, 10), Sample(10, 3, "max")), (noise(NODES, 4), EDGES)),
    "messages": (Messages, (noise(NODES, 4), EDGES, noise(8, 3), torch.tensor([0, 0, 1, 1, 1]))),
    "a full adjacency": (Dense, (noise(NODES, 4), torch.rand(NODES, NODES, generator=torch.Generator().manual_seed(1)))),
}


test_half_of_everything_goes_and_small_equals_masked, test_each_axis_goes_alone = laws(CASES, batch=None)


GEOMETRIC = {
    "GCN": lambda g: Layers(g.GCNConv(4, 10), g.GCNConv(10, 3)),
    "GAT": lambda g: Layers(g.GATConv(4, 6, heads=2), g.GATConv(12, 3, heads=1, concat=False)),
    "GATv2": lambda g: Layers(g.GATv2Conv(4, 6, heads=2), g.GATv2Conv(12, 3)),
    "SAGE": lambda g: Layers(g.SAGEConv(4, 10), g.SAGEConv(10, 3)),
    "GIN": lambda g: Layers(g.GINConv(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10))), g.GCNConv(10, 3)),
    "Graph": lambda g: Layers(g.GraphConv(4, 10), g.GraphConv(10, 3)),
    "Transformer": lambda g: Layers(g.TransformerConv(4, 6, heads=2), g.TransformerConv(12, 3)),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_layers_of_torch_geometric_are_halved(name):
    geometric = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(0)
    check(GEOMETRIC[name](geometric), (noise(NODES, 4), EDGES), form=None, share=0.9, batch=None)


class Picked(nn.Module):
    """Only the rows that a mask picks go on, and come back to their places."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 10), nn.Linear(10, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        out = h.new_zeros(*h.shape[:2], self.b.out_features)
        out[mask] = torch.relu(self.b(h[mask]))
        return self.c(out)


def test_rows_that_a_mask_picks_are_as_many_as_the_data_say():
    torch.manual_seed(0)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    found = check(Picked(), (noise(2, 3, 4), mask), batch=None)
    assert found.graph.costs().macs == 6 * 40 + 4 * 80 + 6 * 24
    other = ~mask
    assert found.small(noise(2, 3, 4), other).shape == (2, 3, 3)
