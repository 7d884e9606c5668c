import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.native.conjugate import step

EVERY = [*library().isas, None]


@pytest.mark.parametrize("isa", EVERY)
@given(
    groups=st.integers(1, 3),
    rows=st.integers(0, 20),
    columns=st.integers(1, 40),
    threads=st.integers(1, 3),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_a_step_goes_to_where_each_row_is_least(isa, groups, rows, columns, threads, seed):
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    inputs = normal(groups, columns, 2 * columns)
    matrix = inputs @ inputs.mT / columns + torch.eye(columns, dtype=torch.float64)
    mask = torch.rand(groups, rows, columns, generator=draw) < 0.7
    scale = 1 / matrix.diagonal(dim1=1, dim2=2)[:, None]
    found, gradient, direction = (
        normal(groups, rows, columns),
        normal(groups, rows, columns) * mask,
        normal(groups, rows, columns) * mask,
    )
    slope = (gradient * scale * gradient).sum(2, keepdim=True)
    along = direction @ matrix
    given_ = [x.float().contiguous() for x in (along, scale, found, gradient, direction, slope)]
    with using(isa):
        step(given_[0], mask, given_[1], *given_[2:], threads=threads)
    length = slope / (direction * along).sum(2, keepdim=True).clamp_min(1e-30)
    now = gradient - length * along * mask
    next_ = (now * scale * now).sum(2, keepdim=True)
    wanted = (found + length * direction, now, now * scale + next_ / slope.clamp_min(1e-30) * direction, next_)
    for got, right in zip(given_[2:], wanted, strict=True):
        torch.testing.assert_close(got.double(), right, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("isa", EVERY)
def test_a_row_that_is_done_stays(isa):
    found, nothing = torch.randn(1, 2, 5), torch.zeros(1, 2, 5)
    before, slope = found.clone(), torch.zeros(1, 2, 1)
    gradient, direction = nothing.clone(), nothing.clone()
    with using(isa):
        step(nothing, torch.ones(1, 2, 5, dtype=torch.bool), torch.ones(1, 1, 5), found, gradient, direction, slope)
    assert torch.equal(found, before) and torch.equal(gradient, nothing) and torch.equal(direction, nothing)
