"""Rounds with a solver: what it made of the survivors counts until they are trained, and not after."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import digits
import pomona
import zoo
from pomona.recipes.language import shortgpt
from pomona.recipes.lottery import lottery
from pomona.recipes.magnitude import magnitude, magnitude_iterative
from pomona.recovery.fine_tune import FineTune
from pomona.recovery.retrain import Retrain
from pomona.schedules.rounds import Rounds
from pomona.vocabulary import Decision

DATA = [digits.batch(n) for n in range(6)]


@dataclass(frozen=True)
class Halving:
    """Halves the survivors: easily recognised."""

    @property
    def needs(self):
        return ()

    def solve(self, view, proposal):
        return Decision(proposal, {view.site.name: view.tensors[view.site.name] * 0.5 * proposal})


def prune(recipe, **wish):
    model = digits.mlp()
    return model, pomona.prune(model, DATA[0][0], method=recipe, goal="sparsity=0.75", latency=False, **wish)


def test_what_a_solver_made_of_the_survivors_is_in_the_model_and_in_the_plan():
    model, result = prune(magnitude.but(solver=Halving()))
    for name, keep in result.plan.of_kind("element").items():
        wanted = model.get_parameter(name) * 0.5 * keep
        assert torch.equal(result.model.get_parameter(name), wanted)
        assert torch.equal(result.plan.decisions[name].tensors[name], wanted)
    assert all(torch.equal(a, b) for a, b in zip(result.model.parameters(), replayed(result).parameters(), strict=True))


def test_rounds_without_training_solve_again_and_again():
    model, result = prune(magnitude_iterative.but(solver=Halving(), schedule=Rounds(n=3)))
    for name, keep in result.plan.of_kind("element").items():
        assert torch.equal(result.model.get_parameter(name), model.get_parameter(name) * 0.125 * keep)
    assert all(torch.equal(a, b) for a, b in zip(result.model.parameters(), replayed(result).parameters(), strict=True))


def test_survivors_that_were_trained_in_the_rounds_are_not_overwritten_by_the_solver():
    recipe = lottery.but(solver=Halving(), schedule=Rounds(n=1, first_train=True), recovery=Retrain(2, optimizer="sgd", lr=0.1))
    model, result = prune(recipe, data=DATA, loss=cross_entropy)
    assert not any(decision.tensors for decision in result.plan.decisions.values()) and result.report.proof.passed
    ticket = train_again(model, result.plan)
    for name, keep in result.plan.of_kind("element").items():
        assert torch.equal(result.model.get_parameter(name), ticket.get_parameter(name))
        assert not result.model.get_parameter(name)[~keep].any()


def test_a_last_recovery_trains_on_from_what_the_solver_made():
    recipe = magnitude.but(solver=Halving(), recovery=FineTune(1, lr=1e-9))
    model, result = prune(recipe, data=DATA, loss=cross_entropy)
    for name, keep in result.plan.of_kind("element").items():
        assert torch.allclose(result.model.get_parameter(name), model.get_parameter(name) * 0.5 * keep, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_layers_go_in_rounds_with_training_between_while_the_model_keeps_a_cache(name):
    model, args = getattr(zoo, name)()
    data = [{**args, "labels": args["input_ids"]}] * 3
    recipe = shortgpt.but(schedule=Rounds(n=2), recovery=FineTune(2, lr=1e-3))
    result = pomona.prune(model, args, method=recipe, goal="params=0.85x", data=data, latency=False)
    assert result.report.proof.passed and [entry.round for entry in result.report.rounds] == [1, 2]
    assert sum(int((~keep).sum()) for keep in result.plan.of_kind("branch").values()) == 1
    assert len(result.report.recovery.epochs) == 2


def replayed(result) -> nn.Module:
    return pomona.replay(digits.mlp(), result.plan, DATA[0][0], latency=False).model


def train_again(model, plan) -> nn.Module:
    """The first weights under the final masks, trained once: what the last round of a lottery is."""
    recover = Retrain(2, start="here", optimizer="sgd", lr=0.1)
    return pomona.replay(model, plan, DATA[0][0], data=DATA, loss=cross_entropy, recover=recover, latency=False).model
