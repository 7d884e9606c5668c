"""Attention of torch: what its code can say stays its own, the rest goes on in a class that is called alike."""

import copy
from itertools import product

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import pomona
from halving import alive, noise
from plans import axes_plan, prunable
from pomona.graph import trace
from pomona.graph.proof import prove
from pomona.graph.surgery import realise
from pomona.graph.uneven import UnevenAttention


def uneven(attention):
    """The same attention in the class for any sizes."""
    twin = copy.deepcopy(attention)
    del twin.__dict__["head_dim"]
    twin.__class__ = UnevenAttention
    return twin


def awake(**options):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, **options)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return attention.eval()


CAUSAL = torch.ones(4, 5).triu(1).bool()
PADDING = torch.tensor([[False, False, False, True, True], [False] * 5, [False] * 4 + [True]])
MASKS = [
    {},
    {"attn_mask": CAUSAL},
    {"attn_mask": noise(4, 5)},
    {"attn_mask": noise(6, 4, 5)},
    {"key_padding_mask": PADDING},
    {"attn_mask": noise(4, 5), "key_padding_mask": noise(3, 5, seed=2)},
    {"attn_mask": CAUSAL, "is_causal": True},
]


@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False}, {"batch_first": True}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 6, "vdim": 7}],
    ids=str,
)
def test_it_answers_as_torch_does_where_torch_can(options):
    attention = awake(**options)
    twin = uneven(attention)
    shape = (3, 4, 5) if options.get("batch_first") else (4, 3, 5)
    queries, keys = (3, 4, 8), (3, 5, options.get("kdim", 8))
    values = (3, 5, options.get("vdim", 8))
    given = [noise(*size, seed=seed) for seed, size in enumerate((queries, keys, values))]
    given = given if options.get("batch_first") else [x.transpose(0, 1) for x in given]
    assert given[0].shape[:2] == shape[:2]
    for masks, need, average in product(MASKS, (True, False), (True, False)):
        if masks.get("is_causal") and {"add_bias_kv", "add_zero_attn"} & options.keys():
            continue  # torch's hint knows nothing of the positions behind
        calls = {**masks, "need_weights": need, "average_attn_weights": average}
        assert_close(twin(*given, **calls), attention(*given, **calls))


def test_it_takes_single_examples():
    attention = awake()
    one = noise(4, 8)
    for masks in ({}, {"attn_mask": noise(2, 4, 4)}, {"key_padding_mask": torch.tensor([False, False, False, True])}):
        assert_close(uneven(attention)(one, one, one, **masks), attention(one, one, one, **masks))


class Mixing(nn.Module):
    def __init__(self, need_weights=False, **options):
        super().__init__()
        torch.manual_seed(0)
        self.read, self.other = nn.Linear(5, 16), nn.Linear(6, options.get("kdim", 16))
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True, **options)
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 3)
        self.need_weights = need_weights

    def forward(self, x, y=None):
        x = self.read(x)
        y = x if y is None else self.other(y)
        return self.out(self.norm(x + self.attention(x, y, y, need_weights=self.need_weights)[0]))


class Encoder(nn.Module):
    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, **options)
        self.read, self.blocks = nn.Linear(5, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=not options)
        self.out = nn.Linear(16, 3)

    def forward(self, x, padding=None):
        return self.out(self.blocks(self.read(x), src_key_padding_mask=padding))


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.x, self.y, self.out = nn.Linear(6, 16), nn.Linear(5, 16), nn.Linear(16, 3)
        self.transformer = nn.Transformer(16, 4, 1, 1, 24, batch_first=True)

    def forward(self, y, x):
        return self.out(self.transformer(self.x(x), self.y(y)))


X, Y = noise(2, 7, 5), noise(2, 8, 6)
PADDED = torch.arange(7) >= torch.tensor([[7], [4]])
MODELS = {
    "attention": (Mixing, (X,)),
    "attention with weights": (lambda: Mixing(True), (X,)),
    "attention without biases": (lambda: Mixing(bias=False), (X,)),
    "attention with learned positions": (lambda: Mixing(add_bias_kv=True), (X,)),
    "cross attention": (Mixing, (X, Y)),
    "cross attention of other widths": (lambda: Mixing(kdim=12, vdim=12), (X, Y)),
    "encoder": (Encoder, (X,)),
    "encoder that norms first": (lambda: Encoder(norm_first=True), (X,)),
    "encoder of a padded batch": (Encoder, (X, PADDED)),
    "encoder and decoder": (Translator, (X, Y)),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_axis_of_attention_is_cut_in_place(name):
    make, args = MODELS[name]
    model = alive(make())
    graph = trace(model, args)
    for names in (None, *([axis] for axis in prunable(graph))):
        plan = axes_plan(graph, names)
        realised = realise(model, graph, plan)
        assert realised.form == "eager" and not realised.notes, (names, realised.notes)
        assert prove(model, graph, plan, realised.model, args).passed
    usable(realise(model, graph, axes_plan(graph)).model, args)


@torch.no_grad()
def answer(model, args):
    return model(*args)


def usable(small, args):
    """Other sizes, without gradients (torch's fast paths), copied, restored, exported, trained."""
    longer = [torch.cat([x, x[:1]]).repeat_interleave(2, 1) for x in args]
    assert answer(small, longer).shape == (3, 14, 3) and torch.isfinite(answer(small, longer)).all()
    twin = copy.deepcopy(small)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin.load_state_dict(small.state_dict())
    assert torch.equal(answer(twin, args), answer(small, args))
    exported = torch.export.export(small, args, strict=False).module()
    assert_close(exported(*args), small(*args).detach(), atol=1e-5, rtol=1e-4)
    twin.train()(*args).sum().backward()
    assert all(p.grad is not None for n, p in twin.named_parameters() if "other" not in n)


def test_what_torch_can_say_stays_its_own_class_and_knows_its_sizes():
    model = alive(Encoder())
    graph = trace(model, X)
    halves = axes_plan(graph, [name for name in prunable(graph) if graph.axes[name].family in ("head", "width")])
    small = realise(model, graph, halves).model
    for layer in small.blocks.layers:
        assert type(layer.self_attn) is nn.MultiheadAttention
        assert (layer.self_attn.embed_dim, layer.self_attn.num_heads, layer.self_attn.head_dim) == (8, 2, 4)
    heads = axes_plan(graph, [name for name in prunable(graph) if graph.axes[name].family == "head"])
    small = realise(model, graph, heads).model
    for layer in small.blocks.layers:
        assert type(layer.self_attn) is UnevenAttention
        assert (layer.self_attn.embed_dim, layer.self_attn.num_heads, layer.self_attn.head_dim) == (16, 2, 4)
        assert layer.self_attn.in_proj_weight.shape == (24, 16)


def test_padded_batches_stay_off_the_paths_that_ask_for_even_sizes():
    model = alive(Encoder())
    graph = trace(model, (X, PADDED))
    assert model.blocks.use_nested_tensor
    neurons = axes_plan(graph, [name for name in prunable(graph) if graph.axes[name].family == "neuron"])
    assert realise(model, graph, neurons).model.blocks.use_nested_tensor
    heads = axes_plan(graph, [name for name in prunable(graph) if graph.axes[name].family == "head"])
    assert not realise(model, graph, heads).model.blocks.use_nested_tensor


@pytest.mark.parametrize("name", ["cross attention", "encoder and decoder"])
def test_heads_are_scored_by_weights_that_are_read_in_parts(name):
    make, args = MODELS[name]
    result = pomona.prune(alive(make()), args, structure="axes", goal="params=0.6x", latency=False)
    assert result.form == "eager" and result.report.proof.passed
    packed = [w for name, w in result.graph.weights.items() if name.endswith("in_proj_weight")]
    assert all((w.out_dim, w.in_dim) == (0, 1) and w.macs for w in packed)
    assert not all(w.prunable for w in packed)  # of those read in parts each part has an input of its own
