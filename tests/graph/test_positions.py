"""Positions along a dimension: written in the code, found by `max`, joined by `cat`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from halving import Does, halved
from pomona.graph import trace


def multi_query(m, x):
    """Queries, one key and one value lie in one weight; the key and the value are picked by literal numbers, as in Falcon."""
    heads = m.fused(x).view(*x.shape[:2], m.heads + 2, 5)
    q, k, v = heads[..., :-2, :], heads[..., [-2], :], heads[..., [-1], :]
    out = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k.expand_as(q), v.expand_as(q))))
    return m.out(out.transpose(1, 2).reshape(*x.shape[:2], m.heads * 5))


def test_what_lies_before_a_position_counted_from_the_end_is_free():
    torch.manual_seed(0)
    model = Does(multi_query, fused=nn.Linear(12, 40), out=nn.Linear(30, 4), heads=6)
    found = halved(model, torch.randn(2, 7, 12))
    heads = [a for a in found.graph.axes.values() if a.family == "head" and a.frozen is None]
    assert [a.size for a in heads] == [6]
    assert found.proof.passed and found.proof.max_error < 1e-12
    assert found.small.out.weight.shape[1] < 30


def test_what_lies_behind_a_position_counted_from_the_start_is_free():
    def picks(m, x):
        both = torch.cat([m.a(x), m.b(x)], -1)
        return m.c(both) + both[..., [0]] + both[..., 1].unsqueeze(-1)

    torch.manual_seed(0)
    graph = trace(Does(picks, a=nn.Linear(6, 8), b=nn.Linear(6, 10), c=nn.Linear(18, 3)).eval(), torch.randn(2, 6))
    assert graph.axes["a.weight:0"].frozen in ("picked by number", "a single position is picked")
    assert graph.axes["b.weight:0"].frozen is None


def test_a_position_in_the_middle_of_a_width_freezes_all_of_it():
    def picks(m, x):
        y = m.a(x)
        return m.c(y) + y[..., [3]]

    graph = trace(Does(picks, a=nn.Linear(6, 8), c=nn.Linear(8, 3)).eval(), torch.randn(2, 6))
    assert graph.axes["a.weight:0"].frozen == "picked by number"


def two_best(m, x):
    """The best expert, then the best of the others, found by `max` and put side by side: a router without `topk`."""
    scores = m.router(x)
    first, one = scores.max(-1, keepdim=True)
    second, two = scores.masked_fill(F.one_hot(one[..., 0], scores.shape[-1]).bool(), float("-inf")).max(-1, keepdim=True)
    chosen, weight = torch.cat([one, two], -1), torch.cat([first, second], -1).softmax(-1)
    gates = (F.one_hot(chosen, scores.shape[-1]) * weight.unsqueeze(-1)).sum(-2)
    return torch.einsum("bi,eio,be->bo", x, m.experts, gates)


def test_experts_chosen_by_max_can_be_removed():
    torch.manual_seed(0)
    model = Does(two_best, router=nn.Linear(6, 5), experts=nn.Parameter(torch.randn(5, 6, 3)))
    found = halved(model, torch.randn(9, 6))
    (axis,) = [a for a in found.graph.axes.values() if a.frozen is None]
    assert axis.family == "expert" and {m.tensor for m in axis.members} == {"router.weight", "router.bias", "experts"}
    assert found.proof.passed and found.form == "eager" and found.small.experts.shape == (3, 6, 3)


class Spread(nn.Module):
    """One gate for each example, repeated over a width that the code writes down."""

    def __init__(self):
        super().__init__()
        self.gate, self.value, self.out = nn.Linear(6, 1), nn.Linear(6, 10), nn.Linear(10, 3)

    def forward(self, x):
        return self.out(self.gate(x).sigmoid().repeat(1, 1, 10) * self.value(x))


def test_what_a_one_is_repeated_to_is_free_and_the_literal_is_mended():
    torch.manual_seed(0)
    found = halved(Spread(), torch.randn(2, 4, 6))
    assert found.form == "eager" and found.proof.passed
    assert found.small.value.weight.shape == (5, 6) and found.elsewhere(3) < 1e-9


def test_the_place_of_a_maximum_is_frozen_where_it_is_a_number_for_something_else():
    def places(m, x):
        return m.c(m.a(x)) + m.a(x).max(-1).indices.unsqueeze(-1) * 0.1

    graph = trace(Does(places, a=nn.Linear(6, 8), c=nn.Linear(8, 3)).eval(), torch.randn(2, 6))
    assert graph.axes["a.weight:0"].frozen is not None
