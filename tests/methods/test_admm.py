"""ADMM on the layer problem: weights for a mask (Boza, 2024), and the mask with them (ALPS, Meng et al., 2024)."""

import pytest
import torch
from torch.testing import assert_close

from layers import fitted, half, layer, lost, random_layer
from pomona.quadratic.problem import Quadratic
from pomona.solvers.admm import Admm
from pomona.solvers.alps import Alps
from pomona.solvers.least_squares import LeastSquares
from pomona.solvers.obc import Obc
from pomona.solvers.sparsegpt import SparseGPT
from pomona.statistics.input_gram import InputGram
from pomona.structures.n_m import NM
from pomona.vocabulary import InputError, Scores


def damped(v, damping):
    return Quadratic.of(v, damping).damped[0]


def test_a_given_mask_ends_in_least_squares():
    v = random_layer(6, 12, dtype=torch.float64)
    w, mask = v.tensors["w"], half(v)
    best = fitted(w, damped(v, 0.1), mask)
    gaps = [
        lost(w, Admm(rounds, 0, mask="given").solve(v, mask).tensors["w"], damped(v, 0.1)) / lost(w, best, damped(v, 0.1)) - 1
        for rounds in (0, 1, 5, 20, 200)
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[3] < 1e-2 and abs(gaps[4]) < 1e-9
    assert_close(Admm(400, 0, mask="given").solve(v, mask).tensors["w"], best, rtol=1e-6, atol=1e-6)


def test_without_rounds_it_is_wanda_over_the_whole_weight():
    v = random_layer(6, 12, dtype=torch.float64)
    worth = v.tensors["w"].abs() * v.stats[InputGram()][0].diagonal().sqrt()
    decision = Admm(0, 0, damping=0.0).solve(v, half(v))
    assert torch.equal(decision.keep, worth > worth.flatten().sort().values[35])
    assert_close(decision.tensors["w"], v.tensors["w"] * decision.keep)


def test_a_mask_that_grows_is_better_than_one_made_at_once():
    now, gradual = 0.0, 0.0
    for seed in range(5):
        v = random_layer(16, 48, seed, dtype=torch.float64)
        w, gram = v.tensors["w"], v.stats[InputGram()][0]
        now += lost(w, Admm(gradual=0).solve(v, half(v, 0.7)).tensors["w"], gram)
        gradual += lost(w, Admm().solve(v, half(v, 0.7)).tensors["w"], gram)
    assert gradual < now


@pytest.mark.parametrize("structure", [None, NM(2, 4)])
def test_splitting_beats_the_sweep_and_the_sweep_its_own_mask(structure):
    for seed in range(3):
        v = random_layer(16, 48, seed, structure, torch.float64)
        w, gram = v.tensors["w"], v.stats[InputGram()][0]
        alps, sweep = Alps().solve(v, half(v)), SparseGPT(block=16).solve(v, half(v))
        assert lost(w, alps.tensors["w"], gram) < lost(w, LeastSquares().solve(v, sweep.keep).tensors["w"], gram)
        assert lost(w, alps.tensors["w"], gram) < lost(w, sweep.tensors["w"], gram) < lost(w, w * sweep.keep, gram)


def test_what_splitting_leaves_is_fitted_to_its_support():
    v = random_layer(16, 48, dtype=torch.float64)
    decision = Alps().solve(v, half(v))
    best = fitted(v.tensors["w"], damped(v, 0.01), decision.keep)
    assert lost(v.tensors["w"], decision.tensors["w"], damped(v, 0.01)) <= lost(v.tensors["w"], best, damped(v, 0.01)) * (
        1 + 1e-6
    )


def test_rows_keep_their_counts_when_they_are_apart():
    v = random_layer(16, 48, dtype=torch.float64)
    for solver in (Alps(per="row"), Admm(per="row")):
        assert torch.equal(solver.solve(v, half(v)).keep.sum(1), half(v).sum(1))


@pytest.mark.parametrize("structure", [None, NM(2, 4)])
def test_a_given_mask_is_only_fitted(structure):
    v = random_layer(16, 48, structure=structure)
    mask = half(v) if structure is None else structure.select(v.site, Scores(v.tensors["w"].abs()), torch.tensor(384))
    decision = Alps(mask="given").solve(v, mask)
    assert torch.equal(decision.keep, mask) and not torch.equal(Alps().solve(v, mask).keep, mask)
    assert_close(decision.tensors["w"], fitted(v.tensors["w"], damped(v, 0.01), mask), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("solver", [Admm, Alps, Obc, SparseGPT])
def test_a_misspelt_mask_is_refused(solver):
    with pytest.raises(InputError, match="'chosen' or 'given', not 'gvien'"):
        solver(mask="gvien")


def test_a_penalty_that_is_none_is_refused():
    with pytest.raises(InputError, match="positive rho"):
        Alps(rho=0.0)
    with pytest.raises(InputError, match="rounds"):
        Admm(rounds=3, gradual=5)


def test_equal_unrelated_inputs_give_magnitude():
    v = layer(torch.randn(4, 12, dtype=torch.float64), torch.eye(12))
    decision, size = Admm().solve(v, half(v)), v.tensors["w"].abs()
    assert torch.equal(decision.keep, size > size.flatten().sort().values[23])
    assert_close(decision.tensors["w"], v.tensors["w"] * decision.keep, rtol=1e-6, atol=1e-6)
