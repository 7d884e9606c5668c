import pytest
import torch
from torch import nn

import zoo
from plans import prunable
from pomona.graph import Shares, shares, trace


def of(model, *shape):
    return shares(trace(model.eval(), torch.randn(*shape)))


def test_a_perceptron_by_hand():
    found = of(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)), 1, 3)
    half = pytest.approx(48 / 84)  # the first layer reads the input, the last one writes the output
    assert found == Shares(params=1 - 2 / 100, macs=1.0, macs_two_factors=half, macs_exact=1.0, macs_two_widths=half)


def test_a_depthwise_convolution_has_one_width_by_nature_and_an_output_is_held_unless_released():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)).eval()
    x = torch.randn(1, 3, 5, 5)
    stem, depthwise, middle, last = 25 * 24, 9 * 72, 9 * 48, 9 * 24
    whole = stem + depthwise + middle + last
    assert shares(trace(model, x)).macs_two_widths == pytest.approx(middle / whole)
    released = shares(trace(model, x, release="output"))
    for share in (released.macs_two_widths, released.macs_two_factors):
        assert share == pytest.approx((middle + last) / whole)


def test_a_width_that_an_op_without_a_rule_freezes_is_still_one():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.c(self.b(self.a(x).sort(-1).values))

    found = of(Sorted(), 1, 3)
    assert found.macs_two_factors == 0
    assert found.macs_two_widths == pytest.approx(48 / 84)


def test_a_single_layer_has_nothing_to_prune():
    assert of(nn.Linear(3, 8), 1, 3) == Shares(0.0, 0.0, 0.0, 0.0, 0.0)


def test_only_the_part_of_a_concatenation_that_can_shrink_counts():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 12, bias=False), nn.Linear(16, 2, bias=False)

        def forward(self, x):
            return self.b(torch.cat([x, self.a(x)], -1))

    found = of(Skip(), 1, 4)
    assert found.macs == pytest.approx((48 + 24) / (48 + 32))
    assert found.macs_two_factors == 0


def test_axes_under_a_normaliser_are_not_exact():
    found = of(nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)), 1, 3)
    assert found.macs == 1
    assert found.macs_exact == pytest.approx((48 + 12) / 84)


@pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)
def test_what_lies_on_no_prunable_axis_is_what_the_smallest_model_cannot_lose(make):
    graph = trace(*make())
    found = shares(graph)
    assert 0 <= found.macs_two_factors <= found.macs <= 1
    assert 0 <= found.macs_exact <= found.macs
    assert 0 <= found.macs_two_widths <= 1
    least, whole = graph.costs({name: 1 for name in prunable(graph)}), graph.costs()
    assert least.macs >= (1 - found.macs) * whole.macs - 1
    assert least.params >= (1 - found.params) * whole.params - 1
