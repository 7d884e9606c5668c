"""One walk serves every level (Frantar et al., 2022): scores of the walk, cut anywhere, and fitted anew."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from layers import half, layer, random_layer
from pomona.criteria.obc_loss import ObcLoss
from pomona.quadratic import Quadratic
from pomona.quadratic.path import walked
from pomona.solvers.least_squares import LeastSquares
from pomona.solvers.obc import Obc
from pomona.statistics.input_gram import InputGram
from pomona.structures.block import Block
from pomona.vocabulary import InputError


@pytest.mark.parametrize("keep", [0, 3, 8, 15])
def test_every_level_of_a_row_is_where_a_walk_of_that_length_ends(keep):
    v = random_layer(6, 16, dtype=torch.float64)
    chosen = v.structure.select(v.site, ObcLoss().score(v), torch.full((6,), keep))
    problem = Quadratic.of(v)
    path = walked(problem.inverse, problem.weight, torch.full((1, 6), 16 - keep))
    assert torch.equal(chosen, path.weight[0] != 0)
    assert_close(LeastSquares(tolerance=0.0).solve(v, chosen).tensors["w"], path.weight[0], rtol=1e-7, atol=1e-9)
    assert torch.equal(Obc().solve(v, chosen).keep, chosen)


def test_rows_stop_where_their_next_steps_cost_the_same():
    v = random_layer(6, 16, dtype=torch.float64)
    chosen = v.structure.select(v.site, ObcLoss().score(v), torch.tensor(48))
    problem = Quadratic.of(v)
    losses = walked(problem.inverse, problem.weight, torch.full((1, 6), 16)).loss[0].float().cummax(1).values
    gone = (~chosen).sum(1)
    dearest_taken = max(float(row[n - 1]) for row, n in zip(losses, gone, strict=True) if n)
    cheapest_left = min(float(row[n]) for row, n in zip(losses, gone, strict=True) if n < 16)
    assert int(gone.sum()) == 48 and dearest_taken <= cheapest_left
    assert len(set(gone.tolist())) > 1


def test_rows_that_compete_lose_less_together_than_rows_apart():
    shared, apart = 0.0, 0.0
    for seed in range(5):
        v = random_layer(12, 24, seed, dtype=torch.float64)
        chosen = v.structure.select(v.site, ObcLoss().score(v), torch.tensor(144))
        shared += LeastSquares().solve(v, chosen).error or 0.0
        apart += Obc().solve(v, half(v)).error or 0.0
    assert shared < apart


def test_units_that_are_no_weights_are_refused():
    v = random_layer(4, 8, structure=Block(2, 2))
    with pytest.raises(InputError, match="walks over single weights"):
        ObcLoss().score(replace(v, site=replace(v.site, shape=(2, 4))))


@pytest.mark.parametrize("size", [1e20, 1e-25])
def test_losses_that_float32_cannot_hold_are_refused(size):
    v = random_layer(4, 16, dtype=torch.float32)
    with pytest.raises(InputError, match="w leave the range"):
        ObcLoss().score(layer(v.tensors["w"], v.stats[InputGram()][0] * size**2))


def test_stronger_damping_is_said():
    x = torch.randn(50, 4, dtype=torch.float64).repeat(1, 2)  # every input twice
    v = layer(torch.randn(3, 8, dtype=torch.float64), x.T @ x)
    assert "damping" in "".join(ObcLoss(damping=0.0).score(v).notes) and not ObcLoss().score(v).notes
