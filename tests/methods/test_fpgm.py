"""Filter pruning by the geometric median (He et al., 2019)."""

import torch
from torch.testing import assert_close

from handmade import filters
from pomona.criteria.geometric_median import GeometricMedian
from pomona.criteria.magnitude import Magnitude
from pomona.structures.axes import Axes


def score(rows):
    return GeometricMedian().score(filters(rows)).value


def cut_one(rows, criterion):
    given = filters(rows)
    keep = Axes().select(given.site, criterion.score(given), torch.tensor(len(rows) - 1))
    return int((~keep).nonzero())


def test_the_middle_goes_where_the_norm_would_take_the_smallest():
    rows = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    assert_close(score(rows), torch.tensor([13.0, 11.0, 11.0, 27.0]))
    assert cut_one(rows, GeometricMedian()) in (1, 2)
    assert cut_one(rows, Magnitude()) == 0


def test_a_duplicate_goes_before_the_loner():
    value = score(torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [-3.0, 5.0]]))
    assert value[0] == value[1] == value[2] < value[3]


def test_translation_and_rotation_change_nothing_and_scale_scales():
    torch.manual_seed(0)
    rows = torch.randn(6, 5)
    turn = torch.linalg.qr(torch.randn(5, 5)).Q
    assert_close(score(rows + torch.randn(5)), score(rows))
    assert_close(score(rows @ turn), score(rows))
    assert_close(score(3 * rows), 3 * score(rows))


def test_near_identical_filters_equal_brute_force():
    torch.manual_seed(0)
    rows = 100 + 1e-3 * torch.randn(30, 20)
    brute = torch.stack([(rows.double()[:, None] - rows.double()[None]).norm(dim=2).sum(1)])[0]
    assert_close(score(rows), brute.float(), rtol=1e-5, atol=0)


def test_the_dead_do_not_count():
    rows = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    alive = torch.tensor([True, True, True, False])
    assert_close(GeometricMedian().score(filters(rows, alive=alive)).value, torch.tensor([3.0, 2.0, 3.0, 27.0]))
