"""DSnoT (Zhang et al., 2024): the toy row of the method's card, and what no exchange may break."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from handmade import linear_site
from pomona.collect import collect
from pomona.solvers.dsnot import Dsnot
from pomona.statistics.input_moments import InputMoments
from pomona.statistics.input_norm import InputNorm
from pomona.structures.block import Block
from pomona.structures.n_m import NM
from pomona.structures.weights import Weights
from pomona.vocabulary import Gathered, InputError, View


def view(weight, mean, variance=None, structure=None):
    mean = torch.as_tensor(mean).double()
    variance = torch.ones_like(mean) if variance is None else torch.as_tensor(variance).double()
    stats = Gathered(
        {InputMoments(): torch.stack([mean, variance])[:, None], InputNorm(): (mean.square() + variance).sqrt()[None]}
    )
    site = linear_site("w", tuple(weight.shape))
    return View(site, structure or Weights(), {"w": weight}, torch.ones(weight.shape, dtype=torch.bool), stats)


def missing(v, mask):
    mean = v.stats[InputMoments()][0, 0]
    return ((v.tensors["w"] * mean) * ~mask).sum(1)


def test_an_exchange_that_turns_the_sign_is_not_made():
    v = view(torch.ones(1, 4), [1.0, 1.0, -1.0, 0.1])
    proposal = torch.tensor([[False, True, True, True]])
    assert torch.equal(Dsnot().solve(v, proposal).keep, proposal)  # 1 - 1 - 1 = -1


def test_an_exchange_that_does_not_is_made():
    v = view(torch.ones(1, 4), [1.0, 1.0, -0.3, 0.1])
    decision = Dsnot(threshold=0.0).solve(v, torch.tensor([[False, False, True, True]]))
    assert torch.equal(decision.keep, torch.tensor([[True, False, False, True]]))  # 2 - 1 - 0.3 = 0.7


def test_unsteady_inputs_come_back_later():
    v = view(torch.ones(1, 4), [1.0, 0.9, -0.3, 0.0], [10.0, 1.0, 1.0, 1.0])
    proposal = torch.tensor([[False, False, True, True]])
    assert Dsnot(cycles=1).solve(v, proposal).keep.tolist() == [[False, True, False, True]]
    assert Dsnot(cycles=1, power=0.0).solve(v, proposal).keep.tolist() == [[True, False, False, True]]


def test_inputs_without_a_mean_change_nothing():
    v = view(torch.randn(5, 12), torch.zeros(12))
    proposal = torch.rand(5, 12) > 0.5
    assert torch.equal(Dsnot().solve(v, proposal).keep, proposal)


@pytest.mark.parametrize("structure", [Weights(), NM(2, 4)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_counts_stay_and_no_row_misses_more_or_with_another_sign(structure, seed):
    g = torch.Generator().manual_seed(seed)
    v = view(torch.randn(20, 32, generator=g), torch.randn(32, generator=g), torch.rand(32, generator=g), structure)
    worth = torch.rand(20, 8, 4, generator=g)
    proposal = (worth >= worth.sort(2).values[..., 2:3]).view(20, 32)
    before = missing(v, proposal)
    for cycles in (1, 5, 50):
        decision = Dsnot(cycles).solve(v, proposal)
        after = missing(v, decision.keep)
        assert torch.equal(decision.keep.view(20, -1, structure.window(v.site)).sum(2).sum(1), proposal.sum(1))
        assert not isinstance(structure, NM) or (decision.keep.view(20, 8, 4).sum(2) == 2).all()
        assert (after.abs() <= before.abs() + 1e-12).all() and (after * before >= 0).all()
        before = after
    assert not torch.equal(decision.keep, proposal) and not decision.tensors


def test_rows_near_enough_are_left_alone():
    v = view(torch.ones(1, 4), [1.0, 0.05, -0.02, 0.04])
    proposal = torch.tensor([[True, False, True, False]])
    assert torch.equal(Dsnot().solve(v, proposal).keep, proposal)
    assert not torch.equal(Dsnot(threshold=0.0).solve(v, proposal).keep, proposal)


def test_units_that_are_no_weights_are_refused():
    v = view(torch.ones(2, 4), torch.ones(4), structure=Block(2, 2))
    with pytest.raises(InputError, match="exchanges single weights"):
        Dsnot().solve(replace(v, site=replace(v.site, shape=(1, 2))), torch.tensor([[True, False]]))


def test_moments_are_those_of_the_columns():
    x, layer = torch.randn(3, 7, 4), torch.nn.Linear(4, 2)
    found = collect(torch.nn.Sequential(layer), [linear_site("0.weight", (2, 4))], [InputMoments()], list(x))["0.weight"]
    flat = x.reshape(-1, 4).double()
    assert_close(found[InputMoments()][:, 0], torch.stack([flat.mean(0), flat.var(0, correction=0)]))
