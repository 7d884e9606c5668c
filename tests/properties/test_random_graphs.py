"""Whatever a network is made of, a plan over its axes is carried out and proven, or its axes are frozen with a reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halving import alive
from pomona.graph import Graph, trace
from pomona.graph.masked import masked
from pomona.graph.precise import precise
from pomona.graph.proof import prove
from pomona.graph.reference import answer
from pomona.graph.surgery import realise
from pomona.vocabulary import Decision, Plan, Site
from program_ops import POSITIONS, SUPPORTED, UNSUPPORTED
from programs import Network, networks

quick = settings(max_examples=40, suppress_health_check=list(HealthCheck), database=None)
thorough = settings(max_examples=600, suppress_health_check=list(HealthCheck), database=None, print_blob=True)
FOLDED = 1e-6  # weights that took in a scale are rounded to float32 once more, and the proof says so


def plans(draw: Any, graph: Graph) -> Plan:
    """Some of the axes, of each any units but as many as must stay."""
    free = [axis for axis in graph.axes.values() if axis.frozen is None]
    chosen = draw(st.lists(st.sampled_from(free), unique_by=lambda a: a.name, min_size=1)) if free else []
    sites, decisions = {}, {}
    for axis in chosen:
        keep = torch.tensor(draw(st.lists(st.booleans(), min_size=axis.size, max_size=axis.size)))
        keep[draw(st.permutations(range(axis.size)))[: axis.least]] = True
        sites[axis.name] = Site(axis.name, "axis", (axis.size,), axis.members, axis=axis)
        decisions[axis.name] = Decision(keep)
    return Plan(sites, decisions)


def holds(network: Network, data: Any) -> Graph:
    """Trace, draw a plan, carry it out, prove it, and run the result on another number of examples."""
    model = alive(network, seed=1)
    x = torch.randn(2, 3, POSITIONS, generator=torch.Generator().manual_seed(3))
    graph = trace(model, x)
    assert all(a.frozen != "" for a in graph.axes.values())
    plan = plans(data.draw, graph)
    if not plan.sites:
        return graph
    realised = realise(model, graph, plan)
    proof = prove(model, graph, plan, realised.model, (x,))
    assert proof.passed, (proof.max_error, realised.notes)
    if realised.form == "eager":
        more = torch.randn(3, 3, POSITIONS, generator=torch.Generator().manual_seed(4))
        got = answer(precise(realised.model), (more,), {})
        if not proof.approximate_groups:
            (expected,) = answer(precise(masked(model, plan)), (more,), {})
            near = FOLDED if any("rounded" in note for note in proof.notes) else proof.tolerance
            torch.testing.assert_close(got[0], expected, rtol=near, atol=near)
    return graph


@quick
@given(network=networks(SUPPORTED), data=st.data())
def test_networks_of_supported_ops_are_cut_and_proven(network, data):
    assert holds(network, data).unknown == ()


@quick
@given(network=networks(SUPPORTED, one_of=UNSUPPORTED), data=st.data())
def test_ops_that_are_not_understood_freeze_and_never_break(network, data):
    holds(network, data)


@pytest.mark.slow
@thorough
@given(network=networks(SUPPORTED, most=9), data=st.data())
def test_many_networks_of_supported_ops_are_cut_and_proven(network, data):
    holds(network, data)


@pytest.mark.slow
@thorough
@given(network=networks(SUPPORTED, most=9, one_of=UNSUPPORTED), data=st.data())
def test_many_networks_with_ops_that_are_not_understood_never_break(network, data):
    holds(network, data)
