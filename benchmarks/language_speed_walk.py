"""OBC's walk over rows of a layer: by the kernel, by torch, and with an inverse for each row as the paper has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from pomona.native.library import using
from pomona.native.walk import walk
from pomona.runtime import machine

ROWS = {576: 24, 1536: 4}  # columns of a layer: rows of it that are walked


@dataclass
class Found:
    """Milliseconds a row, round by round, by who walks; and which share of the order of the paper's walk is the kernel's, too."""

    rows: int
    share: float
    cpu: str
    ms: dict[str, list[float]] = field(default_factory=dict)
    agreement: float = 0.0


def problem(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """An inverse of correlated inputs of unlike size, and weights, in float32."""
    draw = torch.Generator().manual_seed(0)
    mix = torch.eye(columns) + 0.3 * torch.randn(columns, columns, generator=draw) / columns**0.5
    x = (torch.randn(4 * columns, columns, generator=draw) @ mix * (0.5 * torch.randn(columns, generator=draw)).exp()).double()
    gram = x.T @ x
    gram += 0.01 * gram.diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    return torch.linalg.inv(gram).float(), torch.randn(rows, columns, generator=draw)


def as_published(inverse: Tensor, weight: Tensor, steps: int) -> Tensor:
    """The order, (rows, steps): every row with an inverse of its own, of which each step takes a column and a row away."""
    rows, columns = weight.shape
    own, weight, each = inverse.repeat(rows, 1, 1), weight.clone(), torch.arange(rows)
    alive, order = torch.ones(rows, columns, dtype=torch.bool), []
    for _ in range(steps):
        price = (weight.square() / own.diagonal(dim1=1, dim2=2)).masked_fill(~alive, torch.inf)
        at = price.argmin(1)
        column, pivot = own[each, :, at], own[each, at, at, None]
        weight -= column * (weight[each, at, None] / pivot)
        own.baddbmm_(column[:, :, None], (column / pivot)[:, None], alpha=-1)
        alive[each, at] = False
        own.diagonal(dim1=1, dim2=2)[each, at] = 1.0
        order.append(at)
    return torch.stack(order, 1)


def measure(rounds: int, share: float = 0.5) -> dict[str, Found]:
    """Turn by turn, on one thread, by the processor's clock; by columns."""
    torch.set_num_threads(1)
    found = {}
    for columns, rows in ROWS.items():
        (inverse, weight), number = problem(rows, columns), int(columns * share)
        steps = torch.full((rows,), number)
        one = found[str(columns)] = Found(rows, share, machine()["cpu"])
        walks: dict[str, Callable[[], Tensor]] = {
            "kernel": partial(order_of, inverse, weight, steps),
            "torch": partial(by_torch, inverse, weight, steps),
            "published": partial(as_published, inverse, weight, number),
        }
        orders = {}
        for _ in range(rounds):
            for name, call in walks.items():
                start = time.process_time()
                orders[name] = call()
                one.ms.setdefault(name, []).append(1e3 * (time.process_time() - start) / rows)
        one.agreement = float((orders["kernel"] == orders["published"]).float().mean())
    return found


def order_of(inverse: Tensor, weight: Tensor, steps: Tensor) -> Tensor:
    """The order in which columns leave, by the kernel where there is one."""
    return walk(inverse, weight, steps)[0]


def by_torch(inverse: Tensor, weight: Tensor, steps: Tensor) -> Tensor:
    """The same where there are no kernels."""
    with using(None):
        return order_of(inverse, weight, steps)
