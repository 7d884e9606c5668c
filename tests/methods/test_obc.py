"""Optimal Brain Compression (Frantar et al., 2022) and Optimal Brain Surgeon (Hassibi and Stork, 1993), of which it is made."""

import pytest
import torch
from torch.testing import assert_close

from layers import fitted, half, layer, lost, optimum, random_layer
from pomona.solvers.obc import Obc
from pomona.statistics.input_gram import InputGram
from pomona.structures.n_m import NM

H = torch.tensor([[2.0, 1.0], [1.0, 2.0]])


def test_two_equal_inputs_share_the_weight():
    v = layer(torch.tensor([[1.0, 0.5]], dtype=torch.float64), H)
    decision = Obc(0.0).solve(v, torch.tensor([[False, True]]))  # who goes is the solver's choice
    assert_close(decision.tensors["w"], torch.tensor([[1.25, 0.0]]).double())
    assert lost(v.tensors["w"], decision.tensors["w"], H.double()) == pytest.approx(2 * 0.1875)


def test_one_weight_leaves_as_by_the_formula_of_brain_surgery():
    v = random_layer(5, 9, dtype=torch.float64)
    w, inverse = v.tensors["w"], torch.linalg.inv(v.stats[InputGram()][0])
    proposal = torch.ones(5, 9, dtype=torch.bool)
    proposal[:, 0] = False
    decision = Obc(0.0).solve(v, proposal)
    at = (w.square() / inverse.diagonal()).argmin(1)
    expected = w - (w.gather(1, at[:, None]) / inverse.diagonal()[at][:, None]) * inverse[at]
    assert_close(decision.tensors["w"], expected.scatter(1, at[:, None], 0.0))


def test_what_is_left_is_the_least_squares_fit_of_its_support():
    v = random_layer(8, 40, dtype=torch.float64)
    w, gram = v.tensors["w"], v.stats[InputGram()][0]
    decision = Obc(0.0).solve(v, half(v, 0.6))
    assert_close(decision.tensors["w"], fitted(w, gram, decision.keep), rtol=1e-7, atol=1e-9)


def test_unrelated_inputs_leave_in_the_order_of_wanda():
    v = layer(torch.randn(4, 12, dtype=torch.float64), torch.diag(torch.rand(12) + 0.1))
    worth = v.tensors["w"].abs() * v.stats[InputGram()][0].diagonal().sqrt()
    decision = Obc(0.0).solve(v, half(v))
    assert torch.equal(decision.keep, worth > worth.sort(1).values[:, 5:6])


@pytest.mark.parametrize("seed", range(4))
def test_one_removal_is_the_best_there_is_and_more_are_never_better_than_that(seed):
    v = random_layer(1, 8, seed, dtype=torch.float64)
    w, gram = v.tensors["w"], v.stats[InputGram()][0]
    for keep in (7, 4):
        found = lost(w, Obc(0.0).solve(v, half(v, 1 - keep / 8)).tensors["w"], gram)
        assert found >= optimum(w[0], gram, keep) * (1 - 1e-9)
        assert keep < 7 or found == pytest.approx(optimum(w[0], gram, keep))


def test_groups_of_four_keep_two_and_are_fitted():
    v = random_layer(8, 40, structure=NM(2, 4), dtype=torch.float64)
    decision = Obc(0.0).solve(v, v.structure.select(v.site, _worth(v), torch.tensor(160)))
    assert (decision.keep.view(8, 10, 4).sum(2) == 2).all()
    assert_close(decision.tensors["w"], fitted(v.tensors["w"], v.stats[InputGram()][0], decision.keep), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("structure", [None, NM(2, 4)])
def test_a_given_mask_stays_and_is_fitted_exactly(structure):
    v = random_layer(8, 40, structure=structure, dtype=torch.float64)
    mask = half(v) if structure is None else v.structure.select(v.site, _worth(v), torch.tensor(160))
    decision = Obc(0.0, mask="given").solve(v, mask)
    assert torch.equal(decision.keep, mask) and not torch.equal(Obc(0.0).solve(v, mask).keep, mask)
    assert_close(decision.tensors["w"], fitted(v.tensors["w"], v.stats[InputGram()][0], mask), rtol=1e-7, atol=1e-9)


def _worth(v):
    from pomona.vocabulary import Scores

    return Scores(v.tensors["w"].abs())
