"""What a block's sweep leaves, on every instruction set."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.native.sweep import settle

EVERY = [*library().isas, None]


def drawn(groups, width, rows, seed, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(groups, width, 2 * width, generator=draw, dtype=torch.float64)
    inverse = torch.linalg.inv(inputs @ inputs.mT / width + torch.eye(width, dtype=torch.float64))
    factor = torch.linalg.cholesky(inverse).mT
    alive = torch.rand(groups, width, rows, generator=draw) < 0.6
    return torch.randn(groups, width, rows, generator=draw, dtype=torch.float64).to(dtype), factor.to(dtype), alive


def settled(now, factor, alive, *columns, threads=1):
    now, errors = now.clone(), torch.zeros_like(now)
    for here in columns:
        now[:, here] -= factor[:, : here.start, here].mT @ errors[:, : here.start]
        settle(now, factor, alive, errors, here, threads=threads)
    return now, errors


@pytest.mark.parametrize("isa", EVERY)
@given(
    groups=st.integers(1, 3),
    width=st.integers(1, 40),
    rows=st.integers(0, 150),
    threads=st.integers(1, 3),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_each_row_is_the_best_that_later_columns_can_do(isa, groups, width, rows, threads, seed):
    now, factor, alive = drawn(groups, width, rows, seed)
    with using(isa):
        kept, errors = settled(now, factor, alive, slice(0, width), threads=threads)
    # Each column in float64: what it would be less what those before it tell it.
    wide, exact, lost = factor.double(), now.double(), torch.zeros_like(now, dtype=torch.float64)
    for j in range(width):
        value = exact[:, j] - (wide[:, :j, j, None] * lost[:, :j]).sum(1)
        exact[:, j] = value * alive[:, j]
        lost[:, j] = (value - exact[:, j]) / wide[:, j, j, None]
    torch.testing.assert_close(kept.double(), exact, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(errors.double(), lost, rtol=1e-4, atol=1e-4)
    assert torch.equal(kept != 0, alive & (exact != 0))
    # The errors' squares are what it costs: tr(D H D^T) with H the inverse of U^T U.
    change = now.double() - exact
    hessian = torch.linalg.inv(wide.mT @ wide)
    assert torch.allclose((change * (hessian @ change)).sum(), lost.square().sum(), rtol=1e-3)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("width", [127, 128, 129, 300])
@pytest.mark.parametrize("step", [4, 300])
def test_a_few_columns_at_a_time_are_all_of_them(isa, width, step):
    now, factor, alive = drawn(2, width, 70, 0)
    now64, factor64, _ = drawn(2, width, 70, 0, torch.float64)
    columns = [slice(first, min(first + step, width)) for first in range(0, width, step)]
    exact, lost = settled(now64, factor64, alive, slice(0, width))
    with using(isa):
        kept, errors = settled(now, factor, alive, *columns, threads=2)
    torch.testing.assert_close(kept.double(), exact, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(errors.double(), lost, rtol=1e-3, atol=1e-3)


def test_a_grid_is_kept_to():
    now, factor, alive = drawn(1, 20, 30, 0)
    errors = torch.zeros_like(now)
    settle(now, factor, alive, errors, slice(0, 20), snap=lambda values: values.round())
    assert torch.equal(now, now.round()) and now[~alive].eq(0).all() and now[alive].abs().max() >= 1
