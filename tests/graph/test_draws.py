"""Models that draw random numbers in evaluation, and ops that do not take float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from halving import Does, halved
from pomona.graph import trace
from pomona.graph.draws import draws
from pomona.graph.export import export
from pomona.vocabulary import InputError


def layers(**more):
    torch.manual_seed(0)
    return {"first": nn.Linear(6, 10), "last": nn.Linear(10, 3), **more}


def drawn_order(m, x):
    """Keeps four positions of eight, drawn anew each time, as a masked autoencoder does."""
    kept = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, :4]
    y = m.first(x)
    return m.last(torch.gather(y, 1, kept.unsqueeze(-1).repeat(1, 1, y.shape[-1])).relu())


def test_positions_drawn_anew_are_the_same_for_both_models_in_the_proof():
    found = halved(Does(drawn_order, **layers()), torch.randn(2, 8, 6))
    assert found.form == "eager" and found.proof.passed
    assert found.small.first.weight.shape == (5, 6)
    assert any("same draws" in note for note in found.proof.notes)


def test_a_width_that_numbers_are_drawn_for_is_frozen():
    for noisy in (
        lambda m, x: m.last(F.dropout(m.first(x), 0.5, training=True)),
        lambda m, x: m.last(m.first(x) + torch.randn_like(m.first(x))),
        lambda m, x: m.last(torch.bernoulli(m.first(x).sigmoid())),
    ):
        graph = trace(Does(noisy, **layers()), torch.randn(2, 6))
        assert graph.why("first.weight:0") == "first.weight:0 is frozen: random numbers"


def test_dropout_that_evaluation_turns_off_freezes_nothing():
    model = Does(lambda m, x: m.last(m.drop(m.first(x))), **layers(drop=nn.Dropout(0.5)))
    assert trace(model, torch.randn(2, 6)).axes["first.weight:0"].frozen is None
    assert not draws(export(model, torch.randn(2, 6)))


def test_the_callers_random_numbers_go_on_as_if_nothing_had_been():
    model, x = Does(drawn_order, **layers()), torch.randn(2, 8, 6)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    halved(model, x)
    assert torch.equal(torch.rand(4), expected)


@torch.library.custom_op("pomona_tests::halve", mutates_args=())
def halve(x: torch.Tensor) -> torch.Tensor:
    if x.dtype != torch.float32:
        raise RuntimeError("halve takes float32 only")
    return x / 2


@halve.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_an_op_that_does_not_take_float64_is_named_in_one_sentence():
    model = Does(lambda m, x: m.last(m.first(halve(x))), **layers())
    with pytest.raises(InputError, match=r"cannot be run in float64.*halve takes float32 only") as refusal:
        halved(model, torch.randn(2, 6))
    assert "\n" not in str(refusal.value)
