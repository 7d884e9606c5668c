"""Laws over every named method, run whole on a traced model: a method that is added is held to them by itself."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

import pomona
import zoo
from pomona.engines.decide import Ground
from pomona.engines.oneshot import run
from pomona.engines.prices import price
from pomona.structures.n_m import NM
from pomona.vocabulary import Batch, Goal, InputError

METHODS = pomona.methods()
# What compares blocks with those of the dense model goes block by block: tests/methods/test_asymmetric.py.
ROUNDS = [name for name, recipe in METHODS.items() if recipe.schedule.clock == "round" and "beside" not in recipe.needs]
FREE = [name for name in ROUNDS if not isinstance(METHODS[name].structure, NM)]  # n:m says itself how much stays
STEPS = [name for name, recipe in METHODS.items() if recipe.schedule.clock == "step"]


def model_and_data():
    model, args = zoo.resnet()
    classes = model(*args).shape[1]
    return model, args, [Batch(args, target=torch.arange(len(args[0])) % classes)]


def model_graph_and_data(recipe):
    """The first of these that has what the method prunes: channels, heads, experts."""
    for made in (zoo.resnet, zoo.vit, zoo.mixtral):
        model, args = made()
        graph = pomona.trace(model, args)
        try:
            recipe.structure.sites(graph)
        except InputError:
            continue
        target = torch.arange(2)
        return model, graph, [Batch(kwargs=args, target=target) if isinstance(args, dict) else Batch(args, target=target)]
    raise AssertionError(f"no network here has {recipe.structure}")


def goal_of(recipe, graph, ratio):
    sites = tuple(recipe.structure.sites(graph))
    goal = Goal("params", ratio)
    return Ground(recipe, sites, price(goal, graph, sites, recipe.structure), goal)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", FREE)
def test_keeping_everything_changes_nothing(name):
    recipe = METHODS[name].but(recovery=None)
    model, graph, data = model_graph_and_data(recipe)
    before = state(model)
    outcome = run(model, goal_of(recipe, graph, 1.0), batches=data, loss=cross_entropy)
    assert outcome.plan.removes == 0
    assert same(state(outcome.model), before) and same(state(model), before)


@pytest.mark.parametrize("name", ROUNDS)
def test_the_same_seed_gives_the_same_plan_at_a_price_within_the_goal(name):
    recipe = METHODS[name].but(recovery=None)
    model, graph, data = model_graph_and_data(recipe)
    ground = goal_of(recipe, graph, 0.9)
    first, second = (run(model, ground, batches=data, loss=cross_entropy) for _ in range(2))
    assert all(torch.equal(first.plan.keep(site), second.plan.keep(site)) for site in first.plan.sites)
    assert first.plan.removes > 0
    counts = {
        site: first.plan.keep(site).sum() for site in first.plan.sites
    }  # no method here prunes in tiles: units are elements
    assert ground.price(counts) <= 0.9 * ground.price.dense


@pytest.mark.parametrize("name", STEPS)
def test_training_methods_that_keep_everything_leave_the_weights_to_the_optimiser(name):
    model, args, data = model_and_data()
    model.train()
    plain, before = copy.deepcopy(model), state(model)
    recipe = METHODS[name]
    goal = None if getattr(recipe.allocation, "emerges", False) else Goal("params", 1.0)
    for _ in range(3):
        plain(*args)  # what training without pruning does to the batch norms
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pomona.sparsify(model, optimizer, method=recipe, goal=goal, steps=3, args=args) as s:
        for _ in range(3):
            optimizer.zero_grad()
            (cross_entropy(model(*args), data[0].target) + s.loss()).backward()
            optimizer.step()
            s.step()
        assert s.density == 1.0
    weights = {name for name, _ in model.named_parameters()}
    after = state(model)
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in weights)
    assert same(after, state(plain))
