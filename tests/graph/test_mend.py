import pytest
import torch
from torch import nn

import zoo
from plans import axes_plan, blocks_plan, both, prunable
from pomona.graph import trace
from pomona.graph.proof import prove
from pomona.graph.restore import restored
from pomona.graph.surgery import realise
from pomona.vocabulary import Decision, Plan


def family(graph, *families):
    return [name for name in prunable(graph) if graph.axes[name].family in families]


def test_layers_of_torch_know_their_sizes():
    model, args = zoo.mobilenet()
    graph = trace(model, args)
    small = realise(model, graph, axes_plan(graph)).model
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            assert (module.out_channels, module.in_channels) == (module.weight.shape[0], module.weight.shape[1] * module.groups)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.num_features == len(module.running_mean)
        elif isinstance(module, nn.Linear):
            assert (module.out_features, module.in_features) == module.weight.shape


def test_depthwise_convolutions_have_as_many_groups_as_channels():
    model, args = zoo.convnext()
    graph = trace(model, args)
    small = realise(model, graph, axes_plan(graph)).model
    assert small.stages[0].dwconv.groups == small.stages[0].dwconv.in_channels == 4
    assert small.norm.normalized_shape == (4,)


def test_normalisers_without_weights_are_told_their_widths():
    """16 is a width, a number of groups times a width and a length here, so no guess by number could tell them apart."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)
            self.one, self.other = nn.LayerNorm(16, elementwise_affine=False), nn.LayerNorm(16, elementwise_affine=False)
            self.groups = nn.GroupNorm(4, 16, affine=False)

        def forward(self, x):
            x = self.one(self.a(x))
            x = self.groups(x.transpose(1, 2)).transpose(1, 2)
            return self.c(self.other(self.b(x).relu()))

    model, args = Plain().eval(), (torch.randn(2, 16, 6),)
    graph = trace(model, args)
    plan = axes_plan(graph, [name for name in prunable(graph) if name.startswith("a")])
    realised = realise(model, graph, plan)
    assert realised.form == "eager" and prove(model, graph, plan, realised.model, args).passed
    small = realised.model
    assert small.one.normalized_shape == (small.a.out_features,) and small.other.normalized_shape == (16,)
    assert small.groups.num_groups == 2 and small.a.out_features == 4


def test_a_recurrent_layer_knows_its_sizes():
    model, args = zoo.lstm()
    graph = trace(model, args)
    small = realise(model, graph, axes_plan(graph)).model
    assert (small.lstm.input_size, small.lstm.hidden_size) == (4, 6)


@pytest.mark.parametrize("families", [("head",), ("head-dim",), ("width",), ("head", "head-dim"), ("head", "width")])
def test_equal_numbers_are_told_apart_by_trial(families):
    model, args = zoo.vit()  # 4 heads of width 4 make the model's width of 16
    graph = trace(model, args)
    small = realise(model, graph, axes_plan(graph, family(graph, *families))).model
    for block in small.blocks:
        assert block.heads == (2 if "head" in families else 4)
        assert block.head_dim == (2 if "head-dim" in families else 4)


def test_queries_that_took_in_a_scale_give_it_back():
    model, args = zoo.vit()
    graph = trace(model, args)
    plan = axes_plan(graph)
    small = realise(model, graph, plan).model
    with torch.no_grad():
        for parameter in small.parameters():  # as training would
            parameter.add_(0.01 * torch.randn_like(parameter))
    whole = restored(model, graph, plan, small)
    assert prove(whole, graph, plan, small, args).passed
    assert not prove(model, graph, plan, small, args).passed


def test_a_uniform_llama_tells_the_truth_in_its_configuration():
    model, args = zoo.llama()
    graph = trace(model, args)
    small = realise(model, graph, axes_plan(graph)).model
    rebuilt = type(small)(small.config)
    assert {n: p.shape for n, p in rebuilt.named_parameters()} == {n: p.shape for n, p in small.named_parameters()}
    assert (small.config.hidden_size, small.config.intermediate_size) == (8, 12)
    assert model.config.hidden_size == 16


def test_a_shallow_model_tells_its_depth():
    for make, container in ((zoo.bert, "bert.encoder.layer"), (zoo.gpt2, "transformer.h"), (zoo.llama, "model.layers")):
        model, args = make()
        graph = trace(model, args)
        small = realise(model, graph, blocks_plan(container, [0], [0, 1])).model
        assert small.config.num_hidden_layers == 1 and model.config.num_hidden_layers == 2
        assert {m.layer_idx for m in small.modules() if hasattr(m, "layer_idx") and m.layer_idx is not None} == {0}


def test_a_field_that_said_nothing_is_told_a_number():
    model, args = zoo.gpt2()
    assert model.config.n_inner is None  # four times the width
    graph = trace(model, args)
    small = realise(model, graph, axes_plan(graph, [name for name in prunable(graph) if ".mlp." in name])).model
    assert small.transformer.h[0].mlp.c_fc.nf == 32
    assert small.config.n_inner == 32 and small.config.pad_token_id is None
    rebuilt = type(small)(small.config)
    assert {n: p.shape for n, p in rebuilt.named_parameters()} == {n: p.shape for n, p in small.named_parameters()}


class Sized(nn.Module):
    """Keeps its sizes in a tuple, in a number and in an object beside it."""

    def __init__(self, spec):
        super().__init__()
        self.spec, self.grid, self.parts = spec, (4, 4), 3
        self.fc, self.out = nn.Linear(6, 3 * spec.width), nn.Linear(3 * spec.width, 2)

    def forward(self, x):
        y = self.fc(x).view(x.shape[0], self.parts, self.spec.width)
        return self.out(torch.relu(y).flatten(1))


class Spec:
    def __init__(self):
        self.width = 10


def test_sizes_in_objects_beside_the_module_are_mended():
    torch.manual_seed(0)
    model, x = Sized(Spec()).eval(), torch.randn(2, 6)
    graph = trace(model, x)
    plan = axes_plan(graph)
    realised = realise(model, graph, plan)
    assert realised.form == "eager", realised.notes
    assert prove(model, graph, plan, realised.model, (x,)).passed
    assert model.spec.width == 10 and realised.model.grid == (4, 4)
    assert realised.model.out.in_features == realised.model.parts * realised.model.spec.width


def test_a_position_within_the_container_follows():
    model, args = zoo.senet()
    for number, block in enumerate(model.blocks):
        block.number = number
    graph = trace(model, args)
    plan = both(blocks_plan("blocks", [0], [0, 1]), axes_plan(graph))
    small = realise(model, graph, plan).model
    assert [block.number for block in small.blocks] == [0]


@pytest.mark.parametrize("make", [zoo.vit, zoo.bert, zoo.gpt2, zoo.llama], ids=lambda make: make.__name__)
def test_layers_may_end_up_unequal(make):
    model, args = make()
    graph = trace(model, args)
    for seed in range(3):
        random = torch.Generator().manual_seed(seed)
        names = family(graph, "head", "kv-group", "neuron", "width")
        plan = axes_plan(graph, names)
        shares = {name: int(torch.randint(1, graph.axes[name].size + 1, (), generator=random)) for name in names}
        keeps = {name: torch.arange(graph.axes[name].size) < count for name, count in shares.items()}
        plan = Plan(plan.sites, {name: Decision(keep) for name, keep in keeps.items()})
        realised = realise(model, graph, plan)
        positional, keywords = graph.program.example_inputs
        assert realised.form == "eager", realised.notes
        assert prove(model, graph, plan, realised.model, positional, keywords).passed


class Biased(nn.Module):
    """Attention that keeps a table of its biases in a dictionary, once it is evaluated, and a dictionary of constants."""

    def __init__(self):
        super().__init__()
        self.heads, self.qkv, self.out = 4, nn.Linear(16, 48), nn.Linear(16, 16)
        self.biases, self.seen = nn.Parameter(torch.randn(4, 9)), {}
        self.fixed = {"scale": torch.tensor([0.5])}

    def table(self):
        if "cpu" not in self.seen:
            self.seen["cpu"] = self.biases[:, torch.arange(9).view(3, 3)]
        return self.seen["cpu"]

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), 3, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)) * self.fixed["scale"] + self.table()
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


@torch.no_grad()
def test_tables_that_a_forward_pass_left_are_made_anew():
    torch.manual_seed(0)
    model, args = Biased().eval(), (torch.randn(2, 3, 16),)
    model(*args)
    table = model.seen["cpu"]
    graph = trace(model, args)
    plan = axes_plan(graph, family(graph, "head"))
    assert any(member.tensor == "biases" for name in family(graph, "head") for member in graph.axes[name].members)
    made = realise(model, graph, plan)
    assert made.form == "eager" and made.model.biases.shape == (2, 9) and not made.model.seen
    made.model(*args)
    assert made.model.seen["cpu"].shape[0] == 2 and made.model.fixed["scale"] == 0.5
    assert model.seen["cpu"] is table
    assert prove(model, graph, plan, made.model, args).passed
    assert torch.allclose(restored(model, graph, plan, made.model)(*args), made.model(*args), atol=1e-5)
