"""Wanda: |w| times the input's norm (Sun et al., 2024)."""

import torch
from torch import nn
from torch.testing import assert_close

from handmade import linear_site
from pomona.collect import collect
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.wanda import Wanda
from pomona.structures.weights import Weights
from pomona.vocabulary import View

W = torch.tensor([[4.0, 0, 1, -1], [3, -2, -1, -3], [-3, 1, 0, 2]])
SITE = linear_site("0.weight", (3, 4))
HALF = torch.tensor([2, 2, 2])


def seen(weight, x):
    """The view of one linear layer that read `x`."""
    layer = nn.Linear(4, 3, bias=False)
    layer.weight = nn.Parameter(weight.clone())
    stats = collect(nn.Sequential(layer), [SITE], Wanda().needs, x if isinstance(x, list) else [x])
    return View(SITE, Weights(), {"0.weight": weight}, torch.ones(3, 4, dtype=torch.bool), stats[SITE.name])


def mask(criterion, view):
    return Weights().select(SITE, criterion.score(view), HALF)


def test_the_worked_matrix_of_the_paper():
    view = seen(W, torch.diag(torch.tensor([1.0, 2, 8, 3])))
    assert_close(Wanda().score(view).value, torch.tensor([[4.0, 0, 8, 3], [3, 4, 8, 9], [3, 2, 0, 6]]))
    assert torch.equal(W * mask(Wanda(), view), torch.tensor([[4.0, 0, 1, 0], [0, 0, -1, -3], [-3, 0, 0, 2]]))


def test_equal_norms_give_magnitude_by_row():
    torch.manual_seed(0)
    view = seen(torch.randn(3, 4), torch.eye(4) * 2)
    assert torch.equal(mask(Wanda(), view), mask(Magnitude(), view))


def test_moving_scale_between_input_and_weight_changes_nothing():
    torch.manual_seed(0)
    weight, x, c = torch.randn(3, 4), torch.randn(20, 4), torch.tensor([0.1, 1.0, 10.0, 3.0])
    assert torch.equal(mask(Wanda(), seen(weight, x)), mask(Wanda(), seen(weight / c, x * c)))


def test_the_square_is_twice_the_brain_damage_saliency_of_least_squares():
    torch.manual_seed(0)
    weight, x = torch.randn(3, 4), torch.randn(50, 4)
    h = x.square().sum(0)  # the exact diagonal of the Hessian of ||x w||^2 / 2
    assert_close(Wanda().score(seen(weight, x)).value.square() / 2, h * weight.square() / 2)


def test_streaming_equals_one_pass():
    torch.manual_seed(0)
    weight, x = torch.randn(3, 4), torch.randn(64, 4)
    assert_close(Wanda().score(seen(weight, list(x.split(7)))).value, Wanda().score(seen(weight, x)).value, rtol=1e-6, atol=0)
