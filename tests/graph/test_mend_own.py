"""One configuration for all layers, whose code reads it as it runs."""

import copy

import pytest
import torch
from torch import nn

from halving import alive, noise
from pomona.graph import trace
from pomona.graph.proof import prove
from pomona.graph.surgery import realise
from pomona.vocabulary import Decision, Plan, Site


class Spec:
    def __init__(self):
        self.parts, self.width, self.name = 5, 3, "shared"


class Layer(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.spec = spec
        self.up, self.down = nn.Linear(6, spec.parts * spec.width), nn.Linear(spec.parts * spec.width, 6)

    def forward(self, x):
        y = self.up(x).view(len(x), self.spec.parts, self.spec.width)
        return x + self.down(y.softmax(-1).flatten(1))


class Stack(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        torch.manual_seed(0)
        self.spec = Spec()
        self.layers = nn.ModuleList(Layer(self.spec) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def cut(model, kept, args):
    """`kept` units of the first prunable axes of five."""
    graph = trace(model, args)
    axes = [axis for axis in graph.axes.values() if axis.frozen is None and axis.size == 5]
    sites = {axis.name: Site(axis.name, "axis", (5,), axis.members, axis=axis) for axis in axes}
    keeps = {axis.name: Decision(torch.arange(5) < count) for axis, count in zip(axes, kept, strict=True)}
    plan = Plan(sites, keeps)
    realised = realise(model, graph, plan)
    assert realised.form == "eager" and not realised.notes, realised.notes
    assert prove(model, graph, plan, realised.model, (args,)).passed
    return realised.model


def test_unequal_layers_have_configurations_of_their_own():
    small = cut(alive(Stack()), (2, 4, 2), noise(2, 6))
    assert [layer.spec.parts for layer in small.layers] == [2, 4, 2]
    assert [layer.spec.name for layer in small.layers] == ["shared"] * 3
    twin = copy.deepcopy(small)
    assert torch.equal(twin(noise(7, 6)), small(noise(7, 6)))


def test_equal_layers_share_one_that_says_the_truth():
    small = cut(alive(Stack()), (2, 2, 2), noise(2, 6))
    assert all(layer.spec is small.spec for layer in small.layers) and small.spec.parts == 2


def test_the_given_model_keeps_its_own():
    model = alive(Stack())
    cut(model, (2, 4, 3), noise(2, 6))
    assert all(layer.spec is model.spec for layer in model.layers) and model.spec.parts == 5


@pytest.mark.parametrize("goal", ["params=0.5x", "params=0.4x"])
def test_a_model_whose_attention_multiplies_numbers_of_its_configuration_stays_itself(goal):
    transformers = pytest.importorskip("transformers")
    import pomona

    torch.manual_seed(0)
    config = transformers.Phi3Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
        vocab_size=40, max_position_embeddings=32, use_cache=False, pad_token_id=0,
    )  # fmt: skip
    model = alive(transformers.Phi3ForCausalLM(config))
    tokens = torch.arange(12).view(2, 6)
    result = pomona.prune(model, {"input_ids": tokens}, structure="heads+kv-groups+neurons", goal=goal, latency=False)
    assert result.form == "eager" and result.report.proof.passed
    for layer in result.model.model.layers:
        attention = layer.self_attn
        assert attention.config.num_attention_heads * attention.head_dim == attention.o_proj.weight.shape[1]
