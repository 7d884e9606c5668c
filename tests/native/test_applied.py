import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.native.applied import applied, apply_

EVERY = [*library().isas, None]


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@given(shape=st.lists(st.integers(0, 40), min_size=1, max_size=3), turned=st.booleans(), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_values_stay_where_the_mask_is_true(isa, dtype, shape, turned, seed):
    draw = torch.Generator().manual_seed(seed)
    values, mask = torch.randn(shape, generator=draw).to(dtype), torch.rand(shape, generator=draw) < 0.5
    values[~mask & (torch.rand(shape, generator=draw) < 0.5)] = float("nan")
    if turned:
        values = values.mT.contiguous().mT if values.dim() > 1 else values
    wanted = torch.where(mask, values, 0)
    with using(isa):
        assert torch.equal(applied(values, mask), wanted)
        assert apply_(values, mask) is values and torch.equal(values, wanted)


@pytest.mark.parametrize("isa", EVERY)
def test_a_mask_that_broadcasts_is_spread(isa):
    values = torch.randn(4, 5)
    with using(isa):
        assert torch.equal(applied(values, torch.tensor([[True], [False], [True], [True]]))[1], torch.zeros(5))


@pytest.mark.parametrize("isa", EVERY)
def test_gradients_through_values_written_to_are_refused(isa):
    weight = torch.ones(3, requires_grad=True)
    out = (weight * weight).sum()
    with using(isa):
        apply_(weight, torch.tensor([True, False, True]))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()
