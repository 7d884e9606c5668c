"""The greedy walk against one that forms every inverse anew."""

import pytest
import torch
from torch.testing import assert_close

from layers import fitted, lost, random_layer
from pomona.native import walk as walks
from pomona.quadratic import Quadratic
from pomona.quadratic.path import walked


def slow(w, gram, steps, quota=None, window=1):
    """One row, from the definition: the cheapest removal by the inverse of what is left of H, then least squares."""
    alive, order, prices = torch.ones(len(w), dtype=torch.bool), [], []
    now, quota = w.clone(), None if quota is None else quota.clone()
    for _ in range(steps):
        inverse = torch.full((len(w),), float("nan"), dtype=w.dtype)
        inverse[alive] = torch.linalg.inv(gram[alive][:, alive]).diagonal()
        worth = torch.where(alive, now.square() / inverse, torch.inf)
        if quota is not None:
            worth[(quota <= 0).repeat_interleave(window)] = torch.inf
        price, at = worth.min(0)
        alive[at] = False
        if quota is not None:
            quota[at // window] -= 1
        now = fitted(w[None], gram, alive[None])[0]
        order.append(int(at))
        prices.append(price)
    return torch.tensor(order), torch.stack(prices), now


@pytest.mark.parametrize(("burst", "candidates"), [(1, 1), (4, 6), (32, 128)])
def test_every_step_is_the_cheapest_and_every_weight_the_best(burst, candidates, monkeypatch):
    monkeypatch.setattr(walks, "_BURST", burst)
    monkeypatch.setattr(walks, "_CANDIDATES", candidates)
    problem = Quadratic.of(random_layer(6, 14))
    steps = torch.tensor([[7, 3, 14, 0, 7, 10]])
    found = walked(problem.inverse, problem.weight, steps)
    for row, count in enumerate(steps[0].tolist()):
        if not count:
            assert torch.equal(found.weight[0, row], problem.weight[0, row])
            continue
        order, prices, weight = slow(problem.weight[0, row], problem.damped[0], count)
        assert torch.equal(found.order[0, row, :count], order) and (found.order[0, row, count:] == -1).all()
        assert_close(found.loss[0, row, :count], prices)
        assert_close(found.weight[0, row], weight, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("candidates", [4, 128])
def test_windows_lose_no_more_than_their_quota(candidates, monkeypatch):
    monkeypatch.setattr(walks, "_BURST", 4)
    monkeypatch.setattr(walks, "_CANDIDATES", candidates)
    problem = Quadratic.of(random_layer(5, 16))
    quota = torch.full((1, 5, 4), 2)
    found = walked(problem.inverse, problem.weight, torch.full((1, 5), 8), quota, 4)
    assert (quota == 2).all()
    for row in range(5):
        order, prices, weight = slow(problem.weight[0, row], problem.damped[0], 8, quota[0, row], 4)
        assert torch.equal(found.order[0, row], order)
        assert_close(found.loss[0, row], prices)
        assert_close(found.weight[0, row], weight, rtol=1e-7, atol=1e-9)


def test_the_losses_of_the_steps_add_up_to_what_the_outputs_lost():
    problem = Quadratic.of(random_layer(8, 40))
    found = walked(problem.inverse, problem.weight, torch.full((1, 8), 25))
    assert float(found.loss.sum()) == pytest.approx(lost(problem.weight[0], found.weight[0], problem.damped[0]))


def test_single_precision_walks_the_same_way():
    problem = Quadratic.of(random_layer(8, 40))
    steps = torch.full((1, 8), 20)
    one, two = walked(problem.inverse, problem.weight, steps), walked(problem.inverse.float(), problem.weight, steps)
    assert torch.equal(one.order, two.order)
    assert_close(two.weight.double(), one.weight, rtol=1e-4, atol=1e-4)
