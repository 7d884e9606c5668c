"""What units are worth, before and after any of them moved, is what the error of a new fit says."""

import pytest
import torch
from torch.testing import assert_close

from layer_units import random


def moved(keep, *units):
    other = keep.clone()
    for unit in units:
        other[unit] = ~other[unit]
    return other


@pytest.mark.parametrize("k", [1, 3])
def test_worth_and_trades_are_what_the_error_changes_by(k):
    problem, keep = random(7, k), torch.tensor([True, False, True, True, False, True, False])
    at, lost = problem._pivots(keep), problem.lost(keep)
    inside, outside = keep.nonzero()[:, 0], (~keep).nonzero()[:, 0]
    for which in (inside, outside):
        changes = [abs(problem.lost(moved(keep, unit)) - lost) for unit in which.tolist()]
        assert_close(at.worth(which), torch.tensor(changes, dtype=torch.float64), rtol=1e-7, atol=1e-9)
    trades = torch.cat(list(at.trades(inside, outside)))
    changes = [[problem.lost(moved(keep, i, j)) - lost for j in outside.tolist()] for i in inside.tolist()]
    assert_close(trades, torch.tensor(changes, dtype=torch.float64), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2])
def test_a_hundred_moves_later_the_table_is_still_that_of_who_stays(k):
    problem = random(9, k)
    keep = torch.tensor([True, False] * 4 + [True])
    at = problem._pivots(keep)
    for unit in torch.randint(9, (100,), generator=torch.Generator().manual_seed(0)).tolist():
        at.move(problem.places[unit])
        keep = moved(keep, unit)
    fresh = problem._pivots(keep)
    assert_close(at.table, fresh.table, rtol=1e-8, atol=1e-8)
    assert_close(at.products, fresh.products, rtol=1e-8, atol=1e-8)


def test_a_table_that_is_looked_at_in_pieces_is_the_same(monkeypatch):
    problem, keep = random(8, 2), torch.tensor([True, False] * 4)
    at, inside, outside = problem._pivots(keep), keep.nonzero()[:, 0], (~keep).nonzero()[:, 0]
    (whole,) = at.trades(inside, outside)
    monkeypatch.setattr("pomona.quadratic.pivots._AT_ONCE", 40)
    pieces = list(at.trades(inside, outside))
    assert len(pieces) > 1
    assert_close(torch.cat(pieces), whole)
