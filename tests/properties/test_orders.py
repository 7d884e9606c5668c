"""Laws of every registered order of channels."""

from itertools import combinations

import pytest
import torch

from pomona import registry
from pomona.orders import order
from pomona.orders.stripes import kept
from pomona.vocabulary import InputError

ORDERS = [kind() for kind in registry.parts("orders").values()]
pytest.importorskip("scipy")


def total(columns, found, n=2, m=4):
    return float(kept(columns[:, found], n, m).sum())


def scores(rows, channels, seed=0, spread=0.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, channels, generator=g).abs() * torch.exp(spread * torch.randn(channels, generator=g))


@pytest.mark.parametrize("part", ORDERS, ids=str)
@pytest.mark.parametrize(("n", "m", "channels"), [(2, 4, 4), (2, 4, 32), (4, 8, 64), (1, 4, 12), (2, 4, 128)])
def test_an_order_names_every_channel_once_and_never_keeps_less(part, n, m, channels):
    columns = scores(7, channels)
    found = part.arrange(columns, n, m)
    assert found.dtype == torch.int64 and found.sort().values.tolist() == list(range(channels))
    assert total(columns, found, n, m) >= total(columns, torch.arange(channels), n, m) * (1 - 1e-9)


@pytest.mark.parametrize("part", ORDERS, ids=str)
def test_equal_scores_give_equal_orders_and_are_left_as_they_are(part):
    columns = scores(16, 64)
    before = columns.clone()
    assert torch.equal(part.arrange(columns, 2, 4), part.arrange(columns.clone(), 2, 4)) and torch.equal(columns, before)


@pytest.mark.parametrize("part", ORDERS, ids=str)
def test_where_every_order_keeps_the_same_the_channels_stay(part):
    assert part.arrange(torch.ones(3, 16), 2, 4).tolist() == list(range(16))


@pytest.mark.parametrize("part", ORDERS, ids=str)
def test_scores_of_both_signs_are_ordered_too(part):
    columns = scores(8, 32) - 1
    assert total(columns, part.arrange(columns, 2, 4)) > total(columns, torch.arange(32))


@pytest.mark.parametrize("part", ORDERS, ids=str)
def test_most_tiny_problems_are_solved_to_the_optimum_and_all_to_two_percent(part):
    splits = [[0, *s] for s in combinations(range(1, 8), 3)]  # 35
    shares = []
    for seed in range(10):
        columns = scores(8, 8, seed)
        best = max(total(columns, torch.tensor(s + [c for c in range(8) if c not in s])) for s in splits)
        shares.append(total(columns, part.arrange(columns, 2, 4)) / best)
    assert sum(share > 1 - 1e-6 for share in shares) > 7 and min(shares) > 0.98


@pytest.mark.parametrize("part", ORDERS, ids=str)
@pytest.mark.parametrize(("spread", "gain"), [(0.0, 1.02), (0.7, 1.03)])
def test_on_random_matrices_more_is_kept_the_more_channels_differ(part, spread, gain):
    columns = scores(64, 64, 1, spread)
    assert total(columns, part.arrange(columns, 2, 4)) > gain * total(columns, torch.arange(64))


def test_a_word_means_an_order_and_a_wrong_one_is_told():
    assert [order(word) for word in ("swaps", "assignment", "none")] == [
        registry.build("Swaps()"),
        registry.build("Assignment()"),
        None,
    ]
    with pytest.raises(InputError, match="did you mean 'swaps'"):
        order("swap")
