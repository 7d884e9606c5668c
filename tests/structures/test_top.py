"""Exactly so many, ties to the lower index."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pomona.structures.top import best, top
from pomona.vocabulary import Scores

VALUES = st.sampled_from([-1.0, 0.0, 0.5, 2.0, float("-inf")])


@given(st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=1, max_size=5), st.data())
def test_the_highest_stay_and_ties_go_to_the_lower_index(rows, draw):
    keep = [draw.draw(st.integers(0, 4)) for _ in rows]
    mask = top(torch.tensor(rows), torch.tensor(keep))
    for row, count, got in zip(rows, keep, mask.tolist(), strict=True):
        first = sorted(range(4), key=lambda i: (-row[i], i))[:count]
        assert got == [i in first for i in range(4)]


def test_an_order_overrules_values():
    scores = Scores(torch.tensor([9.0, 1.0, 5.0]), order=torch.tensor([0, 2, 1]))
    assert best(scores, torch.tensor(1)).tolist() == [False, True, False]


def test_rows_are_counted_along_their_dimension():
    grid = torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]])
    assert best(Scores(grid), torch.tensor([1, 2]), row_dims=(1,)).tolist() == [[False, True], [False, True], [True, False]]
