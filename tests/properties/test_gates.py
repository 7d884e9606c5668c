"""Laws of every registered gate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handmade import net
from loops import begin, sgd, train
from pomona.recipes.gradual import gradual_magnitude
from pomona.registry import parts
from pomona.schedules.cubic import Cubic
from pomona.structures.weights import Weights
from pomona.vocabulary import Clock, Gate, Member, Site, Weight

GATES = {name: kind() for name, kind in parts("gates").items()}
every_gate = pytest.mark.parametrize("name", sorted(GATES))
SITE = Site("w", "element", (4, 6), (Member("w", "self"),), weight=Weight("w", "linear", (4, 6), 0, 1))


def weight(seed: int) -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))


@every_gate
def test_it_keeps_the_protocol_and_says_whether_the_dead_are_held(name):
    assert isinstance(GATES[name], Gate) and isinstance(GATES[name].holds, bool)


@every_gate
@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_everyone_alive_means_the_weight_itself(name, seed):
    gate, w = GATES[name], weight(seed)
    assert torch.equal(gate.apply(w, torch.ones(4, 6, dtype=torch.bool), gate.learned(SITE, w), Clock()), w)


@every_gate
@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_it_passes_survivors_unchanged_and_does_not_touch_its_inputs(name, seed):
    gate, w = GATES[name], weight(seed)
    alive, before, learned = weight(seed + 1) > 0, w.clone(), gate.learned(SITE, w)
    out = gate.apply(w, alive, learned, Clock())
    assert torch.equal(w, before) and torch.equal(out[alive], w[alive]) and out.dtype == w.dtype
    assert all(value.requires_grad is False and torch.isfinite(value).all() for value in learned.values())


@every_gate
def test_survivors_get_the_dense_gradient(name):
    gate, w = GATES[name], weight(0).requires_grad_()
    alive = weight(1) > 0
    out = gate.apply(w, alive, {}, Clock()) if not gate.learned(SITE, w.detach()) else None
    if out is None:  # a learned gate adds the gradient through its own step, tested by hand with the gate
        return
    out.backward(weight(2))
    assert torch.equal(w.grad[alive], weight(2)[alive])


@every_gate
def test_once_closed_the_forward_is_the_masked_one_to_the_bit(name):
    model, x = net(), torch.randn(8, 2, 4, 4)
    opt = sgd(model)
    recipe = gradual_magnitude.but(structure=Weights(), schedule=Cubic(every=2), gate=GATES[name])
    with begin(model, opt, recipe, "sparsity=0.6", 6) as s:
        train(model, opt, s, 0, 6)
        inside, masks = model.eval()(x), s.masks
    assert torch.equal(inside, model(x)) and all(not model.get_parameter(n)[~m].any() for n, m in masks.items())
