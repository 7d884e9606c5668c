import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.native.picked import picked
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@given(data=st.data(), rows=st.integers(1, 30), columns=st.integers(1, 40), turned=st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_matrix_is_of_the_rows_and_columns_that_are_named(isa, dtype, data, rows, columns, turned):
    x = torch.arange(rows * columns).view(rows, columns).to(dtype)
    x = x.mT.contiguous().mT if turned else x
    at = [data.draw(st.none() | st.lists(st.integers(0, n - 1), max_size=50)) for n in (rows, columns)]
    which = [None if a is None else torch.tensor(a, dtype=torch.int64) for a in at]
    wanted = x[torch.arange(rows) if which[0] is None else which[0]]
    wanted = wanted[:, torch.arange(columns) if which[1] is None else which[1]]
    with using(isa):
        got = picked(x, *which, threads=2)
    assert torch.equal(got, wanted) and got.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("at", [-1, 4])
def test_what_is_not_there_is_refused(isa, at):
    with using(isa):
        with pytest.raises(InputError, match=f"no row {at} among 4"):
            picked(torch.zeros(4, 5), torch.tensor([0, at]), None)
        with pytest.raises(InputError, match=f"no column {at} among 4"):
            picked(torch.zeros(5, 4), None, torch.tensor([0, at]))
