"""Experts behind a router: what top-k picks by number is followed to the weights, or the axis is frozen."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pomona
from plans import axes_plan
from pomona.graph import trace
from pomona.graph.proof import prove
from pomona.graph.surgery import realise
from pomona.structures.axes import Axes
from pomona.vocabulary import Decision, InputError, Plan, Site

EXPERTS, CHOSEN = 7, 2


class Mixture(nn.Module):
    """Experts stacked in one tensor; `way` says how they are chosen and reached."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.experts = way, EXPERTS
        self.router = nn.Linear(6, EXPERTS)
        self.up = nn.Parameter(torch.randn(EXPERTS, 6, 10) / 3)
        self.down = nn.Parameter(torch.randn(EXPERTS, 10, 6) / 3)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        scores, numbers = getattr(self, self.way)(self.router(x))
        return self.head(x + (self.every(x, numbers) * scores[..., None]).sum(1))

    def every(self, x, numbers):
        hidden = F.relu(torch.einsum("nf,nkfh->nkh", x, self.up[numbers]))
        return torch.einsum("nkh,nkhf->nkf", hidden, self.down[numbers])

    def softmax_first(self, logits):
        return logits.softmax(-1).topk(CHOSEN, -1)

    def softmax_last(self, logits):
        scores, numbers = logits.topk(CHOSEN, -1)
        return scores.softmax(-1), numbers

    def gathered(self, logits):
        numbers = logits.topk(CHOSEN, -1).indices
        return logits.sigmoid().gather(-1, numbers), numbers

    def best_one(self, logits):
        numbers = logits.argmax(-1, keepdim=True)
        return logits.gather(1, numbers), numbers

    def one_hot(self, logits):
        numbers = logits.topk(CHOSEN, -1).indices
        return torch.einsum("nke,ne->nk", F.one_hot(numbers, self.experts).to(logits.dtype), logits), numbers

    def next_door(self, logits):
        scores, numbers = logits.topk(CHOSEN, -1)
        return scores, (numbers + 1) % EXPERTS


FOLLOWED = ("softmax_first", "softmax_last", "gathered", "best_one", "one_hot")


def mixture(way):
    torch.manual_seed(0)
    model, x = Mixture(way).eval(), torch.randn(9, 6)
    return model, x, trace(model, x)


@pytest.mark.parametrize("way", FOLLOWED)
def test_whole_experts_leave_with_their_rows_of_the_router(way):
    model, x, graph = mixture(way)
    (axis,) = [a for a in graph.axes.values() if a.family == "expert"]
    assert {(m.tensor, m.dim) for m in axis.members} == {("router.weight", 0), ("router.bias", 0), ("up", 0), ("down", 0)}
    assert not axis.exact and axis.least == (1 if way == "best_one" else CHOSEN)
    plan = axes_plan(graph)
    small = realise(model, graph, plan)
    proof = prove(model, graph, plan, small.model, (x,))
    assert proof.passed and small.form == "eager" and proof.sensitivity > 1e-3
    assert small.model.up.shape == (4, 6, 5) and small.model.router.weight.shape == (4, 6)


@pytest.mark.parametrize("way", FOLLOWED)
def test_the_router_chooses_among_those_that_are_left(way):
    """A model built from the kept experts alone, by hand, says the same."""
    model, x, graph = mixture(way)
    (axis,) = [a for a in graph.axes.values() if a.family == "expert"]
    keep = torch.tensor([False, True, True, False, True, False, True])
    plan = Plan({axis.name: Site(axis.name, "axis", (EXPERTS,), axis.members, axis=axis)}, {axis.name: Decision(keep)})
    by_hand = Mixture(way).eval()
    by_hand.load_state_dict(model.state_dict())
    by_hand.experts = 4
    for holder, name in ((by_hand.router, "weight"), (by_hand.router, "bias"), (by_hand, "up"), (by_hand, "down")):
        setattr(holder, name, nn.Parameter(getattr(holder, name)[keep]))
    torch.testing.assert_close(realise(model, graph, plan).model(x), by_hand(x))


def test_numbers_that_are_used_otherwise_freeze_the_experts():
    _, _, graph = mixture("next_door")
    assert not any(a.family == "expert" for a in graph.axes.values())
    assert "by number" in graph.why("router.weight:0")


def test_as_many_experts_stay_as_the_router_chooses():
    model, _, graph = mixture("softmax_first")
    (site,) = Axes(("expert",)).sites(graph)
    assert site.least == CHOSEN
    keep = torch.arange(EXPERTS) < 1
    with pytest.raises(InputError, match="the model chooses 2"):
        realise(model, graph, Plan({site.name: site}, {site.name: Decision(keep)}))


class Grouped(nn.Module):
    """Experts in groups: the best groups first, then the best experts of those, as a product of two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.groups, self.router, self.table = 3, nn.Linear(6, 12), nn.Parameter(torch.randn(12, 6))

    def forward(self, x):
        scores = self.router(x).sigmoid()
        grouped = scores.view(len(x), self.groups, -1)
        best = grouped.topk(2, -1).values.sum(-1).topk(2, -1).indices
        mask = torch.zeros(len(x), self.groups).scatter(1, best, 1.0)
        allowed = (grouped * mask[..., None]).flatten(1)
        weights, numbers = allowed.topk(3, -1)
        return (self.table[numbers] * weights[..., None]).sum(1)


def test_groups_of_experts_are_two_axes():
    torch.manual_seed(0)
    model, x = Grouped().eval(), torch.randn(9, 6)
    graph = trace(model, x)
    experts = [a for a in graph.axes.values() if a.family == "expert"]
    assert [(a.size, a.least) for a in experts] == [(3, 2), (4, 3)]
    masks = {experts[0].name: torch.tensor([True, False, True]), experts[1].name: torch.tensor([True, True, False, True])}
    sites = {a.name: Site(a.name, "axis", (a.size,), a.members, axis=a) for a in experts}
    plan = Plan(sites, {name: Decision(keep) for name, keep in masks.items()})
    small = realise(model, graph, plan)
    assert small.form == "eager" and prove(model, graph, plan, small.model, (x,)).passed
    assert small.model.table.shape == (6, 6) and small.model.groups == 2


class Aligned(nn.Module):
    """Experts in torch's own kernel, which takes rows of 16 bytes only: gates and values in one matrix, stored (out, in)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(5, 32), nn.Linear(32, 3)
        self.up = nn.Parameter(torch.randn(3, 2 * 32, 32) / 4)
        self.down = nn.Parameter(torch.randn(3, 32, 32) / 4)

    def forward(self, x):
        ends = torch.tensor([len(x) // 3, len(x) // 2, len(x)], dtype=torch.int32)
        stream = self.enter(x)
        gate, value = torch._grouped_mm(stream, self.up.transpose(1, 2), offs=ends).chunk(2, -1)
        return self.leave(stream + torch._grouped_mm(gate.relu() * value, self.down.transpose(1, 2), offs=ends))


def aligned():
    torch.manual_seed(0)
    return Aligned().bfloat16().eval(), torch.randn(9, 5, dtype=torch.bfloat16)


def test_widths_that_a_grouped_product_takes_are_a_stride_of_their_axes():
    graph = trace(*aligned())
    strides = {m.tensor: axis.stride for axis in graph.axes.values() if axis.frozen is None for m in axis.members}
    assert strides == {"enter.weight": 8, "enter.bias": 8, "leave.weight": 8, "up": 8, "down": 8}


@pytest.mark.parametrize("goal", ["neurons=0.6", "macs=0.6x"])
def test_aligned_experts_run_and_train_without_being_told_a_multiple(goal):
    model, x = aligned()
    result = pomona.prune(model, x, structure="neurons+width", goal=goal, latency=False)
    _, wide, deep = result.model.down.shape
    assert wide * deep < 32 * 32 and wide % 8 == deep % 8 == 0
    result.model.train()(x).pow(2).sum().backward()
    assert result.model.up.grad.shape == (3, 2 * deep, wide)


def test_fewer_experts_than_a_row_is_long_may_leave():
    """A multiple of all counts would hold them; a stride is one axis' own."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 40}
    config = MixtralConfig(**sizes, num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2)
    model, ids = MixtralForCausalLM(config).eval(), torch.randint(0, 40, (2, 7))
    goal = {"structure": "experts+neurons", "goal": "experts=0.6,neurons=0.6"}
    result = pomona.prune(model, ids, **goal, data=[ids], latency=False)
    experts, wide, deep = result.model.model.layers[0].mlp.experts.down_proj.shape
    assert (experts, wide) == (3, 24) and deep == 16
