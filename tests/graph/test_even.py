"""Which axes form a team: the widths that an attention sums over and returns, where code keeps one number for both."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoo
from pomona.graph import trace


class Attention(nn.Module):
    """Queries and keys of one width, values of another (or the same), 2 heads; `mix` answers from q, k and v."""

    def __init__(self, mix, width=6, returned=6):
        super().__init__()
        self.width, self.returned, self.mix = width, returned, mix
        self.q, self.k, self.v = nn.Linear(5, 2 * width), nn.Linear(5, 2 * width), nn.Linear(5, 2 * returned)
        self.out = nn.Linear(2 * returned, 3)

    def forward(self, x):
        shape = x.shape[0], x.shape[1], 2, -1
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(self.mix(self, q, k, v).transpose(1, 2).flatten(2))


def fused(self, q, k, v):
    return F.scaled_dot_product_attention(q, k, v)


def plain(self, q, k, v):
    return ((q @ k.transpose(-2, -1)) / 3 + 1).softmax(-1) @ v


def einsum(self, q, k, v):
    return torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1), v)


def linear(self, q, k, v):
    return F.elu(q) @ (F.elu(k).transpose(-2, -1) @ v)


def across(self, q, k, v):
    return ((q.transpose(-2, -1) @ k).softmax(-1) @ v.transpose(-2, -1)).transpose(-2, -1)


def teams(model, args):
    found = {}
    for axis in trace(model.eval(), args).axes.values():
        if axis.even is not None:
            found.setdefault(axis.even, []).append(axis.name)
    return list(found.values())


X = torch.randn(2, 4, 5)


@pytest.mark.parametrize("mix", [fused, plain, einsum, linear], ids=lambda mix: mix.__name__)
def test_the_widths_of_one_attention_are_a_team(mix):
    assert teams(Attention(mix), X) == [["q.weight:0/head-dim", "v.weight:0/head-dim"]]


def test_attention_between_features_has_two_widths_as_well():
    assert [{name.split(".")[0] for name in team} for team in teams(Attention(across), X)] == [{"q", "k"}]


@pytest.mark.parametrize("mix", [fused, plain, einsum], ids=lambda mix: mix.__name__)
def test_widths_that_differ_are_two_numbers_of_the_code(mix):
    assert teams(Attention(mix, returned=4), X) == []


def test_layers_are_teams_of_their_own_unless_a_rotary_table_joins_them():
    assert [len(team) for team in teams(*zoo.bert())] == [2, 2]
    assert [len(team) for team in teams(*zoo.llama())] == [3]  # the pairs of all layers, the values of each


def test_a_width_with_a_part_that_cannot_shrink_holds_its_partner():
    def padded(self, q, k, v):
        return fused(self, F.pad(q, (0, 2), value=0.5), F.pad(k, (0, 2), value=0.5), v)

    graph = trace(Attention(padded, width=4).eval(), X)
    for place in ("q.weight:0", "v.weight:0"):
        assert "one number of the code" in graph.why(place)
