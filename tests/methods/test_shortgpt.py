"""Block influence (ShortGPT, Men et al., 2024)."""

import torch
from torch import nn
from torch.testing import assert_close

from handmade import branch_site, net, view
from pomona.collect import collect
from pomona.criteria.block_influence import BlockInfluence
from pomona.structures.layers import Layers


class Linearly(nn.Module):
    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def forward(self, x):
        return (x @ self.matrix, None)


class Stack(nn.Module):
    def __init__(self, *matrices):
        super().__init__()
        self.blocks = nn.ModuleList(Linearly(m) for m in matrices)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)[0]
        return x


def influence(model, x):
    stats = collect(model, [branch_site()], BlockInfluence().needs, [x])["blocks"]
    return BlockInfluence().score(view(net(), branch_site(), stats)).value


def test_scaling_is_0_a_right_angle_1_and_reversal_2():
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    value = influence(Stack(3 * torch.eye(2), quarter, -torch.eye(2)), torch.randn(4, 7, 2))
    assert_close(value, torch.tensor([0.0, 1.0, 2.0]), atol=1e-6, rtol=0)


def test_rescaling_a_blocks_output_changes_nothing():
    torch.manual_seed(0)
    x, (a, b, c) = torch.randn(4, 7, 3), torch.randn(3, 3, 3)
    assert_close(influence(Stack(a, b, c), x), influence(Stack(5 * a, b, 0.1 * c), x))


def test_a_block_that_does_nothing_scores_0_goes_first_and_is_not_missed():
    model = net()
    with torch.no_grad():
        model.blocks[1].map.weight.zero_()
        model.blocks[1].map.bias.zero_()
    x = torch.randn(8, 2, 4, 4)
    before = model(x)
    stats = collect(model, [branch_site()], BlockInfluence().needs, [x])["blocks"]
    scores = BlockInfluence().score(view(model, branch_site(), stats))
    assert scores.value[1].abs() < 1e-6
    assert Layers().select(branch_site(), scores, torch.tensor(2)).tolist() == [True, False, True]
    model.blocks[1] = nn.Identity()
    assert torch.equal(model(x), before)


def test_feature_maps_have_their_features_in_dimension_1():
    class Turn(nn.Module):
        def forward(self, x):
            return x.flip(1) * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)

    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Turn(), nn.Identity(), Turn()])

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    assert_close(influence(Maps(), torch.randn(3, 2, 4, 4)), torch.tensor([1.0, 0.0, 1.0]), atol=1e-6, rtol=0)
