import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.native.alive import alive


@pytest.mark.parametrize("isa", [*library().isas, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@given(rows=st.integers(0, 20), columns=st.integers(0, 70), share=st.sampled_from([0.5, 0.95, 1.0]), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_rows_and_columns_with_anything_but_zeros_are_found(isa, dtype, rows, columns, share, seed):
    draw = torch.Generator().manual_seed(seed)
    x = (torch.randn(rows, columns, generator=draw) * (torch.rand(rows, columns, generator=draw) > share)).to(dtype)
    with using(isa):
        of_rows, of_columns = alive(x)
    assert torch.equal(of_rows, (x != 0).any(1)) and torch.equal(of_columns, (x != 0).any(0))


@pytest.mark.parametrize("isa", [*library().isas, None])
def test_minus_zero_is_dead_and_what_is_no_number_lives(isa):
    x = torch.zeros(4, 3, dtype=torch.float64)
    x[0], x[1, 1], x[2, 2] = -0.0, float("nan"), 5e-324
    with using(isa):
        for given_ in (x, x.t().contiguous().t()):
            of_rows, of_columns = alive(given_)
            assert of_rows.tolist() == [False, True, True, False] and of_columns.tolist() == [False, True, True]
