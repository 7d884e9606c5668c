import warnings
from functools import cache

import pytest
import torch
from torch import nn

import zoo
from plans import axes_plan, blocks_plan, both, elements_plan, prunable, team
from pomona.graph import trace
from pomona.graph.masked import masked
from pomona.graph.proof import prove
from pomona.graph.surgery import realise, renamed
from pomona.vocabulary import Decision, InputError, Plan

every_model = pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)


@cache
def traced(make):
    model, args = make()
    graph = trace(model, args)
    positional, keywords = graph.program.example_inputs
    return model, graph, positional, keywords


def first(output):
    return output if isinstance(output, torch.Tensor) else output["logits"]


def size(model):
    return sum(p.numel() for p in model.parameters())


@every_model
def test_half_of_everything_goes_from_the_eager_module_and_is_proven(make):
    model, graph, args, kwargs = traced(make)
    plan = axes_plan(graph)
    realised = realise(model, graph, plan)
    proof = prove(model, graph, plan, realised.model, args, kwargs)
    assert (realised.form, realised.notes) == ("eager", ())
    assert type(realised.model) is type(model)
    assert proof.passed and proof.max_error < 1e-9 and proof.sensitivity > 1e-3
    assert {*proof.exact_groups, *proof.approximate_groups} == set(plan.sites)
    counts = {name: int(plan.keep(name).sum()) for name in plan.sites}
    assert size(realised.model) == graph.costs(counts).params < 0.5 * size(model)


@every_model
def test_each_family_of_axes_goes_alone(make):
    model, graph, args, kwargs = traced(make)
    families = {graph.axes[name].family for name in prunable(graph)}
    for number, family in enumerate(sorted(families)):
        plan = axes_plan(graph, [name for name in prunable(graph) if graph.axes[name].family == family], seed=number)
        realised = realise(model, graph, plan)
        assert prove(model, graph, plan, realised.model, args, kwargs).max_error < 1e-9, family
        assert realised.form == "eager", (family, realised.notes)


@pytest.mark.parametrize("make", zoo.BY_AXIS, ids=lambda make: make.__name__)
def test_each_axis_alone_is_proven_in_one_form_or_the_other(make):
    model, graph, args, kwargs = traced(make)
    for number, name in enumerate(prunable(graph)):
        plan = axes_plan(graph, team(graph, name), seed=number)
        realised = realise(model, graph, plan)
        proof = prove(model, graph, plan, realised.model, args, kwargs)
        assert proof.passed and proof.form == realised.form, name
        assert (realised.form == "eager") == (realised.notes == ())


@every_model
def test_the_given_model_is_untouched_and_shares_nothing(make):
    model, graph, *_ = traced(make)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = realise(model, graph, axes_plan(graph)).model
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@every_model
def test_the_result_is_an_ordinary_module(make):
    model, graph, args, kwargs = traced(make)
    plan = axes_plan(graph)
    small = realise(model, graph, plan).model
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in small.modules())
    for name, parameter in small.named_parameters():
        old = model.get_parameter(name)
        assert parameter.is_contiguous() and parameter.is_leaf
        assert (parameter.requires_grad, parameter.dtype) == (old.requires_grad, old.dtype)
    again = realise(make()[0], graph, plan).model
    again.load_state_dict(small.state_dict())
    assert torch.equal(first(again(*args, **kwargs)), first(small(*args, **kwargs)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.export(small, args, {**kwargs, **({"use_cache": False} if hasattr(small, "generate") else {})}, strict=False)


@every_model
def test_the_result_trains(make):
    model, graph, args, kwargs = traced(make)
    small = realise(model, graph, axes_plan(graph)).model.train()
    optimizer = torch.optim.SGD(small.parameters(), 0.01)
    before = {name: p.detach().clone() for name, p in small.named_parameters()}
    first(small(*args, **kwargs)).float().pow(2).mean().backward()
    optimizer.step()
    assert sum(not torch.equal(p, before[name]) for name, p in small.named_parameters()) > 0.7 * len(before)


def test_tied_parameters_stay_tied():
    model, graph, *_ = traced(zoo.llama)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    small = realise(model, graph, axes_plan(graph)).model
    assert small.lm_head.weight is small.model.embed_tokens.weight
    assert small.lm_head.weight.shape == (40, 8)


def test_slices_are_the_kept_units():
    model, graph, *_ = traced(zoo.mlp)
    plan = axes_plan(graph)
    small = realise(model, graph, plan).model
    first_axis, second_axis = (plan.keep(name) for name in plan.sites)
    assert torch.equal(small[0].weight, model[0].weight[first_axis])
    assert torch.equal(small[2].weight, model[2].weight[second_axis][:, first_axis])
    assert torch.equal(small[4].weight, model[4].weight[:, second_axis])
    assert torch.equal(small[4].bias, model[4].bias)


def test_attention_keeps_its_scale_when_head_width_goes():
    model, graph, args, _ = traced(zoo.vit)
    widths = [name for name in prunable(graph) if graph.axes[name].family == "head-dim"]
    plan = axes_plan(graph, widths)
    small = realise(model, graph, plan).model
    assert small.blocks[0].head_dim == 2
    torch.testing.assert_close(small(*args), masked(model, plan)(*args))


@pytest.mark.parametrize(
    ("make", "container", "of"),
    [
        (zoo.resnet, "layer2", (1, 2)), (zoo.mobilenet, "features", (4, 5)), (zoo.senet, "blocks", (0, 1)),
        (zoo.convnext, "stages", (0, 1)), (zoo.vit, "blocks", (0, 1)), (zoo.bert, "bert.encoder.layer", (0, 1)),
        (zoo.gpt2, "transformer.h", (0, 1)), (zoo.llama, "model.layers", (0, 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("narrow", [False, True])
def test_a_dropped_block_is_a_skipped_one(make, container, of, narrow):
    model, graph, args, kwargs = traced(make)
    dead = blocks_plan(container, of[:1], of)
    plan = both(dead, axes_plan(graph)) if narrow else dead
    realised = realise(model, graph, plan)
    assert realised.form == "eager"
    proof = prove(model, graph, plan, realised.model, args, kwargs)
    assert proof.passed and proof.max_error < 1e-9
    assert len(realised.model.get_submodule(container)) == len(model.get_submodule(container)) - 1
    assert not torch.equal(first(realised.model(*args, **kwargs)), first(model(*args, **kwargs)))


@pytest.mark.parametrize(("make", "container"), [(zoo.gpt2, "transformer.h"), (zoo.llama, "model.layers")])
@pytest.mark.parametrize("heads_too", [False, True])
def test_text_is_generated_with_the_cache_as_without_it(make, container, heads_too):
    model, graph, _, kwargs = traced(make)
    plan = blocks_plan(container, [0], [0, 1])
    if heads_too:
        plan = both(plan, axes_plan(graph, [n for n in prunable(graph) if graph.axes[n].family in ("head", "kv-group")]))
    realised = realise(model, graph, plan)
    assert realised.form == "eager"
    assert realised.model.config.num_hidden_layers == 1
    ids = kwargs["input_ids"]
    ask = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    cached, plain = (realised.model.generate(**ask, use_cache=use) for use in (True, False))
    assert cached.shape == (2, ids.shape[1] + 5)
    assert torch.equal(cached, plain)


def test_names_follow_dropped_blocks():
    plan = blocks_plan("net.layers", [1, 3], range(5))
    assert renamed("net.layers.0.fc.weight", plan) == "net.layers.0.fc.weight"
    assert renamed("net.layers.2.fc.weight", plan) == "net.layers.1.fc.weight"
    assert renamed("net.layers.4.1.weight", plan) == "net.layers.2.1.weight"
    assert renamed("net.layers.3.fc.weight", plan) is None
    assert renamed("other.4.weight", plan) == "other.4.weight"


TYPED_IN = {}
exec("def forward(self, x):\n    return self.out(self.fc(x).view(-1, 8))", TYPED_IN)


class Whimsical(nn.Module):
    """Says its width in code that stands in no file, so that nobody can read and mend it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.out = nn.Linear(8, 2)

    forward = TYPED_IN["forward"]


def test_a_module_that_cannot_be_mended_becomes_its_rewritten_program():
    torch.manual_seed(0)
    model, x = Whimsical().eval(), torch.randn(3, 4)
    graph = trace(model, x)
    plan = axes_plan(graph)
    realised = realise(model, graph, plan)
    assert realised.form == "graph" and "rewritten" in realised.notes[0]
    assert prove(model, graph, plan, realised.model, (x,)).max_error < 1e-9
    torch.testing.assert_close(realised.model(x), masked(model, plan)(x))
    assert size(realised.model) == 4 * 4 + 4 + 4 * 2 + 2
    realised.model(x).sum().backward()
    assert all(p.grad is not None for p in realised.model.parameters())


@pytest.fixture
def only_programs(monkeypatch):
    """Neither the modules' integers nor their code are brought to the new sizes."""
    for way in ("mend", "adapt"):
        monkeypatch.setattr(f"pomona.graph.surgery.{way}", lambda *_: "not tried")


@every_model
def test_the_rewritten_program_of_every_model_is_proven(make, only_programs):
    model, graph, args, kwargs = traced(make)
    plan = axes_plan(graph)
    realised = realise(model, graph, plan)
    proof = prove(model, graph, plan, realised.model, args, kwargs)
    assert (realised.form, proof.form, proof.passed) == ("graph", "graph", True)
    assert {n for n, _ in realised.model.named_parameters()} <= {n for n, _ in model.named_parameters(remove_duplicate=False)}


def test_the_rewritten_program_leaves_out_blocks(only_programs):
    model, graph, args, kwargs = traced(zoo.resnet)
    plan = both(blocks_plan("layer2", [1], [1, 2]), axes_plan(graph))
    small = realise(model, graph, plan).model
    assert prove(model, graph, plan, small, args, kwargs).passed
    names = dict(small.named_parameters())
    assert "layer2.1.conv1.weight" in names and "layer2.2.conv1.weight" not in names


def test_weight_masks_keep_the_shapes():
    model, graph, *_ = traced(zoo.vgg)
    plan = elements_plan(model)
    realised = realise(model, graph, plan)
    assert realised.form == "masked"
    assert all(a.shape == b.shape for a, b in zip(realised.model.parameters(), model.parameters(), strict=True))


def test_weight_masks_and_axes_go_together():
    model, graph, args, kwargs = traced(zoo.vgg)
    plan = both(elements_plan(model), axes_plan(graph))
    realised = realise(model, graph, plan)
    assert realised.form == "eager" and prove(model, graph, plan, realised.model, args, kwargs).passed


def test_solved_tensors_are_sliced():
    model, graph, args, kwargs = traced(zoo.mlp)
    plan = axes_plan(graph)
    name = next(iter(plan.sites))
    solved = {"2.weight": torch.randn_like(model[2].weight)}
    plan = Plan(plan.sites, {**plan.decisions, name: Decision(plan.keep(name), solved)})
    small = realise(model, graph, plan).model
    assert torch.equal(small[2].weight, solved["2.weight"][plan.keep(list(plan.sites)[1])][:, plan.keep(name)])
    assert prove(model, graph, plan, small, args, kwargs).passed


def test_a_plan_for_another_model_is_refused():
    model, graph, *_ = traced(zoo.mlp)
    _, other, *_ = traced(zoo.vgg)
    with pytest.raises(InputError, match="not an axis of this model"):
        realise(model, graph, axes_plan(other))
    name = next(iter(graph.axes))
    plan = axes_plan(graph, [name])
    nobody = Plan(plan.sites, {name: Decision(torch.zeros_like(plan.keep(name)))})
    with pytest.raises(InputError, match="keep at least one"):
        realise(model, graph, nobody)
