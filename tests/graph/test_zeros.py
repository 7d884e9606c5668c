"""Leaving out products with zeros changes no number, and is done only where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pomona.graph.precise import precisely
from pomona.graph.zeros import LEAN, living


def drawn(*shape: int, dead: tuple[int, ...] = ()) -> Tensor:
    """Noise; half of the positions of each dead dimension are zero all over."""
    random = torch.Generator().manual_seed(len(shape))
    x = torch.randn(shape, generator=random, dtype=torch.float64)
    for dim in dead:
        x.index_fill_(dim, torch.randperm(shape[dim], generator=random)[: shape[dim] // 2], 0)
    return x


Q, K, V = drawn(2, 8, 300, 16), drawn(2, 8, 300, 16) + 1, drawn(2, 8, 300, 16, dead=(1,))
NARROW = drawn(2, 8, 300, 16) * (torch.arange(16) % 4 > 0)
ROWS, BIAS, IMAGE = drawn(2, 300, 64), drawn(48), drawn(1, 32, 40, 40)
WORK: dict[str, Callable[[], Tensor]] = {
    "linear": lambda: F.linear(ROWS, drawn(48, 64, dead=(0, 1)), BIAS),
    "linear whose dead rows have no bias": lambda: F.linear(ROWS, (weight := drawn(48, 64, dead=(0, 1))), BIAS * weight.any(1)),
    "linear without bias": lambda: F.linear(ROWS, drawn(48, 64, dead=(1,))),
    "heads": lambda: F.scaled_dot_product_attention(Q, K, V),
    "heads as they lie": lambda: F.scaled_dot_product_attention(
        *(x.transpose(1, 2).contiguous().transpose(1, 2) for x in (Q, K, V))
    ),
    "heads that look at fewer places": lambda: F.scaled_dot_product_attention(Q, K[:, :, :40], V[:, :, :40]),
    "widths of heads": lambda: F.scaled_dot_product_attention(NARROW, K, drawn(2, 8, 300, 16, dead=(3,))),
    "widths and heads": lambda: F.scaled_dot_product_attention(
        NARROW, drawn(2, 8, 300, 16, dead=(3,)), V[..., :4].repeat(1, 1, 1, 4)
    ),
    "widths that live in dead heads only": lambda: F.scaled_dot_product_attention(NARROW + (V == 0).all(3, keepdim=True), K, V),
    "other widths in other heads": lambda: F.scaled_dot_product_attention(
        Q * (torch.arange(16) // 4 == torch.arange(8).view(8, 1, 1) % 2 * 3), K, drawn(2, 8, 300, 16, dead=(3,))
    ),
    "causal heads": lambda: F.scaled_dot_product_attention(Q, K, V, is_causal=True, scale=0.3),
    "written out": lambda: (Q @ K.transpose(-1, -2)).softmax(-1) @ V,
    "convolution": lambda: F.conv2d(IMAGE, drawn(48, 32, 3, 3, dead=(0, 1)), BIAS, padding=1, stride=2),
    "convolution of inputs": lambda: F.conv2d(IMAGE, drawn(48, 32, 3, 3, dead=(1,))),
    "depthwise": lambda: F.conv2d(IMAGE, drawn(32, 1, 3, 3, dead=(0,)), drawn(32), groups=32),
    "along a line": lambda: F.conv1d(drawn(2, 64, 300), drawn(48, 64, 3, dead=(0, 1)), BIAS),
}


def counted(hits: list[bool]) -> dict[Any, Any]:
    """The shorter ways, which note whether they were taken."""

    def noting(way: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*args: Any, **kwargs: Any) -> Any:
            made = way(*args, **kwargs)
            hits.append(made is not None)
            return made

        return taken

    return {op: noting(way) for op, way in LEAN.items()}


@pytest.mark.parametrize("name", WORK)
def test_products_without_their_zeros_are_the_same_numbers_lying_the_same_way(name: str) -> None:
    hits: list[bool] = []
    with precisely():
        plain = WORK[name]()
    with precisely(counted(hits)):
        lean = WORK[name]()
    assert any(hits)
    torch.testing.assert_close(lean, plain, rtol=1e-13, atol=1e-13)
    assert lean.stride() == plain.stride()


def test_zero_times_infinity_stays_no_number() -> None:
    x, weight = ROWS.clone(), drawn(48, 64, dead=(0, 1))
    x[0, 0] = torch.inf
    with precisely():
        plain = F.linear(x, weight, BIAS)
    with precisely(LEAN):
        lean = F.linear(x, weight, BIAS)
    assert plain.isnan().any()
    assert torch.equal(plain.isnan(), lean.isnan())


def test_what_a_dead_head_says_of_infinity_is_no_number() -> None:
    k = K.clone()
    k[0, (V[0] == 0).all(2).all(1).nonzero()[0], 0, 0] = torch.inf
    with precisely():
        plain = F.scaled_dot_product_attention(Q, k, V)
    with precisely(LEAN):
        lean = F.scaled_dot_product_attention(Q, k, V)
    assert plain.isnan().any()
    assert torch.equal(plain.isnan(), lean.isnan())


def test_what_is_zero_at_first_sight_only_is_kept() -> None:
    weight = torch.zeros(40, 64)
    weight[30, 5], weight[0, 7] = 1e-300, torch.nan
    assert living(weight, 1, 0).tolist() == [7]  # float32 cannot hold the first
    assert living(weight.double(), 1, 0).tolist() == [7]
    weight = weight.double()
    weight[30, 5] = 1e-300
    assert living(weight, 1, 0).tolist() == [5, 7]


def test_where_next_to_nothing_is_zero_nothing_is_gained() -> None:
    weight = drawn(48, 64)
    weight[:, 3] = 0
    assert living(weight, 1, 0) is None
