from math import log

import pytest
import torch
from torch.testing import assert_close

from pomona.regularisers.growing_l2 import GrowingL2
from pomona.regularisers.norms import L1, L2
from pomona.regularisers.threshold_pull import ThresholdPull
from pomona.structures.weights import Weights
from pomona.vocabulary import Clock, InputError, Member, Site, View, Weight


def view(weight, alive=None, **learned):
    shape = tuple(weight.shape)
    site = Site("w", "element", shape, (Member("w", "self"),), weight=Weight("w", "linear", shape, 0, 1))
    alive = torch.ones(shape, dtype=torch.bool) if alive is None else alive
    return View(site, Weights(), {"w": weight, **{f"gate/{k}": v for k, v in learned.items()}}, alive)


def grown(part, v, steps):
    state = None
    for step in range(1, steps + 1):
        state = part.advance(v, state, Clock(step=step))
    return state


def test_lam_counts_updates_for_the_condemned_alone():
    alive = torch.tensor([[True, False, True]])
    state = grown(GrowingL2(delta=1e-2, every=10), view(torch.ones(1, 3), alive), 35)
    assert_close(state["lam"], torch.tensor([[0.0, 0.03, 0.0]]))


def test_without_a_delta_the_ceiling_is_reached_after_three_quarters_of_the_run():
    part, v, state, lams = GrowingL2(delta=None, every=5), view(torch.ones(1, 2), torch.tensor([[True, False]])), None, {}
    for step in range(1, 201):
        state = part.advance(v, state, Clock(step=step, steps=200))
        lams[step] = state["lam"][0, 1].item()
    assert lams[145] < 1 and lams[150] == pytest.approx(1.0) and lams[200] == 1.0 and lams[75] == pytest.approx(0.5)


def test_lam_stops_at_the_ceiling():
    state = grown(GrowingL2(delta=0.4, every=1, ceiling=1.0), view(torch.ones(1, 2), torch.tensor([[True, False]])), 5)
    assert state["lam"][0, 1] == 1.0


def test_a_site_whose_condemned_are_gone_is_finished():
    weight = torch.tensor([[1.0, 1e-5]])
    state = grown(GrowingL2(delta=0.1, every=1, ratio=1000), view(weight, torch.tensor([[True, False]])), 5)
    assert state["lam"].sum() == 0


def test_the_penalised_quadratic_settles_where_the_paper_says():
    """H = diag(1, 4), w* = (1, .8), lam = 1 on both: (H + I)^-1 H w* = (.5, .64), and the order by magnitude has flipped."""
    hessian, optimum = torch.tensor([[1.0, 4.0]]), torch.tensor([[1.0, 0.8]])
    w = optimum.clone().requires_grad_()
    part, state = GrowingL2(), {"lam": torch.ones(1, 2), "ratio": torch.zeros(())}
    for _ in range(400):
        loss = (0.5 * hessian * (w - optimum) ** 2).sum() + part.penalty(view(w), state, Clock(step=1))
        (grad,) = torch.autograd.grad(loss, w)
        w.data -= 0.1 * grad
    assert_close(w.detach(), torch.tensor([[0.5, 0.64]]))


def test_one_step_on_the_penalty_alone_shrinks_by_one_minus_lr_lam():
    w = torch.tensor([[3.0, 2.0]], requires_grad=True)
    state = {"lam": torch.tensor([[0.0, 0.25]]), "ratio": torch.zeros(())}
    (grad,) = torch.autograd.grad(GrowingL2().penalty(view(w), state, Clock()), w)
    assert torch.equal((w - 0.5 * grad).detach(), torch.tensor([[3.0, 2.0 * (1 - 0.5 * 0.25)]]))


def test_norms_by_hand():
    w = torch.tensor([[3.0, -4.0]])
    assert L1(strength=0.5).penalty(view(w), None, Clock()) == 3.5
    assert L2(strength=0.5).penalty(view(w), None, Clock()) == 6.25


def test_the_threshold_pull_by_hand():
    t = torch.tensor([[0.0], [log(2)]], requires_grad=True)
    penalty = ThresholdPull(alpha=1.0).penalty(view(torch.zeros(2, 3), threshold=t), None, Clock())
    penalty.backward()
    assert_close(penalty.item(), 1.5)
    assert_close(t.grad, torch.tensor([[-1.0], [-0.5]]))


def test_alpha_rises_while_too_dense_and_rests_without_a_goal():
    v, part = view(torch.zeros(2, 3), threshold=torch.zeros(2, 1)), ThresholdPull(alpha=1e-3, rate=0.5)
    dense = part.advance(v, None, Clock(signals={"density": 0.9, "goal": 0.1}))
    sparse = part.advance(v, None, Clock(signals={"density": 0.05, "goal": 0.1}))
    alone = part.advance(v, None, Clock(signals={"density": 0.9}))
    assert dense["alpha"] > 1e-3 > sparse["alpha"] and alone["alpha"] == 1e-3


def test_a_pull_without_thresholds_is_refused():
    with pytest.raises(InputError, match="LearnedThreshold"):
        ThresholdPull().penalty(view(torch.zeros(2, 3)), None, Clock())
