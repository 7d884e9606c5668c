"""Laws of every registered solver, on an axis of a small net; one that is for other sites must be listed with its reason."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from handmade import axis_site, data, net, view
from pomona.collect import collect
from pomona.registry import parts
from pomona.vocabulary import Solver

SOLVERS = {name: kind() for name, kind in parts("solvers").items()}
each = pytest.mark.parametrize("name", sorted(SOLVERS))


def solve(name, proposal, seed=0, model=None):
    model, site, (x, y) = model or net(), axis_site(), data(16)
    stats = collect(model, [site], SOLVERS[name].needs, [(x, y)], cross_entropy)[site.name]
    return SOLVERS[name].solve(view(model, site, stats, seed), proposal)


@each
@pytest.mark.parametrize("keep", [0, 1, 3, 5])
def test_survivors_may_change_but_not_their_number(name, keep):
    proposal = torch.arange(5) < keep
    decision = solve(name, proposal)
    assert isinstance(SOLVERS[name], Solver)
    assert decision.keep.dtype == torch.bool and decision.keep.shape == (5,) and int(decision.keep.sum()) == keep


@each
def test_where_everyone_stays_nothing_changes(name):
    decision = solve(name, torch.ones(5, dtype=torch.bool))
    model = net()
    assert all(torch.equal(value, model.get_parameter(tensor)) for tensor, value in decision.tensors.items())


@each
def test_solved_tensors_are_finite_members_of_their_shape_and_dtype(name):
    model = net()
    decision = solve(name, torch.arange(5) < 3)
    members = {m.tensor for m in axis_site().members if not m.buffer}
    for tensor, value in decision.tensors.items():
        now = model.get_parameter(tensor)
        assert tensor in members and value.shape == now.shape and value.dtype == now.dtype and torch.isfinite(value).all()


@each
def test_solving_is_pure_and_the_seed_decides(name):
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    proposal = torch.tensor([True, False, True, True, False])
    one, two = (solve(name, proposal.clone(), 3, model) for _ in range(2))
    assert torch.equal(one.keep, two.keep) and one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(value, two.tensors[tensor]) for tensor, value in one.tensors.items())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
