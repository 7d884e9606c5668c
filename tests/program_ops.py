"""What random networks are made of: ops with and without rules, each with the layers that it needs.

Every value is (batch, features, positions), so that any two steps fit together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POSITIONS = 6


@dataclass(frozen=True)
class Op:
    """What one op needs of the width of its input, which layers it has, what it does and how wide the result is."""

    name: str
    fits: Callable[[int], bool]
    layers: Callable[[int, int], dict[str, Any]]  # (width, another width) -> modules and parameters
    run: Callable[[Any, Tensor], Tensor]  # (its own layers, (batch, width, positions)) -> the same with another width
    after: Callable[[int, int], int] = lambda n, m: n


def _always(n: int) -> bool:
    return True


def _none(n: int, m: int) -> dict[str, Any]:
    return {}


def _even(n: int) -> bool:
    return n % 2 == 0


def _fours(n: int) -> bool:
    return n % 4 == 0


def _attend(m: Any, x: Tensor, fused: bool = True, heads: int = 2) -> Tensor:
    y = x.transpose(1, 2)
    b, n, _ = y.shape
    q, k, v = m.qkv(y).view(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    if fused:
        z = F.scaled_dot_product_attention(q, k, v)
    else:
        z = torch.einsum("bhnm,bhmd->bhnd", (q @ k.transpose(-2, -1) * 0.5).softmax(-1), v)
    return m.out(z.transpose(1, 2).reshape(b, n, -1)).transpose(1, 2)


def _shuffle(m: Any, x: Tensor) -> Tensor:
    b, c, n = x.shape
    return x.view(b, 2, c // 2, n).transpose(1, 2).reshape(b, c, n)


def _gate(m: Any, x: Tensor) -> Tensor:
    return x * torch.sigmoid(m.rise(torch.relu(m.fall(x.mean(-1)))))[:, :, None]


def _mixture(m: Any, x: Tensor) -> Tensor:
    h = torch.relu(torch.einsum("bcn,ech->benh", x, m.up))
    return torch.einsum("benh,ehc->bcn", h, m.down)


def _swap(m: Any, x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([b, a], 1)


def _stacked(m: Any, x: Tensor) -> Tensor:
    return torch.stack([m.a(x), m.b(x)], 0).amax(0)


def _unbound(m: Any, x: Tensor) -> Tensor:
    a, b = torch.stack([x, m.a(x)], 2).unbind(2)
    return a - b


def _attention_layers(n: int, m: int) -> dict[str, Any]:
    return {"qkv": nn.Linear(n, 3 * 2 * m), "out": nn.Linear(2 * m, n)}


def _pictures(m: Any, x: Tensor) -> Tensor:
    """Positions as a picture of 2 x 3: up, down, and pooled."""
    b, c, _ = x.shape
    y = F.pixel_unshuffle(F.interpolate(x.view(b, c, 2, 3), scale_factor=2.0), 2)
    return m.conv(y).flatten(2)


def _shuffled(m: Any, x: Tensor) -> Tensor:
    b, c, _ = x.shape
    return F.max_pool2d(m.conv(F.pixel_shuffle(x.view(b, c, 2, 3), 2)), 2).flatten(2)


SUPPORTED = (
    Op("conv", _always, lambda n, m: {"conv": nn.Conv1d(n, m, 3, padding=1)}, lambda m, x: m.conv(x), lambda n, m: m),
    Op(
        "strided",
        _always,
        lambda n, m: {"conv": nn.Conv1d(n, m, 3, 2, 1), "up": nn.ConvTranspose1d(m, m, 2, 2)},
        lambda m, x: m.up(m.conv(x)),
        lambda n, m: m,
    ),
    Op(
        "grouped",
        _even,
        lambda n, m: {"conv": nn.Conv1d(n, 2 * m, 3, padding=1, groups=2)},
        lambda m, x: m.conv(x),
        lambda n, m: 2 * m,
    ),
    Op(
        "depthwise",
        _always,
        lambda n, m: {"conv": nn.Conv1d(n, 2 * n, 3, padding=1, groups=n)},
        lambda m, x: m.conv(x),
        lambda n, m: 2 * n,
    ),
    Op(
        "transposed",
        _even,
        lambda n, m: {"conv": nn.ConvTranspose1d(n, 2 * m, 1, groups=2)},
        lambda m, x: m.conv(x),
        lambda n, m: 2 * m,
    ),
    Op(
        "linear",
        _always,
        lambda n, m: {"fc": nn.Linear(n, m)},
        lambda m, x: m.fc(x.transpose(1, 2)).transpose(1, 2),
        lambda n, m: m,
    ),
    Op("mlp", _always, lambda n, m: {"a": nn.Conv1d(n, m, 1), "b": nn.Conv1d(m, n, 1)}, lambda m, x: x + m.b(F.gelu(m.a(x)))),
    Op("batch norm", _always, lambda n, m: {"norm": nn.BatchNorm1d(n)}, lambda m, x: m.norm(x)),
    Op("layer norm", _always, lambda n, m: {"norm": nn.LayerNorm(n)}, lambda m, x: m.norm(x.transpose(1, 2)).transpose(1, 2)),
    Op("rms norm", _always, lambda n, m: {"norm": nn.RMSNorm(n)}, lambda m, x: m.norm(x.transpose(1, 2)).transpose(1, 2)),
    Op("group norm", _fours, lambda n, m: {"norm": nn.GroupNorm(2, n)}, lambda m, x: m.norm(x)),
    Op("relu", _always, _none, lambda m, x: torch.relu(x)),
    Op("sigmoid", _always, _none, lambda m, x: torch.sigmoid(x)),
    Op("softmax", _always, _none, lambda m, x: x.softmax(1)),
    Op("scaled", _always, lambda n, m: {"gamma": nn.Parameter(torch.rand(n, 1) + 0.5)}, lambda m, x: x * m.gamma),
    Op("shifted", _always, lambda n, m: {"shift": torch.randn(1, n, POSITIONS)}, lambda m, x: x + m.shift),
    Op("gate", _always, lambda n, m: {"fall": nn.Linear(n, m), "rise": nn.Linear(m, n)}, _gate),
    Op("glu", _even, _none, lambda m, x: F.glu(x, 1), lambda n, m: n // 2),
    Op("swap halves", _even, _none, _swap),
    Op("shuffle", _even, _none, _shuffle),
    Op("expand", _always, _none, lambda m, x: x.mean(-1, keepdim=True).expand_as(x) + x),
    Op("stacked", _always, lambda n, m: {"a": nn.Conv1d(n, m, 1), "b": nn.Conv1d(n, m, 1)}, _stacked, lambda n, m: m),
    Op("unbound", _always, lambda n, m: {"a": nn.Conv1d(n, n, 1)}, _unbound),
    Op("twice", _always, lambda n, m: {"conv": nn.Conv1d(n, n, 3, padding=1)}, lambda m, x: m.conv(torch.tanh(m.conv(x)))),
    Op(
        "transposed twin",
        _always,
        lambda n, m: {"w": nn.Parameter(torch.randn(m, n) / n**0.5)},
        lambda m, x: m.w.t() @ torch.relu(m.w @ x),
    ),
    Op(
        "mixture",
        _always,
        lambda n, m: {"up": nn.Parameter(torch.randn(3, n, m) / n**0.5), "down": nn.Parameter(torch.randn(3, m, n) / m**0.5)},
        _mixture,
    ),
    Op("attention", _always, _attention_layers, _attend),
    Op("attention by hand", _always, _attention_layers, lambda m, x: _attend(m, x, False)),
    Op("normalised", _always, _none, lambda m, x: F.normalize(x, dim=1)),
    Op(
        "mixed positions",
        _always,
        lambda n, m: {"a": nn.Linear(POSITIONS, m), "b": nn.Linear(m, POSITIONS)},
        lambda m, x: x + m.b(torch.relu(m.a(x))),
    ),
    Op("pixels down", _always, lambda n, m: {"conv": nn.Conv2d(4 * n, m, 1)}, _pictures, lambda n, m: m),
    Op("pixels up", _fours, lambda n, m: {"conv": nn.Conv2d(n // 4, m, 3, padding=1)}, _shuffled, lambda n, m: m),
    Op(
        "recurrent",
        _always,
        lambda n, m: {"rnn": nn.GRU(n, m, batch_first=True)},
        lambda m, x: m.rnn(x.transpose(1, 2))[0].transpose(1, 2),
        lambda n, m: m,
    ),
)

# A rule freezes what these touch, or there is none and the walk does.
UNSUPPORTED = (
    Op("sort", _always, _none, lambda m, x: x.sort(1).values),
    Op("top k", _even, _none, lambda m, x: x.topk(x.shape[1] // 2, 1).values, lambda n, m: n // 2),
    Op("cumsum", _always, _none, lambda m, x: x.cumsum(1)),
    Op("roll", _always, _none, lambda m, x: x.roll(1, 1)),
    Op("flip", _always, _none, lambda m, x: x.flip(1)),
    Op("fft", _always, _none, lambda m, x: torch.fft.fft(x, dim=1).abs()),
    Op("complex", _always, _none, lambda m, x: (torch.complex(x, x.cos()) * 1j).real.contiguous()),
    Op(
        "gather",
        _always,
        lambda n, m: {"where": torch.randperm(n)},
        lambda m, x: x.gather(1, m.where[None, :, None].expand_as(x)),
    ),
    Op(
        "scatter",
        _always,
        lambda n, m: {"where": torch.randperm(n)},
        lambda m, x: torch.zeros_like(x).scatter(1, m.where[None, :, None].expand_as(x), x),
    ),
    Op("index", _always, lambda n, m: {"where": torch.randperm(n)}, lambda m, x: x[:, m.where]),
    Op("index add", _always, lambda n, m: {"where": torch.randperm(n)}, lambda m, x: x.index_add(1, m.where, x * 2)),
    Op("renorm", _always, _none, lambda m, x: torch.renorm(x, 2, 1, 1.0)),
    Op("quantile", _always, _none, lambda m, x: x - x.quantile(0.5, dim=1, keepdim=True)),
    Op("argmax", _always, _none, lambda m, x: x + x.argmax(1, keepdim=True)),
    Op("triangle", _always, lambda n, m: {"w": nn.Parameter(torch.randn(n, n) / n**0.5)}, lambda m, x: m.w.tril(1) @ x),
    Op("ones above", _always, _none, lambda m, x: torch.ones(x.shape[1], x.shape[1]).triu() @ x),
    Op("counted", _always, _none, lambda m, x: x * torch.arange(x.shape[1])[:, None]),
    Op("one position", _always, _none, lambda m, x: x * x[:, 0:1] + x.select(1, 0)[:, None]),
    Op("written", _always, _none, lambda m, x: x.index_fill(1, torch.tensor([0]), 0.5)),
    Op(
        "inverse",
        _always,
        lambda n, m: {"w": nn.Parameter(torch.eye(n) + torch.randn(n, n) / n / 4)},
        lambda m, x: torch.linalg.inv(m.w) @ x,
    ),
    Op("misaligned", _even, _none, lambda m, x: x.transpose(1, 2).reshape(x.shape)),
    Op("custom", _always, _none, lambda m, x: reversed_features(x)),
    Op("windows", _even, _none, lambda m, x: x.unfold(1, 2, 2).flatten(2)[:, :, :POSITIONS], lambda n, m: n // 2),
)


@torch.library.custom_op("pomona_tests::reversed_features", mutates_args=())
def reversed_features(x: Tensor) -> Tensor:
    """An op that nobody has heard of."""
    return x.flip(1) * 2


@reversed_features.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)
