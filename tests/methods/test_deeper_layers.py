"""Runs of layers by angular distance (Gromov et al., 2025)."""

from math import pi

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import language
import pomona
from handmade import branch_site, element_site, net, view
from pomona.collect import collect
from pomona.criteria.angular_distance import AngularDistance
from pomona.solvers.consecutive import Consecutive
from pomona.statistics.run_distance import RunDistance
from pomona.structures.layers import Layers
from pomona.vocabulary import Gathered, InputError


class Stack(nn.Module):
    def __init__(self, *matrices):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(len(m), len(m), bias=False) for m in matrices)
        for block, matrix in zip(self.blocks, matrices, strict=True):
            block.weight.data = matrix.T.clone()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def distances(model, x):
    return collect(model, [branch_site()], [RunDistance()], [x])["blocks"][RunDistance()]


def test_the_same_direction_is_0_a_right_angle_a_half_and_reversal_1():
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    found = distances(Stack(3 * torch.eye(2), quarter, -torch.eye(2)), torch.randn(4, 7, 2))
    expected = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert_close(found, expected, atol=1e-7, rtol=0)


def test_one_pass_gives_what_each_run_by_itself_gives():
    model, data = language.model("llama")
    (site,) = Layers().sites(pomona.trace(model, data[0]))
    found = collect(model, [site], [RunDistance()], data)[site.name][RunDistance()]
    streams: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: streams.append((args or (kwargs["hidden_states"],))[0]), with_kwargs=True
        )
    model.model.norm.register_forward_pre_hook(lambda _, args: streams.append(args[0]))
    total = torch.zeros(3, 3, dtype=torch.float64)
    for batch in data:
        streams.clear()
        model(**batch)
        last = [stream.detach()[:, -1].double() for stream in streams]
        for i in range(3):
            for j in range(i, 3):
                cosine = torch.cosine_similarity(last[i], last[j + 1], dim=1).clamp(-1, 1)
                total[i, j] += cosine.arccos().mean() / pi / len(data)
    assert_close(found, total, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_not_the_last_token(side):
    model, _ = language.model("llama")
    x = language.ids(rows=3, length=9)
    (site,) = Layers().sites(pomona.trace(model, {"input_ids": x}))
    mask = torch.ones(3, 12, dtype=torch.long)
    padded = torch.full((3, 12), 7)
    place = slice(3, 12) if side == "left" else slice(0, 9)
    padded[:, place], mask[:] = x, 0
    mask[:, place] = 1
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    bare = collect(model, [site], [RunDistance()], [{"input_ids": x}])[site.name][RunDistance()]
    given = {"input_ids": padded, "attention_mask": mask, "position_ids": positions}
    assert_close(collect(model, [site], [RunDistance()], [given])[site.name][RunDistance()], bare, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("first", [0, 1])
def test_blocks_that_add_nothing_are_the_run_that_goes_and_are_not_missed(first):
    model, data = language.model("llama")
    with torch.no_grad():
        for layer in model.model.layers[first : first + 2]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    result = pomona.prune(model, data[0], method="deeper-layers", goal="layers=0.34", data=data, latency=False)
    assert result.plan.keep("model.layers").tolist() == [i not in (first, first + 1) for i in range(3)]
    assert_close(result.model(**data[1]).logits, model(**data[1]).logits)
    assert result.model.config.num_hidden_layers == 1


def chosen(table, leave, alive=(True, True, True)):
    given = Gathered({RunDistance(): torch.tensor(table, dtype=torch.float64)})
    v = view(net(), branch_site(), given)
    v.alive[:] = torch.tensor(alive)
    proposal = v.alive.clone()
    proposal[v.alive.nonzero()[:leave, 0]] = False
    return Consecutive().solve(v, proposal)


def test_two_that_undo_each_other_leave_together_though_either_alone_is_missed():
    table = [[0.1, 0.5, 0.6], [0.0, 0.4, 0.01], [0.0, 0.0, 0.4]]
    assert chosen(table, 1).keep.tolist() == [False, True, True]
    both = chosen(table, 2)
    assert both.keep.tolist() == [True, False, False]
    assert "blocks.1 to blocks.2" in both.notes[0] and "0.010" in both.notes[0] and "last block" in both.notes[1]


def test_the_dead_stay_dead_and_runs_reach_across_them():
    table = [[0.3, 0.3, 0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.2]]
    assert chosen(table, 1, (True, False, True)).keep.tolist() == [True, False, False]
    assert chosen(table, 2, (True, False, True)).keep.tolist() == [False, False, False]
    assert chosen(table, 0, (True, False, True)).keep.tolist() == [True, False, True]


def test_what_is_no_block_is_refused():
    with pytest.raises(InputError, match="use structure Layers"):
        AngularDistance().needs[0].watch(element_site())


def test_among_all_runs_that_could_go_the_one_that_goes_changes_the_last_token_least():
    torch.manual_seed(0)
    spins = [torch.matrix_exp((a := torch.randn(6, 6) * s) - a.T) for s in (0.5, 0.2, 0.1)]
    x = torch.randn(16, 5, 6)
    model = Stack(*spins)
    table = distances(model, x)
    decision = Consecutive().solve(
        view(net(), branch_site(), Gathered({RunDistance(): table})), torch.tensor([True, False, False])
    )
    gone = [i for i, lives in enumerate(decision.keep.tolist()) if not lives]
    turned = {}
    for run in ([0, 1], [1, 2]):
        y = entered = x if run[0] == 0 else model.blocks[0](x)
        for i in run:
            y = model.blocks[i](y)
        cosine = torch.cosine_similarity(entered[:, -1], y[:, -1], dim=1)
        turned[tuple(run)] = float(cosine.arccos().detach().mean())
    assert turned[tuple(gone)] == min(turned.values())
