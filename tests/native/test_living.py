import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.native.living import living

EVERY = [*library().isas, None]


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@given(shape=st.lists(st.integers(0, 60), max_size=3), share=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_what_is_not_zero_is_counted(isa, dtype, shape, share, seed):
    draw = torch.Generator().manual_seed(seed)
    zeros = torch.rand(shape, generator=draw) < share
    values = torch.randn(shape, generator=draw).to(dtype).masked_fill(zeros, -0.0)
    with using(isa):
        assert living(values) == int((~zeros).sum())
        assert living(values.mT if values.dim() > 1 else values) == int((~zeros).sum())


@pytest.mark.parametrize("isa", EVERY)
def test_numbers_of_any_kind_count_and_many_do_not_overflow(isa):
    values = torch.full((1_500_000,), 5e-324, dtype=torch.float64)
    values[:7] = torch.tensor([0.0, -0.0, float("nan"), float("inf"), -float("inf"), -5e-324, 0.0], dtype=torch.float64)
    with using(isa):
        assert living(values) == 1_500_000 - 3
