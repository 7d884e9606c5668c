"""What stripes keep, and what they would keep with another channel in one of their places."""

import pytest
import torch
from torch.testing import assert_close

from pomona.orders.stripes import _with_others, kept
from pomona.orders.swaps import exchanged


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 4), (4, 8), (1, 2)])
def test_what_a_stripe_would_keep_with_a_newcomer_is_what_it_keeps_once_it_is_there(n, m):
    torch.manual_seed(0)
    columns, newcomers = torch.randn(5, 3 * m), torch.randn(5, 4)  # scores may be negative
    places = torch.tensor([1, m, 2 * m - 1])
    found = _with_others(columns, places, newcomers, n, m)
    for row, place in enumerate(places.tolist()):
        for column in range(4):
            tried = columns.clone()
            tried[:, place] = newcomers[:, column]
            assert_close(float(found[row, column]), float(kept(tried, n, m)[place // m]), rtol=1e-5, atol=1e-5)


def test_two_of_four_largest_scores_are_kept():
    row = torch.tensor([[4, 1, 3, 0.5, 0, 0, 7, 6], [1.0, 1, 1, 1, 0, 0, 0, 0]])
    assert kept(row, 2, 4).tolist() == [9.0, 13.0]


def test_exchanges_end_where_none_of_two_helps():
    torch.manual_seed(0)
    worth = torch.rand(20, 20, dtype=torch.float64)
    got = exchanged(worth)
    now = worth[:, got]
    gain = now + now.T - (now.diagonal()[:, None] + now.diagonal())
    assert got.sort().values.tolist() == list(range(20)) and float(gain.max()) < 1e-5
    assert float(now.diagonal().sum()) > float(worth.diagonal().sum())
