from math import log

import pytest
import torch
from torch.testing import assert_close

from pomona.gates.hard import Hard
from pomona.gates.learned_threshold import THRESHOLD, LearnedThreshold, long_tailed
from pomona.gates.open import Open
from pomona.gates.straight_through import StraightThrough
from pomona.vocabulary import Clock, InputError, Member, Site, Weight

CLOCK = Clock()


def site(shape, out_dim=0, in_dim=1, kind="element"):
    return Site("w", kind, shape, (Member("w", "self"),), weight=Weight("w", "linear", shape, out_dim, in_dim))


def gradients(gate, weight, alive, learned):
    weight = weight.clone().requires_grad_()
    learned = {n: v.clone().requires_grad_() for n, v in learned.items()}
    out = gate.apply(weight, alive, learned, CLOCK)
    out.backward(torch.ones_like(out))
    return out.detach(), weight.grad, {n: v.grad for n, v in learned.items()}


def test_hard_hides_even_a_dead_nan_and_stops_its_gradient():
    weight, alive = torch.tensor([1.0, -2.0, float("nan")]), torch.tensor([True, False, False])
    out, grad, _ = gradients(Hard(), weight, alive, {})
    assert_close(out, torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=0)
    assert not out.signbit().any() and torch.equal(grad, alive.float())


def test_straight_through_is_masked_forward_to_the_bit_and_dense_backward():
    weight, alive = torch.randn(50), torch.rand(50) > 0.5
    out, grad, _ = gradients(StraightThrough(), weight, alive, {})
    assert torch.equal(out, torch.where(alive, weight, 0)) and torch.equal(grad, torch.ones(50))


def test_open_changes_nothing():
    weight = torch.randn(5)
    assert Open().apply(weight, torch.zeros(5, dtype=torch.bool), {}, CLOCK) is weight


def test_the_long_tailed_estimator_at_the_papers_points():
    q = torch.tensor([0.0, 0.2, -0.2, 0.4, 0.7, 1.2])
    assert_close(long_tailed(q), torch.tensor([2.0, 1.2, 1.2, 0.4, 0.4, 0.0]))
    grid = torch.linspace(-1.5, 1.5, 300_001, dtype=torch.float64)
    assert_close(torch.trapezoid(long_tailed(grid), grid).item(), 1.44, atol=1e-4, rtol=0)


def test_threshold_gradients_by_hand():
    """w=.3 above t=.1: dL/dt=-.36, dL/dw=1.36; w=.05 below it: dL/dw=.09, dL/dt=-.09. Guard off: one weight is all there is."""
    gate = LearnedThreshold(guard=-1.0)
    threshold = {THRESHOLD: torch.full((1, 1), 0.1)}
    for w, out, by_weight, by_threshold in [(0.3, 0.3, 1.36, -0.36), (0.05, 0.0, 0.09, -0.09), (-0.3, -0.3, 1.36, 0.36)]:
        o, gw, gt = gradients(gate, torch.tensor([[w]]), torch.ones(1, 1, dtype=torch.bool), threshold)
        assert_close((o.item(), gw.item(), gt[THRESHOLD].item()), (out, by_weight, by_threshold))


def test_threshold_gradients_sum_over_the_neurons_row():
    gate, weight, t = LearnedThreshold(), torch.randn(3, 5), {THRESHOLD: torch.full((3, 1), 0.2)}
    _, _, grads = gradients(gate, weight, torch.ones(3, 5, dtype=torch.bool), t)
    assert_close(grads[THRESHOLD], -(weight * long_tailed(weight.abs() - 0.2)).sum(1, keepdim=True))


def test_zero_thresholds_leave_the_dense_layer():
    gate, weight = LearnedThreshold(), torch.randn(4, 6)
    learned = gate.learned(site((4, 6)), weight)
    assert torch.equal(gate.apply(weight, torch.ones(4, 6, dtype=torch.bool), learned, CLOCK), weight)


@pytest.mark.parametrize(
    ("per", "shape", "out_dim", "expected"),
    [
        ("neuron", (4, 3, 2, 2), 0, (4, 1, 1, 1)),
        ("neuron", (6, 4), 1, (1, 4)),
        ("site", (4, 6), 0, (1, 1)),
        ("weight", (4, 6), 0, (4, 6)),
    ],
)
def test_thresholds_have_the_grain_asked_for(per, shape, out_dim, expected):
    learned = LearnedThreshold(per, start=log(2)).learned(site(shape, out_dim, 1 - out_dim), torch.zeros(shape))
    assert learned[THRESHOLD].shape == expected and learned[THRESHOLD].unique().item() == pytest.approx(log(2))


def test_a_site_that_would_vanish_is_whole_again():
    gate, weight = LearnedThreshold(), torch.randn(10, 20)
    learned = {THRESHOLD: torch.full((10, 1), 99.0)}
    assert torch.equal(gate.apply(weight, torch.ones(10, 20, dtype=torch.bool), learned, CLOCK), weight)
    assert torch.equal(gate.mend(weight, learned)[THRESHOLD], torch.zeros(10, 1))
    mild = {THRESHOLD: torch.full((10, 1), 0.5)}
    assert torch.equal(gate.mend(weight, mild)[THRESHOLD], mild[THRESHOLD])


def test_units_larger_than_weights_are_refused():
    with pytest.raises(InputError, match="single weights"):
        LearnedThreshold().learned(site((4,), kind="axis"), torch.zeros(4, 6))
