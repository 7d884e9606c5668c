"""Laws of every registered regulariser."""

import pytest
import torch
from torch.autograd import gradcheck

from handmade import axis_site, net
from pomona.registry import parts
from pomona.regularisers.group_shrink import GroupShrink
from pomona.regularisers.growing_l2 import GrowingL2
from pomona.regularisers.norms import L1, L2
from pomona.regularisers.scale_l1 import ScaleL1
from pomona.regularisers.threshold_pull import ThresholdPull
from pomona.structures.axes import Axes
from pomona.structures.weights import Weights
from pomona.vocabulary import Clock, Member, Regulariser, Site, View, Weight

# How to switch each off; a new regulariser must say so here.
OFF = {
    "GroupShrink": GroupShrink(strength=0.0),
    "GrowingL2": GrowingL2(delta=0.0),
    "L1": L1(strength=0.0),
    "L2": L2(strength=0.0),
    "ScaleL1": ScaleL1(strength=0.0),
    "ThresholdPull": ThresholdPull(alpha=0.0),
}
PARTS = {name: kind() for name, kind in parts("regularisers").items()}
every = pytest.mark.parametrize("name", sorted(PARTS))


def element(weight, threshold, seed=0):
    site = Site("w", "element", (3, 4), (Member("w", "self"),), weight=Weight("w", "linear", (3, 4), 0, 1))
    alive = torch.rand(3, 4, generator=torch.Generator().manual_seed(seed)) > 0.5
    return View(site, Weights(), {"w": weight, "gate/threshold": threshold}, alive)


def tensors():
    g = torch.Generator().manual_seed(3)
    return torch.randn(3, 4, generator=g, dtype=torch.float64), torch.rand(3, 1, generator=g, dtype=torch.float64)


def after(part, view, steps=20):
    state = None
    for k in range(1, steps + 1):
        state = part.advance(view, state, Clock(k, signals={"density": 0.8, "goal": 0.5}))
    return state


def test_every_regulariser_can_be_switched_off():
    assert sorted(OFF) == sorted(PARTS)


@every
def test_strength_zero_changes_nothing(name):
    w, t = tensors()
    w.requires_grad_(), t.requires_grad_()
    view = element(w, t)
    penalty = OFF[name].penalty(view, after(OFF[name], element(w.detach(), t.detach())), Clock(20))
    # A part that finds nothing of its kind at a site (ScaleL1 on single weights) answers with a constant.
    grads = torch.autograd.grad(penalty, (w, t), allow_unused=True) if penalty.requires_grad else ()
    assert penalty == 0 and all(g is None or not g.any() for g in grads)


@every
def test_its_gradient_is_that_of_its_penalty(name):
    part, (w, t) = PARTS[name], tensors()
    state = after(part, element(w, t))
    assert gradcheck(lambda a, b: part.penalty(element(a, b), state, Clock(20)), (w.requires_grad_(), t.requires_grad_()))


@every
def test_advancing_is_pure_and_its_state_is_finite_tensors(name):
    part, (w, t) = PARTS[name], tensors()
    view = element(w, t)
    state = after(part, view)
    kept = {k: v.clone() for k, v in state.items()}
    one, two = (part.advance(view, state, Clock(30)) for _ in range(2))
    assert isinstance(part, Regulariser)
    assert all(torch.equal(v, kept[k]) for k, v in state.items()) and all(torch.equal(v, two[k]) for k, v in one.items())
    assert all(torch.isfinite(v).all() for v in one.values())


GROWN = GrowingL2(delta=0.1, every=1), GrowingL2(delta=0.1, every=1, roles=("out", "in", "scale"))


@pytest.mark.parametrize("part", [*GROWN, GroupShrink(), GroupShrink(roles=("out",)), L1("scale"), L2("out")])
def test_axes_are_pulled_through_their_members(part):
    model, site = net(), axis_site()
    values = {m.tensor: model.get_parameter(m.tensor) for m in site.members if not m.buffer}
    alive = torch.tensor([True, False, True, False, True])
    state = part.advance(View(site, Axes(), values, alive), None, Clock(1))
    part.penalty(View(site, Axes(), values, alive), state, Clock(1)).backward()
    pulled = {name for name, p in values.items() if p.grad is not None and p.grad.any()}
    roles = {m.tensor: m.role for m in site.members}
    wanted = getattr(part, "roles", None) or (part.role,)
    assert pulled == {name for name in values if roles[name] in wanted}
    if isinstance(part, GrowingL2):
        grad, weight = model.conv.weight.grad, model.conv.weight
        assert not grad[alive].any() and torch.allclose(grad[~alive], 0.1 * weight[~alive])
