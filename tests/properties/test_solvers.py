"""Laws of every registered solver, on an axis of a small net, or on single weights where its problem is that of one weight."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from handmade import axis_site, data, net, view
from layers import half, layer, lost, random_layer
from pomona.collect import collect
from pomona.registry import parts
from pomona.statistics.input_gram import InputGram
from pomona.structures.block import Block
from pomona.structures.n_m import NM
from pomona.structures.weights import Weights
from pomona.vocabulary import InputError, Scores, Solver

AROUND = ("Asymmetric",)  # solvers around others, beside the dense model; their laws are in tests/methods/test_asymmetric.py
SOLVERS = {name: kind() for name, kind in parts("solvers").items() if name not in AROUND}


def of_one_weight(solver):
    return InputGram() in solver.needs


QUADRATIC = sorted(name for name, solver in SOLVERS.items() if of_one_weight(solver))
ELSEWHERE = {
    "Dsnot": "exchanges single weights by the moments of their inputs; its laws are in tests/methods/test_dsnot.py",
    "Turned": "turns a whole residual stream; its laws are in tests/methods/test_slicegpt.py",
    "Consecutive": "exchanges blocks; its laws are in tests/methods/test_deeper_layers.py",
}
each = pytest.mark.parametrize("name", sorted(set(SOLVERS) - set(QUADRATIC) - set(ELSEWHERE)))
each_quadratic = pytest.mark.parametrize("name", QUADRATIC)
STRUCTURES = [Weights(), NM(2, 4), NM(1, 4), Block(2, 2)]


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
def test_solved_tensors_are_finite_members_or_their_biases_of_their_shape_and_dtype(name):
    model = net()
    decision = solve(name, torch.arange(5) < 3)
    members = {m.tensor for m in axis_site().members if not m.buffer} | {"fc.bias"}
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


@each_quadratic
def test_solvers_of_the_layer_problem_refuse_axes(name):
    with pytest.raises(InputError, match="single weight"):
        solve(name, torch.arange(5) < 3)


def proposed(v, share=0.5):
    """The largest units that the structure lets stay."""
    worth = v.structure.reduce(v.site, {"w": v.tensors["w"].abs()}, roles=("self",))
    feasible = v.structure.feasible(v.site)
    return v.structure.select(v.site, Scores(worth), torch.tensor(int(v.site.units * share) if feasible is None else feasible))


def sited(structure, rows=8, columns=24, seed=0, dtype=torch.float32):
    v = random_layer(rows, columns, seed, structure, dtype)
    if not isinstance(structure, Block):
        return v
    return replace(v, site=replace(v.site, shape=structure.grid(v.site.weight)))


@each_quadratic
@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_counts_structure_and_dtype_are_kept_and_the_dead_are_zero(name, structure, dtype):
    v = sited(structure, dtype=dtype)
    proposal = proposed(v)
    decision = SOLVERS[name].solve(v, proposal)
    mask = structure.expand(v.site, decision.keep)["w"]
    found = decision.tensors["w"]
    assert isinstance(SOLVERS[name], Solver)
    assert decision.keep.shape == v.site.shape and decision.keep.dtype == torch.bool
    assert int(decision.keep.sum()) == int(proposal.sum())
    assert not isinstance(structure, NM) or (mask.view(8, -1, structure.m).sum(2) == structure.n).all()
    assert found.dtype == dtype and not found[~mask].any() and torch.isfinite(found).all()


@each_quadratic
@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_outputs_lose_less_than_by_the_proposal_alone_and_the_error_says_how_much(name, structure, seed):
    v = sited(structure, seed=seed, dtype=torch.float64)
    w, gram = v.tensors["w"], v.stats[InputGram()][0]
    proposal = proposed(v)
    decision = SOLVERS[name].solve(v, proposal)
    alone = lost(w, w * structure.expand(v.site, proposal)["w"], gram)
    now = lost(w, decision.tensors["w"], gram)
    assert now < alone
    assert decision.error == pytest.approx(now / lost(w, 0 * w, gram), rel=1e-6)


@each_quadratic
def test_nothing_changes_where_all_weights_stay(name):
    decision = SOLVERS[name].solve(random_layer(3, 8), torch.ones(3, 8, dtype=torch.bool))
    assert decision.keep.all() and not decision.tensors


@each_quadratic
def test_nothing_is_left_where_no_weight_stays(name):
    decision = SOLVERS[name].solve(random_layer(3, 8), torch.zeros(3, 8, dtype=torch.bool))
    assert not decision.keep.any() and not decision.tensors["w"].any()


@each_quadratic
def test_uncorrelated_inputs_change_no_survivor(name):
    v = layer(torch.randn(4, 16, dtype=torch.float64), torch.diag(torch.rand(16) + 0.5))
    decision = SOLVERS[name].solve(v, half(v))
    assert torch.equal(decision.keep, decision.tensors["w"] != 0)
    torch.testing.assert_close(decision.tensors["w"], v.tensors["w"] * decision.keep, rtol=1e-9, atol=1e-9)


@each_quadratic
def test_inputs_that_were_never_seen_are_worth_nothing(name):
    v = random_layer(4, 16, dtype=torch.float64)
    gram = v.stats[InputGram()][0].clone()
    gram[3], gram[:, 3] = 0, 0
    v = layer(torch.cat([v.tensors["w"][:, :3], torch.full((4, 1), 1e3).double(), v.tensors["w"][:, 4:]], 1), gram)
    decision = SOLVERS[name].solve(v, half(v, 0.25))
    assert not decision.tensors["w"][:, 3].any() and torch.isfinite(decision.tensors["w"]).all()
    assert decision.tensors["w"].abs().max() < 1e2


@each_quadratic
def test_too_few_tokens_for_the_width_are_no_obstacle(name):
    x = torch.randn(3, 16, dtype=torch.float64)
    v = layer(torch.randn(4, 16), x.T @ x)
    decision = SOLVERS[name].solve(v, half(v))
    assert torch.isfinite(decision.tensors["w"]).all() and decision.error is not None and decision.error < 1


@each_quadratic
@pytest.mark.parametrize("size", [1e18, 1e-24])
def test_inputs_of_any_size_are_solved_alike(name, size):
    v = random_layer(4, 16, dtype=torch.float32)
    gram = v.stats[InputGram()][0]
    one, two = (SOLVERS[name].solve(layer(v.tensors["w"], gram * s**2), half(v)) for s in (1, size))
    assert torch.equal(one.keep, two.keep) and one.error == pytest.approx(two.error, rel=1e-3)
    torch.testing.assert_close(one.tensors["w"], two.tensors["w"], rtol=1e-3, atol=1e-4)


@each_quadratic
def test_solving_a_layer_is_pure(name):
    v = sited(Weights())
    gram, w = v.stats[InputGram()].clone(), v.tensors["w"].clone()
    proposal = proposed(v)
    before = proposal.clone()
    one, two = (SOLVERS[name].solve(v, proposal) for _ in range(2))
    assert torch.equal(v.stats[InputGram()], gram) and torch.equal(v.tensors["w"], w) and torch.equal(proposal, before)
    assert torch.equal(one.keep, two.keep) and torch.equal(one.tensors["w"], two.tensors["w"])


@each_quadratic
def test_columns_that_change_places_take_their_weights_with_them(name):
    if name == "SparseGPT":  # settles columns in their order: another order is another answer
        return
    v = random_layer(4, 16, dtype=torch.float64)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    turned = layer(v.tensors["w"][:, order], v.stats[InputGram()][0][order][:, order])
    one, two = SOLVERS[name].solve(v, half(v)), SOLVERS[name].solve(turned, half(v)[:, order])
    torch.testing.assert_close(one.tensors["w"][:, order], two.tensors["w"], rtol=1e-6, atol=1e-6)
