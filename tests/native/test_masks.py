"""Exactly so many stay, of equals the first, on every instruction set."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pomona.native.masks as masks
from pomona.native import library, using
from pomona.native.masks import above, as_bits, top
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]
KINDS = st.sampled_from(["normal", "ties", "dead", "one outlier", "tiny"])


def drawn(rows, columns, kind, seed):
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=draw)
    if kind == "ties":
        return values.round()
    if kind == "dead":
        return values.masked_fill(torch.rand(rows, columns, generator=draw) < 0.6, -torch.inf)
    if kind == "one outlier" and columns:
        values[:, 0] = 1e30
    return values * 1e-40 if kind == "tiny" else values


def by_sorting(ranks, keep):
    """A stable sort, row by row."""
    mask = torch.zeros(ranks.shape, dtype=torch.bool)
    for row, count, out in zip(ranks, keep.tolist(), mask, strict=True):
        out[row.argsort(descending=True, stable=True)[:count]] = True
    return mask


@pytest.mark.parametrize("isa", EVERY)
@given(rows=st.integers(0, 6), columns=st.integers(0, 150), kind=KINDS, threads=st.integers(1, 3), seed=st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_the_best_of_every_row(isa, rows, columns, kind, threads, seed):
    ranks = drawn(rows, columns, kind, seed)
    keep = torch.randint(0, columns + 1, (rows,), generator=torch.Generator().manual_seed(seed))
    with using(isa):
        assert torch.equal(top(ranks, keep, threads), by_sorting(ranks, keep))


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("kind", ["normal", "ties", "dead", "one outlier"])
def test_long_rows_are_cut_as_short_ones_are(isa, kind, monkeypatch):
    monkeypatch.setattr(masks, "_IN_CACHE", 100)
    ranks = drawn(5, 1001, kind, 0)
    keep = torch.tensor([0, 1, 500, 1000, 1001])
    with using(isa):
        assert torch.equal(top(ranks, keep), by_sorting(ranks, keep))


@pytest.mark.parametrize("isa", EVERY)
@given(n=st.integers(0, 200), room=st.integers(0, 40), kind=KINDS, absolute=st.booleans(), threads=st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_those_above_stay_and_the_first_of_those_level(isa, n, room, kind, absolute, threads):
    values = drawn(1, n, kind, 0)[0]
    own = values.abs() if absolute else values
    exact = (own > 1) | (own == 1) & ((own == 1).cumsum(0) <= room)
    with using(isa):
        assert torch.equal(above(values, 1.0, room, absolute=absolute, threads=threads), exact)
        bits = above(values, 1.0, room, absolute=absolute, packed=True, threads=threads)
    assert torch.equal(bits, as_bits(exact))


@pytest.mark.parametrize("isa", EVERY)
def test_threads_do_not_change_who_of_many_equals_stays(isa):
    values = torch.zeros(300_001)
    with using(isa):
        for room in (0, 1, 123_456, 300_001):
            assert torch.equal(above(values, 0.0, room, threads=4), torch.arange(300_001) < room)


@pytest.mark.parametrize("isa", EVERY)
def test_nan_is_refused(isa):
    ranks = torch.zeros(3, 100)
    ranks[2, 99] = float("nan")
    with using(isa), pytest.raises(InputError, match="NaN"):
        top(ranks, torch.full((3,), 50))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bfloat16])
def test_other_dtypes_are_ranked_too(dtype):
    ranks = torch.randint(0, 9, (4, 33), generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(top(ranks, torch.tensor([1, 8, 30, 33])), by_sorting(ranks, torch.tensor([1, 8, 30, 33])))


def test_bits_are_the_entries_in_order():
    assert as_bits(torch.tensor([True, False, False, True, False, False, False, False, True])).tolist() == [9, 1]
