"""Counts are coupled, units are not."""

from math import lcm

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from budgets import Sum
from pomona.allocations.everywhere import Global
from pomona.allocations.lamp import Lamp
from pomona.allocations.uniform import Uniform
from pomona.criteria.magnitude import Magnitude
from pomona.engines.budget import budget
from pomona.engines.decide import Ground, decide
from pomona.engines.even import Even
from pomona.engines.prices import price
from pomona.graph import trace
from pomona.recipes.magnitude import magnitude
from pomona.structures.axes import Axes
from pomona.vocabulary import Axis, Drop, Goal, InputError, Limits, Prune, Regrow, Scores, Site


def axis(name, units, even=None, stride=1):
    return Site(name, "axis", (units,), (), axis=Axis(name, units, "head-dim", (), even=even, stride=stride))


def counts(**of):
    return {name: torch.tensor(count) for name, count in of.items()}


def plain(keeps):
    return {name: int(count) for name, count in keeps.items()}


def test_the_largest_share_of_a_team_stays_and_others_are_left_alone():
    even = Even.of([axis("q", 4, "q"), axis("v", 8, "q"), axis("free", 8)])
    assert plain(even(counts(q=1, v=5, free=5))) == {"q": 3, "v": 6, "free": 5}
    assert plain(even(counts(q=4, v=1, free=1))) == {"q": 4, "v": 8, "free": 1}


def test_units_that_share_no_step_stay_whole():
    assert plain(Even.of([axis("a", 3, "a"), axis("b", 8, "a")])(counts(a=1, b=1))) == {"a": 3, "b": 8}


def test_a_member_alone_moves_in_steps_that_its_partner_can_follow():
    assert plain(Even.of([axis("q", 4, "q"), axis("v", 8, "q")])(counts(v=3))) == {"v": 4}


def test_a_site_whose_partner_is_not_here_is_free():
    assert plain(Even.of([axis("v", 8, "q")])(counts(v=3))) == {"v": 3}


def bounded(sites, ratio, **limits):
    whole = Sum({s.name: s.units for s in sites}, dict.fromkeys([s.name for s in sites], 1.0))
    return budget(Goal("params", ratio), Limits(**limits), whole, sites)


def test_limits_of_one_member_bind_all():
    sites = [axis("q", 4, "q"), axis("v", 8, "q"), axis("free", 8)]
    even = bounded(sites, 0.9, minimum={"q": 0.5}, maximum={"v": 0.75}).even
    assert plain(even(counts(q=1, v=1, free=1))) == {"q": 2, "v": 4, "free": 1}
    assert plain(even(counts(q=4, v=8, free=1))) == {"q": 3, "v": 6, "free": 1}


def test_multiples_hold_for_every_member():
    even = bounded([axis("q", 32, "q"), axis("v", 64, "q")], 0.9, multiple=8).even
    assert plain(even(counts(q=9, v=1))) == {"q": 16, "v": 32}


def test_a_stride_holds_for_its_own_axis_and_its_team():
    sites = [axis("wide", 32, stride=8), axis("experts", 4), axis("q", 8, "q", stride=4), axis("v", 16, "q")]
    for even in (Even.of(sites), bounded(sites, 0.9).even):
        found = even(counts(wide=9, experts=3, q=1, v=3))
        assert plain(found) == {"wide": 16, "experts": 3, "q": 4, "v": 8}
    assert bounded(sites, 0.9, multiple=3).multiple == {"wide": 24, "experts": 3, "q": 12, "v": 3}


def test_limits_below_a_stride_are_refused():
    with pytest.raises(InputError, match="wide must keep multiples of 8 units"):
        bounded([axis("wide", 32, stride=8)], 0.9, maximum={"wide": 0.2})


def test_limits_that_no_share_can_hold_are_refused():
    with pytest.raises(InputError, match="q and v must keep equal shares"):
        bounded([axis("q", 4, "q"), axis("v", 8, "q")], 0.9, minimum={"q": 0.75}, maximum={"v": 0.5})


@st.composite
def grounds(draw):
    """Sites in teams of one to three, with scores."""
    sites = []
    for team in range(draw(st.integers(1, 3))):
        base, stride = draw(st.sampled_from([2, 3, 4, 8])), draw(st.sampled_from([1, 1, 2]))
        names = [f"{team}{letter}" for letter in "abc"[: draw(st.integers(1, 3))]]
        even = names[0] if len(names) > 1 else None
        sites += [axis(name, base * draw(st.sampled_from([1, 2, 3])), even, stride) for name in names]
    random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    scores = {s.name: Scores(torch.rand(s.units, generator=random) * 10.0 ** draw(st.integers(-1, 1))) for s in sites}
    return sites, scores


@settings(max_examples=60, deadline=None)
@given(grounds(), st.floats(0.3, 1.0), st.sampled_from([Global(), Global("mean"), Uniform(), Lamp()]), st.sampled_from([1, 2]))
def test_every_allocation_keeps_teams_even_and_meets_the_goal_within_a_step(ground, ratio, allocation, multiple):
    sites, scores = ground
    named = {site.name: site for site in sites}
    wish = bounded(sites, ratio, multiple=multiple)
    try:
        keeps = allocation.allocate(named, scores, wish)
    except InputError as refused:
        assert "the least that may stay" in str(refused) or "Nothing may be removed" in str(refused)
        return
    assert wish.price(keeps) <= wish.limit
    shares = {}
    for site in sites:
        kept = int(keeps[site.name])
        assert wish.lower[site.name] <= kept <= site.units and (kept % lcm(multiple, site.axis.stride) == 0 or kept == site.units)
        shares.setdefault(site.axis.even or site.name, set()).add(kept / site.units)
    assert all(len(share) == 1 for share in shares.values())
    step = max((team.stride * sum(team.per_step.values()) for team in wish.even.teams), default=1)
    if multiple == 1 and ratio < 1:  # a multiple may hold a team back altogether
        assert wish.price(keeps) > wish.limit - step


def head_dims(model, args, **parts):
    graph = trace(model, args)
    recipe = magnitude.but(structure=Axes(("head-dim",)), **parts)
    sites = tuple(recipe.structure.sites(graph))
    goal = Goal("params", 0.8)
    return Ground(recipe, sites, price(goal, graph, sites, recipe.structure), goal)


def shares(ground, alive):
    found = {}
    for site in ground.sites:
        found.setdefault(site.axis.even, set()).add(float(alive[site.name].float().mean()))
    return found


@pytest.mark.parametrize("make", [zoo.bert, zoo.gpt2, zoo.llama], ids=lambda make: make.__name__)
@pytest.mark.parametrize("action", [Prune(0.9), Drop(0.3), Regrow(Magnitude())], ids=lambda a: type(a).__name__)
def test_every_action_leaves_teams_even(make, action):
    model, args = make()
    ground = head_dims(model, args, allocation=Global())
    tensors = dict(model.named_parameters())
    alive = {site.name: torch.arange(site.units) < site.units // 2 for site in ground.sites}
    if not isinstance(action, Regrow):
        alive = {name: torch.ones_like(mask) for name, mask in alive.items()}
    dropped = {name: len(mask) // 4 for name, mask in alive.items()}
    decisions = decide(ground, action, tensors, alive, lambda needs: {}, dropped, 0)
    after = shares(ground, {name: decision.keep for name, decision in decisions.items()})
    assert None not in after and all(len(share) == 1 for share in after.values())


def test_an_axis_is_left_alone_where_its_partner_is_not_chosen():
    model, args = zoo.bert()
    graph = trace(model, args)
    sites = Axes(("head-dim", "neuron"), keep=("*0*query*",)).sites(graph)
    layers = {site.name for site in sites if site.axis.family == "head-dim"}
    assert layers and not any(".0." in name for name in layers)
    with pytest.raises(InputError, match=r"can only shrink together with .*query"):
        Axes(("head-dim",), only=("*value*",)).sites(graph)
