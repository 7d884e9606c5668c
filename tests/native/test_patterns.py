"""n of every m, of equals the first, on every instruction set."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.native.masks import as_bits
from pomona.native.patterns import best_of
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]


def by_sorting(groups, n):
    first = groups.argsort(dim=1, descending=True, stable=True)[:, :n]
    return torch.zeros(groups.shape, dtype=torch.bool).scatter_(1, first, True)


@pytest.mark.parametrize("isa", EVERY)
@given(
    number=st.integers(0, 90), m=st.integers(2, 17), k=st.sampled_from([1, 1, 2, 3, 9, 25]), kept=st.integers(1, 16),
    ties=st.booleans(), threads=st.integers(1, 3), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_the_best_of_every_group(isa, number, m, k, kept, ties, threads, seed):
    groups = torch.randn(number, m, k, generator=torch.Generator().manual_seed(seed))
    groups = groups.round() if ties else groups
    n = min(kept, m - 1)
    with using(isa):
        assert torch.equal(best_of(groups, n, threads=threads), by_sorting(groups, n))


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("m", [2, 4, 8, 16])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 100, 10_001])
def test_bits_say_the_same(isa, m, number):
    groups = torch.randn(number, m, 1, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    for n in range(1, m, 3):
        with using(isa):
            assert torch.equal(best_of(groups, n, packed=True), as_bits(by_sorting(groups, n).flatten()))


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("shape", [(9, 4, 1), (9, 4, 2), (9, 2, 1), (9, 16, 1)])
def test_nan_is_refused(isa, shape):
    groups = torch.zeros(shape)
    groups[8, -1] = float("nan")
    with using(isa), pytest.raises(InputError, match="NaN"):
        best_of(groups, 1)


def test_infinities_and_integers_are_ranked_too():
    values = torch.tensor([[-torch.inf, torch.inf, -torch.inf, 1.0]]).view(1, 4, 1)
    assert best_of(values, 3).flatten().tolist() == [True, True, False, True]
    assert best_of(torch.tensor([3, 3, 4, 0]).view(1, 4, 1), 2).flatten().tolist() == [True, False, True, False]
