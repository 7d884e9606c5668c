"""Rows walked in single precision against torch in double precision: the same columns leave at the same prices."""

import pytest
import torch
from torch.testing import assert_close

from pomona.native.library import library, using
from pomona.native.walk import walk
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]


def problem(rows, columns, seed=0):
    """An inverse and weights, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3 * columns, columns, generator=generator, dtype=torch.float64)
    x = x @ torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    gram = x.T @ x
    gram += 0.01 * gram.diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    return torch.linalg.inv(gram), torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def same(isa, inverse, weight, steps, quota=None, window=1, threads=None):
    expected = walk(inverse, weight, steps, quota, window)
    kept = None if quota is None else quota.clone()
    with using(isa):
        order, loss, left = walk(inverse.float(), weight.float(), steps, quota, window, threads)
    assert torch.equal(order, expected[0])
    assert_close(loss, expected[1].float(), rtol=1e-3, atol=0.0)
    assert_close(left, expected[2].float(), rtol=1e-3, atol=1e-4)
    assert quota is None or torch.equal(quota, kept)
    gone = torch.zeros_like(weight, dtype=torch.bool)
    for row, number in enumerate(steps.tolist()):
        gone[row, order[row, :number]] = True
        assert (order[row, number:] == -1).all() and loss[row, number:].isinf().all()
    assert (left[gone] == 0).all()


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("columns", [1, 7, 24, 48, 49, 100, 200])
def test_the_same_columns_leave_in_the_same_order(isa, columns):
    inverse, weight = problem(6, columns)
    same(isa, inverse, weight, torch.tensor([columns // 2, columns, 1, 0, columns // 3, columns - 1]))


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_on_any_number_of_threads(isa, threads):
    inverse, weight = problem(5, 80)
    same(isa, inverse, weight, torch.tensor([40, 3, 80, 60, 41]), threads=threads)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize(("window", "leave"), [(4, 2), (8, 4), (4, 3), (2, 1)])
def test_no_window_loses_more_than_its_quota(isa, window, leave):
    inverse, weight = problem(4, 96)
    quota = torch.full((4, 96 // window), leave)
    quota[1, 0], quota[2] = 0, window
    steps = quota.sum(1)
    same(isa, inverse, weight, steps, quota, window)


@pytest.mark.parametrize("isa", EVERY)
def test_a_row_ends_where_nobody_may_leave_any_more(isa):
    inverse, weight = problem(2, 32)
    quota = torch.zeros(2, 8, dtype=torch.int64)
    quota[0, 3] = 2
    with using(isa):
        order, _, left = walk(inverse.float(), weight.float(), torch.tensor([2, 0]), quota, 4)
    assert (order[0] // 4 == 3).all() and (order[1] == -1).all()
    assert int((left == 0).sum()) == 2


@pytest.mark.parametrize("isa", EVERY)
def test_of_equal_ones_the_first_leaves(isa):
    with using(isa):
        order, loss, left = walk(torch.eye(70), torch.ones(2, 70), torch.tensor([9, 70]))
    assert_close(loss[1], torch.ones(70))
    assert sorted(order[1].tolist()) == list(range(70)) and int((left[0] == 0).sum()) == 9
    if isa is not None:
        assert order[0, :9].tolist() == list(range(9))


@pytest.mark.parametrize("isa", EVERY)
def test_what_nothing_was_seen_of_leaves_first(isa):
    inverse, weight = problem(3, 60)
    weight[:, 17] = weight[:, 50] = 0.0
    with using(isa):
        order, loss, _ = walk(inverse.float(), weight.float(), torch.full((3,), 20))
    assert (order[:, :2].sort(1).values == torch.tensor([17, 50])).all() and (loss[:, :2] == 0).all()


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize(("large", "allowed"), [(False, 1), (True, 4)])
def test_a_row_that_cannot_take_its_steps_is_refused(isa, large, allowed):
    inverse, weight = (part.float() for part in problem(3, 32))
    if large:
        weight[1, 3:] = 1e30
    with using(isa), pytest.raises(InputError, match="no weight left that may leave"):
        walk(inverse, weight, torch.tensor([2, 9, 0]), torch.full((3, 8), allowed), 4)


@pytest.mark.parametrize("isa", EVERY)
def test_windows_that_do_not_fit_are_refused(isa):
    with using(isa), pytest.raises(InputError, match="10 columns are not 3 windows of 4"):
        walk(torch.eye(10), torch.ones(1, 10), torch.tensor([2]), torch.ones(1, 3, dtype=torch.int64), 4)


def test_inputs_stay_as_they_are():
    inverse, weight = (part.float() for part in problem(3, 40))
    quota = torch.full((3, 10), 2)
    before = [part.clone() for part in (inverse, weight, quota)]
    walk(inverse, weight, torch.full((3,), 20), quota, 4)
    assert all(torch.equal(one, two) for one, two in zip((inverse, weight, quota), before, strict=True))


def test_long_rows_move_up_on_their_way():
    """A row whose slots are emptied several times over, with windows that close on the way."""
    inverse, weight = problem(2, 400)
    quota = torch.full((2, 100), 3)
    same(library().isa, inverse, weight, torch.tensor([300, 290]), quota, 4)
