"""Plans without surgery, and graphs that serve several goals."""

import time

import pytest
import torch

import pomona
import zoo
from pomona.vocabulary import InputError

WISH = {"method": "l1-filters", "goal": "macs=0.5x"}


def kept(plan):
    return {name: plan.keep(name).tolist() for name in plan.sites}


def test_a_plan_is_what_prune_removes_and_replay_carries_it_out():
    model, args = zoo.resnet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = pomona.plan(model, args, **WISH)
    result = pomona.prune(model, args, latency=False, **WISH)
    assert kept(plan) == kept(result.plan) and str(plan.provenance["goal"]) == "macs=0.5x"
    again = pomona.replay(model, plan, args, latency=False)
    assert again.report.proof.passed and again.report.macs.after == result.report.macs.after
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_graph_stands_for_the_inputs_it_was_traced_on(monkeypatch):
    model, args = zoo.resnet()
    first = pomona.prune(model, args, latency=False, **WISH)
    monkeypatch.setattr("pomona.face.job.survey", lambda *_, **__: pytest.fail("traced again"))
    second = pomona.prune(model, first.graph, method="l1-filters", goal="macs=0.3x", latency=False)
    assert second.report.proof.passed and second.report.macs.after < first.report.macs.after
    third = pomona.replay(model, first.plan, first.graph, latency=False)
    assert third.report.macs.after == first.report.macs.after


def test_a_graph_serves_a_model_that_was_trained_since():
    model, args = zoo.resnet()
    graph = pomona.trace(model, args)
    trained, _ = zoo.resnet()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    result = pomona.prune(trained, graph, latency=False, **WISH)
    anew = pomona.prune(trained, args, latency=False, **WISH)
    assert result.report.proof.passed and kept(result.plan) == kept(anew.plan)
    for x, y in zip(result.model.parameters(), anew.model.parameters(), strict=True):
        assert torch.equal(x, y)


def test_a_graph_of_another_model_is_refused():
    graph = pomona.trace(*zoo.mlp())
    with pytest.raises(InputError, match=r"traced on another model: '0\.weight'"):
        pomona.plan(zoo.resnet()[0], graph, **WISH)
    narrow, _ = zoo.mlp()
    narrow[0], narrow[2] = torch.nn.Linear(8, 15), torch.nn.Linear(15, 12)
    with pytest.raises(InputError, match=r"'0.weight' is .*15, 8.* here and .*16, 8.* there"):
        pomona.plan(narrow, graph, goal="params=0.5x", structure="neurons")
    with pytest.raises(InputError, match="without release='output'"):
        pomona.plan(zoo.mlp()[0], graph, goal="params=0.5x", structure="neurons", release="output")


def test_a_second_plan_takes_well_under_a_second():
    model, args = zoo.resnet()
    graph = pomona.trace(model, args)
    pomona.plan(model, graph, **WISH)
    start = time.process_time()
    pomona.plan(model, graph, method="l1-filters", goal="macs=0.3x")
    assert time.process_time() - start < 0.5
