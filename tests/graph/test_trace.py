"""Families and coupled groups, held to facts derived by hand from the architectures."""

import resource

import pytest
import torch
from torch import nn

import zoo
from pomona.graph import trace
from pomona.graph.expr import positions
from pomona.vocabulary import Branch, InputError

every_model = pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)


def prunable(graph):
    return {name: axis for name, axis in graph.axes.items() if axis.frozen is None}


def families(graph):
    found = {}
    for axis in prunable(graph).values():
        found.setdefault(axis.family, []).append(axis.size)
    return found


def reach(axis):
    """(tensor, dim, role) -> positions per unit."""
    return {(m.tensor, m.dim, m.role): 1 if m.index is None else m.index.shape[1] for m in axis.members}


@every_model
def test_members_have_one_row_of_positions_a_unit_and_axes_share_no_name(make):
    model, args = make()
    graph = trace(model, args)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, axis in prunable(graph).items():
        assert axis.name == name and graph.atoms[name].n == axis.size > 1
        assert any(not m.buffer for m in axis.members)
        for m in axis.members:
            length = tensors[m.tensor].shape[m.dim]
            where = torch.arange(length)[:, None] if m.index is None else m.index
            assert len(where) == axis.size and int(where.max()) < length
            assert torch.equal(where, positions(graph.dims[m.tensor][m.dim], graph.atoms[name]))
            assert m.buffer == (m.tensor in dict(model.named_buffers()))


@every_model
def test_every_dimension_of_every_parameter_is_explained(make):
    model, args = make()
    graph = trace(model, args)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        for dim in range(parameter.dim()):
            assert ("can be pruned" in (text := graph.why(f"{name}:{dim}"))) or "is frozen: " in text


def test_vgg_channels_reach_through_the_flattening():
    graph = trace(*zoo.vgg())
    assert families(graph) == {"channel": [8, 12], "neuron": [20]}
    assert reach(graph.axes["features.3.weight:0"]) == {
        ("features.3.weight", 0, "out"): 1, ("features.3.bias", 0, "scale"): 1, ("features.4.weight", 0, "scale"): 1,
        ("features.4.bias", 0, "scale"): 1, ("features.4.running_mean", 0, "scale"): 1, ("features.4.running_var", 0, "scale"): 1,
        ("classifier.1.weight", 1, "in"): 16,
    }  # fmt: skip
    index = next(m.index for m in graph.axes["features.3.weight:0"].members if m.tensor == "classifier.1.weight")
    assert index[2].tolist() == list(range(32, 48))


def test_resnet_streams_are_one_axis_a_stage():
    graph = trace(*zoo.resnet())
    assert families(graph) == {"channel": [8, 8, 8, 16, 16, 16, 16]}
    writers = [m.tensor for m in graph.axes["layer2.0.conv2.weight:0"].members if m.role == "out"]
    assert writers == ["layer2.0.conv2.weight", "layer2.0.shortcut.0.weight", "layer2.1.conv2.weight", "layer2.2.conv2.weight"]
    assert all(axis.exact for axis in prunable(graph).values())


def test_densenet_layers_keep_their_own_channels():
    graph = trace(*zoo.densenet())
    first = reach(graph.axes["block.0.conv2.weight:0"])
    assert {(t, d) for t, d, role in first if role == "in"} == {
        ("block.1.conv1.weight", 1),
        ("block.2.conv1.weight", 1),
        ("transition.weight", 1),
    }
    index = next(m.index for m in graph.axes["block.1.conv2.weight:0"].members if m.tensor == "transition.weight")
    assert index.flatten().tolist() == [12, 13, 14, 15]


def test_depthwise_is_a_channel_and_a_group_is_a_group():
    graph = trace(*zoo.mobilenet())
    hidden = graph.axes["features.4.conv.0.weight:0"]
    assert hidden.family == "channel" and ("features.4.conv.3.weight", 0, "out") in reach(hidden)
    assert [(a.size, a.family) for a in prunable(graph).values() if "features.3.conv.6" in a.name] == [
        (4, "group"),
        (3, "channel"),
    ]
    assert reach(graph.axes["features.3.conv.6.weight:0/group"])["features.6.weight", 0, "out"] == 6
    assert graph.weights["features.4.conv.3.weight"].conv.groups == 36


def test_a_gate_shares_the_channels_that_it_multiplies():
    graph = trace(*zoo.senet())
    assert families(graph) == {"channel": [12], "neuron": [6, 6]}
    assert ("blocks.0.expand.weight", 0, "out") in reach(graph.axes["stem.weight:0"])
    assert ("blocks.0.reduce.weight", 1, "in") in reach(graph.axes["stem.weight:0"])


def test_layer_scale_and_a_permuted_norm_follow_the_channels():
    graph = trace(*zoo.convnext())
    assert families(graph) == {"channel": [8], "neuron": [24, 24]}
    stream = graph.axes["stem.weight:0"]
    assert {("stages.0.gamma", 0, "scale"), ("stages.0.norm.weight", 0, "scale"), ("stages.0.dwconv.weight", 0, "out")} <= reach(
        stream
    ).keys()
    assert not stream.exact


def test_a_fused_qkv_has_heads_and_head_widths():
    graph = trace(*zoo.vit())
    assert families(graph) == {"width": [16], "head": [4, 4], "head-dim": [4, 4], "neuron": [24, 24]}
    assert reach(graph.axes["blocks.0.qkv.weight:0/head"]) == {
        ("blocks.0.qkv.weight", 0, "out"): 12, ("blocks.0.qkv.bias", 0, "scale"): 12, ("blocks.0.proj.weight", 1, "in"): 4,
    }  # fmt: skip
    assert ("cls", 2, "scale") in reach(graph.axes["patch.weight:0"]) and ("pos", 2, "scale") in reach(
        graph.axes["patch.weight:0"]
    )
    assert not graph.axes["patch.weight:0"].exact and graph.axes["blocks.0.qkv.weight:0/head"].exact


def test_bert_separates_the_widths_of_keys_and_values():
    graph = trace(*zoo.bert())
    assert families(graph) == {"width": [16], "head": [4, 4], "head-dim": [4] * 4, "neuron": [24, 24, 16]}


def test_gpt2_reads_its_weights_the_other_way_round():
    graph = trace(*zoo.gpt2())
    assert families(graph) == {"width": [16], "head": [4, 4], "head-dim": [4] * 4, "neuron": [64, 64]}
    weight = graph.weights["transformer.h.0.mlp.c_fc.weight"]
    assert (weight.kind, weight.in_dim, weight.out_dim, weight.shape) == ("linear", 0, 1, (16, 64))
    table = graph.weights["transformer.wte.weight"]
    assert (table.kind, table.calls, table.macs) == ("embedding", 2, 2 * 6 * 16 * 40)
    assert graph.ties == {"lm_head.weight": "transformer.wte.weight"}


def test_llama_couples_queries_keys_values_and_output_by_kv_group():
    graph = trace(*zoo.llama())
    layer = "model.layers.0.self_attn."
    assert reach(graph.axes[layer + "q_proj.weight:0/kv-group"]) == {
        (layer + "q_proj.weight", 0, "out"): 8, (layer + "k_proj.weight", 0, "out"): 4, (layer + "v_proj.weight", 0, "out"): 4,
        (layer + "o_proj.weight", 1, "in"): 8,
    }  # fmt: skip
    assert reach(graph.axes[layer + "q_proj.weight:0/head"]) == {
        (layer + "q_proj.weight", 0, "out"): 8,
        (layer + "o_proj.weight", 1, "in"): 8,
    }
    pairs = next(a for a in prunable(graph).values() if ("model.rotary_emb.inv_freq", 0, "scale") in reach(a))
    assert pairs.family == "head-dim" and pairs.size == 2
    assert families(graph)["width"] == [16] and families(graph)["neuron"] == [24, 24]
    assert [w.kind for n, w in graph.weights.items() if n.endswith("norm.weight")] == ["norm"] * 5


def test_lstm_units_lie_in_every_gate():
    graph = trace(*zoo.lstm())
    assert families(graph) == {"width": [8], "neuron": [12] * 4}  # two layers of two directions, each with its own
    assert len({axis.even for axis in graph.axes.values() if axis.family == "neuron"}) == 1
    axis = graph.axes["lstm.weight_ih_l0:0/neuron"]
    assert reach(axis)["lstm.weight_ih_l0", 0, "out"] == 4 and reach(axis)["lstm.weight_hh_l0", 1, "in"] == 1
    assert {w.kind for n, w in graph.weights.items() if "lstm.weight" in n} == {"recurrent"}


@pytest.mark.parametrize(
    ("make", "branches"),
    [
        (zoo.resnet, (Branch("layer1", ("layer1.0", "layer1.1")), Branch("layer2", ("layer2.1", "layer2.2"), rest=True))),
        (zoo.mobilenet, (Branch("features", ("features.4", "features.5"), rest=True),)),
        (zoo.senet, (Branch("blocks", ("blocks.0", "blocks.1")),)),
        (zoo.convnext, (Branch("stages", ("stages.0", "stages.1")),)),
        (zoo.vit, (Branch("blocks", ("blocks.0", "blocks.1")),)),
        (zoo.bert, (Branch("bert.encoder.layer", ("bert.encoder.layer.0", "bert.encoder.layer.1")),)),
        (zoo.gpt2, (Branch("transformer.h", ("transformer.h.0", "transformer.h.1")),)),
        (zoo.llama, (Branch("model.layers", ("model.layers.0", "model.layers.1")),)),
        (zoo.vgg, ()), (zoo.densenet, ()), (zoo.mlp, ()), (zoo.lstm, ()),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_residual_siblings_are_branches_and_nothing_else_is(make, branches):
    assert trace(*make()).branches == branches


def test_layers_of_equal_width_without_a_sum_are_no_branches():
    plain = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(3))).eval()
    assert trace(plain, torch.randn(2, 4, 8, 8)).branches == ()


def test_a_single_residual_block_can_go_where_something_else_stays():
    model = nn.Sequential(zoo.Residual(3, 8), zoo.Residual(8, 8)).eval()
    assert trace(model, torch.randn(2, 3, 8, 8)).branches == (Branch("", ("1",), rest=True),)


def test_a_module_that_is_used_twice_is_no_branch_by_accident():
    block = zoo.Residual(3, 3)
    graph = trace(nn.Sequential(block, block).eval(), torch.randn(2, 3, 8, 8))
    assert all(len(set(b.blocks)) == len(b.blocks) for b in graph.branches)


class Standardised(nn.Conv2d):
    def forward(self, x):
        spread, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) * (spread + 1e-5).rsqrt(), self.bias)


def test_a_standardised_weight_is_still_the_weight_of_its_convolution():
    model = nn.Sequential(Standardised(3, 8, 3), nn.ReLU(), Standardised(8, 4, 3), nn.Flatten(), nn.Linear(64, 2)).eval()
    graph = trace(model, torch.randn(2, 3, 8, 8))
    assert (graph.weights["0.weight"].kind, graph.weights["0.weight"].macs) == ("conv", 2 * 36 * 27 * 8)
    axis = graph.axes["0.weight:0"]
    assert axis.family == "channel" and [m.role for m in axis.members if m.tensor == "2.weight"] == ["in"]


def test_activations_are_not_taken_for_the_weights_that_they_come_from():
    graph = trace(Gram().eval(), torch.randn(6, 6))
    assert graph.weights["a.weight"].calls == graph.weights["b.weight"].calls == 1


class Gram(nn.Module):
    """Products of two activations that happen to have the shape of a weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.b(x) @ self.a(x).relu()


def test_why_names_what_froze_an_axis():
    graph = trace(*zoo.vgg())
    assert graph.why("features.0.weight:1") == "features.0.weight:1 is frozen: input"
    assert graph.why(graph.axes["features.0.weight:0"]) == "features.0.weight:0 can be pruned: 8 units of family channel"
    assert graph.why("features.0.bias:0") == "features.0.weight:0 can be pruned: 8 units of family channel"
    assert "kernel" in graph.why("features.0.weight:2")
    with pytest.raises(InputError, match="did you mean"):
        graph.why("features.0.wieght:0")
    with pytest.raises(InputError, match="no axis"):
        graph.why("features.0.weight:7")


def test_sums_over_units_that_do_not_vanish_are_inexact():
    def axis(act):
        layers = nn.Sequential(nn.Linear(6, 8), Does(act), nn.Linear(8, 3)).eval()
        return trace(layers, torch.randn(2, 6)).axes["0.weight:0"]

    assert axis(lambda x: x * x.relu().sum(-1, keepdim=True)).exact
    assert not axis(lambda x: x * x.sigmoid().sum(-1, keepdim=True)).exact
    assert not axis(lambda x: x.exp() @ (x.cos().T @ x)).exact
    assert not axis(lambda x: x.softmax(-1)).exact
    assert axis(lambda x: x.sigmoid()).exact


def test_an_approximate_axis_names_what_runs_over_it_and_where():
    assert trace(*zoo.vit()).axes["patch.weight:0"].normalisers[:2] == (
        "layer_norm at blocks.0.norm1",
        "layer_norm at blocks.0.norm2",
    )
    layers = nn.Sequential(nn.Linear(6, 8), Does(lambda x: x * x.sigmoid().sum(-1, keepdim=True)), nn.Linear(8, 3)).eval()
    assert trace(layers, torch.randn(2, 6)).axes["0.weight:0"].normalisers == ("sum at 1",)


class Does(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x)


def test_an_activation_function_written_out_makes_no_stream_of_what_a_gate_multiplies():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up, self.down = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 6)

        def forward(self, x):
            g = self.gate(x)
            return self.down(0.5 * g * (1 + torch.tanh(g + 0.044715 * g**3)) * self.up(x))

    assert families(trace(Gated().eval(), torch.randn(2, 6))) == {"neuron": [8]}


def test_tracing_needs_no_weights():
    """Four layers of a 70B model: 18 GB of weights, if there were any."""
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = {"num_attention_heads": 64, "num_key_value_heads": 8}
    config = LlamaConfig(num_hidden_layers=4, hidden_size=8192, intermediate_size=28672, vocab_size=128256, **heads)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    graph = trace(model, {"input_ids": torch.ones(1, 16, dtype=torch.int64, device="meta")})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB: nobody allocated a weight
    assert all(parameter.is_meta for parameter in model.parameters())
    costs = graph.costs({name: axis.size // 2 for name, axis in graph.axes.items() if axis.frozen is None})
    assert graph.costs().params == sum(p.numel() for p in model.parameters()) == 5_523_972_096
    assert costs.params < 0.4 * graph.costs().params
    attention = graph.macs_by_weight()["model.layers.0.self_attn.k_proj.weight"]
    assert attention == 16 * 8192 * 1024


def test_a_weight_knows_the_bias_that_its_op_adds():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.bare, self.conv = nn.Linear(4, 6, bias=False), nn.Conv1d(1, 3, 2)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.conv(self.bare(self.two(self.one(x)))[:, None])

    weights = trace(Shared(), torch.randn(2, 4)).weights
    assert (weights["bare.weight"].bias, weights["conv.weight"].bias) == (None, "conv.bias")
    assert weights["one.weight"].bias is None  # two ops add different ones
    model, args = zoo.gpt2()
    for name, weight in trace(model, args).weights.items():
        assert not name.endswith("c_proj.weight") or weight.bias == name.replace("weight", "bias")
