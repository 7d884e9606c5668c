from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.functional import unfold
from torch.testing import assert_close

from handmade import linear_site
from pomona.collect import collect
from pomona.statistics.input_norm import InputNorm
from pomona.vocabulary import Convolution, Member, Site, Weight


def norms(layer: nn.Module, x, site):
    return collect(nn.Sequential(layer), [site], [InputNorm()], [x])[site.name][InputNorm()]


def conv_site(layer) -> Site:
    conv = Convolution(layer.stride, layer.padding, layer.dilation, layer.groups, isinstance(layer, nn.ConvTranspose2d))
    weight = Weight("0.weight", "conv", tuple(layer.weight.shape), 0, 1, conv=conv)
    return Site("0.weight", "element", weight.shape, (Member("0.weight", "self"),), weight=weight)


def test_tokens_and_examples_count_alike_for_linear_layers():
    for tokens in (5, 64, 150):  # less than are added at once, as many, and some that are left over
        x = torch.randn(3, tokens, 4)
        found = norms(nn.Linear(4, 2), x, linear_site("0.weight", (2, 4)))
        assert_close(found, x.double().reshape(-1, 4).norm(dim=0).unsqueeze(0), rtol=1e-6, atol=0)


def test_transposed_storage_gets_the_transposed_norms():
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 2))

        def forward(self, x):
            return x @ self.weight

    x = torch.randn(6, 4)
    assert_close(
        norms(Transposed(), x, linear_site("0.weight", (4, 2), out_dim=1)), x.double().norm(dim=0).unsqueeze(1), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(("stride", "padding", "dilation"), list(product([1, 2], [0, 1], [1, 2])))
def test_convolutions_see_unfolded_columns(stride, padding, dilation):
    layer, x = nn.Conv2d(3, 4, (3, 2), stride, padding, dilation), torch.randn(2, 3, 9, 8)
    columns = unfold(x, (3, 2), dilation, padding, stride)  # (examples, in * k, positions)
    expected = columns.double().norm(dim=(0, 2)).reshape(1, 3, 3, 2)
    assert_close(norms(layer, x, conv_site(layer)), expected)


def test_each_group_of_a_grouped_convolution_has_its_own_norms():
    layer, x = nn.Conv2d(4, 6, 3, groups=2), torch.randn(2, 4, 5, 5)
    found = norms(layer, x, conv_site(layer))
    columns = unfold(x, 3).double().norm(dim=(0, 2)).reshape(4, 3, 3)
    assert found.shape == layer.weight.shape
    assert_close(found, torch.stack([columns[:2]] * 3 + [columns[2:]] * 3))


def test_transposed_convolutions_have_one_norm_an_input_channel():
    layer, x = nn.ConvTranspose2d(3, 4, 2), torch.randn(2, 3, 5, 5)
    assert_close(norms(layer, x, conv_site(layer)), x.double().square().sum((0, 2, 3)).sqrt().reshape(3, 1, 1, 1))


def test_half_precision_does_not_overflow():
    x = torch.full((4, 3), 300.0, dtype=torch.float16)
    found = norms(nn.Linear(3, 2).half(), x, linear_site("0.weight", (2, 3)))
    assert_close(found, torch.full((1, 3), 600.0, dtype=torch.float64))
