"""Whether attention takes its scale from the width that it meets is asked for each role of modules."""

import pytest
import torch
from torch import nn

from plans import axes_plan, prunable
from pomona.graph import trace
from pomona.graph.masked import masked
from pomona.graph.mend_scale import asked, possible, scales
from pomona.graph.proof import prove
from pomona.graph.restore import restored
from pomona.graph.surgery import kept_units, realise


class Attention(nn.Module):
    """Two heads of four; `stored`: the scale is a number that was worked out when the module was made."""

    def __init__(self, stored):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.scale = 4**-0.5 if stored else None

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scale = self.scale or q.shape[-1] ** -0.5
        return self.out((q @ k.transpose(-2, -1) * scale).softmax(-1).matmul(v).transpose(1, 2).flatten(2))


class Mixed(nn.Module):
    """Layers that know their scale, a pooling that looks it up."""

    def __init__(self, *pools):
        super().__init__()
        self.layers = nn.ModuleList(Attention(True) for _ in range(2))
        self.pools = nn.ModuleDict({name: Attention(stored) for name, stored in pools})

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        for pool in self.pools.values():
            x = x + pool(x)
        return x.mean(1)


def alive(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.7)
    return model.eval()


@pytest.mark.parametrize("pools", [(("one", False),), (("one", False), ("two", True), ("three", False))], ids=len)
def test_some_attention_may_store_its_scale_while_other_looks_it_up(pools):
    model, x = alive(Mixed(*pools)), torch.randn(3, 5, 8)
    graph = trace(model, x)
    plan = axes_plan(graph, [name for name in prunable(graph) if graph.axes[name].family == "head-dim"])
    small = realise(model, graph, plan)
    assert (small.form, small.notes) == ("eager", ())  # mended, with its own code
    assert small.model.layers[0].q.out_features == 4
    assert prove(model, graph, plan, small.model, (x,)).passed
    whole = restored(model, graph, plan, small.model)
    for name, weight in masked(model, plan).named_parameters():
        torch.testing.assert_close(whole.get_parameter(name), weight)


def test_each_role_is_a_question_and_every_answer_may_be_undone():
    model, x = alive(Mixed(("one", False))), torch.randn(3, 5, 8)
    graph = trace(model, x)
    plan = axes_plan(graph, [name for name in prunable(graph) if graph.axes[name].family == "head-dim"])
    keep = kept_units(graph, plan)
    layers, pool = asked(graph, keep, scales(graph, keep))
    assert set(layers) == {f"layers.{n}.q.{kind}" for n in (0, 1) for kind in ("weight", "bias")}
    assert set(pool) == {"pools.one.q.weight", "pools.one.q.bias"}
    assert [sorted(found) for found in possible(graph, keep)] == [[], sorted({**layers, **pool}), sorted(layers), sorted(pool)]
