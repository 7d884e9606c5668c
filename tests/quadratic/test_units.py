"""The layer problem on whole units: closed forms, brute force, and what one step of it promises."""

from itertools import combinations

import pytest
import torch
from torch.testing import assert_close

from layer_units import everyone, random
from pomona.quadratic.path import walked
from pomona.quadratic.units import Units
from pomona.solvers.osscar import Osscar

CARD = Units(
    torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64),
    torch.tensor([[1.0, 0.5]], dtype=torch.float64),
    torch.arange(2)[:, None],
)


def test_two_inputs_by_hand():
    prices = CARD.prices(CARD.weight, torch.linalg.inv(CARD.gram), everyone(CARD))
    assert_close(prices, torch.tensor([1.5, 0.375], dtype=torch.float64))
    keep = CARD.eliminated(everyone(CARD), 1, rounds=1)
    assert keep.tolist() == [True, False]
    assert_close(CARD.fitted(keep), torch.tensor([[1.25, 0.0]], dtype=torch.float64))
    assert CARD.lost(keep) == pytest.approx(0.375) and CARD.lost(~keep) == pytest.approx(1.5)
    assert CARD.exchanged(~keep, everyone(CARD), steps=1, swaps=1).tolist() == keep.tolist()


@pytest.mark.parametrize("k", [1, 3])
def test_the_price_is_what_the_error_grows_by_whoever_has_left_before(k):
    problem, keep = random(6, k), torch.tensor([True, False, True, True, False, True])
    stays = problem._columns(keep)
    inverse = torch.zeros_like(problem.gram)
    inverse[stays.nonzero(), stays.nonzero()[:, 0]] = torch.linalg.inv(problem.gram[stays][:, stays])
    prices = problem.prices(problem.fitted(keep), inverse, keep)
    for unit in keep.nonzero()[:, 0].tolist():
        fewer = keep.clone()
        fewer[unit] = False
        assert problem.lost(fewer) - problem.lost(keep) == pytest.approx(float(prices[unit]), rel=1e-8)


def test_fitted_weights_have_no_gradient_left():
    problem, keep = random(5, 2), torch.tensor([True, False, True, False, True])
    gradient = (problem.weight - problem.fitted(keep)) @ problem.gram
    assert gradient[:, problem._columns(keep)].abs().max() < 1e-9
    assert not problem.fitted(keep)[:, problem.places[~keep].flatten()].any()


def test_single_columns_of_a_single_row_leave_as_in_the_walk_of_obc():
    for seed in range(5):
        problem = random(12, rows=1, seed=seed)
        path = walked(torch.linalg.inv(problem.gram)[None], problem.weight[None], torch.tensor([[8]]))
        keep = problem.eliminated(everyone(problem), 4, rounds=8)
        left = {int(column) for column in path.order[0, 0]}
        assert {int(column) for column in problem.places[~keep].flatten()} == left
        assert problem.lost(keep) == pytest.approx(float(path.loss.sum()), rel=1e-8)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("correlated", [0.5, 2.0])
@pytest.mark.parametrize(("units", "stay"), [(8, 4), (12, 4), (12, 6)])
def test_exchanges_come_within_one_percent_of_the_best_subset(units, stay, correlated, k):
    """Of every random problem, all subsets tried, as the card of the method asks."""
    for seed in range(4):
        problem = random(units, k, seed=seed, correlated=correlated)
        greedy = problem.eliminated(everyone(problem), stay, rounds=units - stay)
        found = problem.exchanged(greedy, everyone(problem), steps=Osscar().steps, swaps=Osscar().swaps)
        assert int(found.sum()) == stay
        masks = (torch.isin(torch.arange(units), torch.tensor(subset)) for subset in combinations(range(units), stay))
        assert problem.lost(found) <= 1.01 * min(map(problem.lost, masks)), seed
        assert problem.lost(found) <= problem.lost(greedy)


def test_two_units_that_only_help_together_are_found():
    """No single exchange makes the error smaller, two of them do."""
    problem = random(12, 1, seed=4, correlated=2.0)
    greedy = problem.eliminated(everyone(problem), 4, rounds=8)
    single = problem.exchanged(greedy, everyone(problem), steps=100, swaps=1)
    chained = problem.exchanged(greedy, everyone(problem), steps=100, swaps=2)
    assert torch.equal(single, greedy) and problem.lost(chained) < 0.6 * problem.lost(single)


def test_prices_made_anew_are_better_than_those_of_the_start():
    lost = [
        sum(p.lost(p.eliminated(everyone(p), 6, rounds)) for p in (random(20, seed=s) for s in range(6))) for rounds in (14, 4, 1)
    ]
    assert max(lost[:2]) < 0.7 * lost[2]


def test_the_dead_leave_first_and_do_not_come_back():
    problem = random(6)
    alive = torch.tensor([True, False, True, True, True, True])
    keep = problem.exchanged(problem.eliminated(alive, 3, rounds=2), alive, steps=10, swaps=2)
    assert int(keep.sum()) == 3 and not keep[1]


def test_columns_that_another_site_took_away_stay_away():
    given = random(5, 2)
    weight = given.weight.clone()
    weight[:, [1, 4]] = 0.0
    problem = Units.of(given.gram, weight, given.places)
    keep = problem.eliminated(everyone(problem), 3, rounds=2)
    assert not problem.fitted(keep)[:, [1, 4]].any() and problem.fitted(keep).any()
