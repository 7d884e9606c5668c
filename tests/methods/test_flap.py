"""Fluctuation and the mean in the bias (FLAP, An et al., 2024)."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import language
import pomona
from pomona.allocations.everywhere import Global
from pomona.collect import collect
from pomona.criteria.fluctuation import Fluctuation
from pomona.criteria.random import Random
from pomona.data import load_data
from pomona.models.pretrained import smollm2
from pomona.recipes.language_structured import flap, osscar
from pomona.solvers.mean_bias import MeanBias
from pomona.statistics.reader_moments import ReaderMoments, apart
from pomona.structures.axes import Axes
from pomona.vocabulary import Decision, InputError, View


class Reader(nn.Module):
    """Features that are the data themselves, but for what a first layer that hands them on could learn."""

    def __init__(self, width, outputs, bias=True):
        super().__init__()
        self.make, self.read = nn.Linear(width, width), nn.Linear(width, outputs, bias=bias)
        with torch.no_grad():
            self.make.weight.copy_(torch.eye(width))
            self.make.bias.zero_()

    def forward(self, x):
        return self.read(self.make(x))


def looked(model, x):
    """The view of the features that are read, statistics gathered on x."""
    graph = pomona.trace(model.eval(), x)
    site = next(s for s in Axes(("neuron",)).sites(graph) if s.name == "make.weight:0")
    stats = collect(model, [site], Fluctuation().needs, [x])[site.name]
    names = [m.tensor for m in site.members] + ([] if model.read.bias is None else ["read.bias"])
    values = {name: model.get_parameter(name).detach() for name in names}
    return View(site, Axes(("neuron",)), values, torch.ones(site.units, dtype=torch.bool), stats)


def test_two_values_by_hand():
    model = Reader(2, 2)
    with torch.no_grad():
        model.read.weight.copy_(torch.tensor([[1.0, 3.0], [2.0, 0.0]]))
        model.read.bias.zero_()
    view = looked(model, torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    # Mean 2, variance 1 (over N; the paper's is over N - 1), squared column norm 1 + 4; the second feature never changes.
    assert_close(Fluctuation().score(view).value, torch.tensor([5.0, 0.0]))
    assert_close(Fluctuation(weighted=False).score(view).value, torch.tensor([1.0, 0.0]))
    decision = MeanBias().solve(view, torch.tensor([False, True]))
    assert_close(decision.tensors["read.bias"], torch.tensor([2.0, 4.0]))
    assert_close(decision.tensors["read.weight"], torch.tensor([[0.0, 3.0], [0.0, 0.0]]))


@pytest.mark.parametrize("unit", range(4))
def test_the_score_of_a_unit_is_the_error_of_leaving_it_to_its_mean(unit):
    torch.manual_seed(unit)
    model, x = Reader(4, 3).double(), torch.randn(50, 4, dtype=torch.float64) * torch.tensor([1.0, 0.1, 3.0, 2.0]) + 1
    view, before = looked(model, x), model(x)
    score, decision = Fluctuation().score(view).value[unit], MeanBias().solve(view, torch.arange(4) != unit)
    with torch.no_grad():
        model.read.weight.copy_(decision.tensors["read.weight"])
        model.read.bias.copy_(decision.tensors["read.bias"])
    error = (model(x) - before).square().sum(1).mean()
    assert_close(error.detach().float(), score)


def test_standardised_scores_are_deviations_from_the_mean_column():
    torch.manual_seed(0)
    view = looked(Reader(6, 3), torch.randn(50, 6) * torch.arange(1.0, 7.0))
    score = Fluctuation(standardised=True).score(view).value
    assert_close(score.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(score.std(correction=0), torch.tensor(1.0))
    living = torch.arange(6) != 5
    score = Fluctuation(standardised=True).score(replace(view, alive=living)).value
    assert_close(score[living].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_a_head_is_the_mean_of_its_squared_and_standardised_columns():
    model, data = language.model("opt")
    site = next(s for s in Axes(("head",)).sites(pomona.trace(model, data[0])))
    (reader,) = (m for m in site.members if m.role == "in")
    stats = collect(model, [site], Fluctuation().needs, data)[site.name]
    values = {m.tensor: model.get_parameter(m.tensor).detach() for m in site.members if not m.buffer}
    view = View(site, Axes(("head",)), values, torch.ones(site.units, dtype=torch.bool), stats)
    ((_, _, variance),) = apart(stats[ReaderMoments()], site)
    loss = variance[0] * values[reader.tensor].double().square().sum(0)  # (32,) of four heads, one after the other
    squared = loss.square()
    expected = ((squared - squared.mean()) / squared.std(correction=0)).view(4, 8).mean(1)
    assert_close(Fluctuation(standardised=True).score(view).value, expected.float())
    assert_close(Fluctuation().score(view).value, loss.view(4, 8).sum(1).float())


def test_a_convolution_takes_over_the_means_of_its_channels_padding_included():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1, groups=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    x = torch.randn(3, 2, 6, 6)
    recipe = flap.but(structure=Axes(("channel",), only=("0.weight:0",)))
    result = pomona.prune(model, x, method=recipe, goal="units=0.6x", data=[x], latency=False)
    y, z = model[2](torch.relu(model[0](x))), result.model[2](torch.relu(result.model[0](x)))
    assert result.plan.removes and result.report.proof.passed
    assert_close(y.mean((0, 2, 3)), z.mean((0, 2, 3)), atol=1e-5, rtol=1e-5)


def test_constant_features_leave_and_nothing_changes_with_their_means_in_the_bias():
    model, data = language.model("opt")
    with torch.no_grad():
        for layer in model.model.decoder.layers:
            layer.fc1.weight[::2] = 0
            layer.fc1.bias[::2].uniform_(0.5, 1.0)
    recipe = flap.but(structure=Axes(("neuron",)))
    result = pomona.prune(model, data[0], method=recipe, goal="units=0.5x", data=data, latency=False)
    expected = model(**data[1]).logits
    assert_close(result.model(**data[1]).logits, expected, atol=1e-5, rtol=1e-4)
    bare = pomona.prune(model, data[0], method=recipe.but(solver=None), goal="units=0.5x", data=data, latency=False)
    assert not torch.allclose(bare.model(**data[1]).logits, expected, atol=1e-3)


def test_the_scale_of_a_reader_does_not_decide():
    model, data = language.model("gpt2")
    plans = []
    for scale in (1.0, 10.0):
        with torch.no_grad():
            model.transformer.h[-1].mlp.c_proj.weight.mul_(scale)  # nothing but the last norm comes after it
        result = pomona.prune(model, data[0], method="flap", goal="params=0.85x", data=data, latency=False)
        plans.append({name: decision.keep.tolist() for name, decision in result.plan.decisions.items()})
    assert plans[0] == plans[1]
    neurons = [sum(keep) for name, keep in plans[0].items() if "mlp" in name]
    assert len(set(neurons)) > 1  # and blocks lose as much as their units are worth, not equal shares


def test_two_sites_that_read_through_one_weight_move_no_mean_twice():
    model, data = language.model("llama")
    for layer in model.model.layers:
        old = layer.self_attn.o_proj
        layer.self_attn.o_proj = nn.Linear(old.in_features, old.out_features)
        layer.self_attn.o_proj.weight, layer.self_attn.v_proj.weight.data[:] = old.weight, 0.1
    recipe = flap.but(structure=Axes(("head", "kv-group")))
    result = pomona.prune(
        model, data[0], method=recipe, goal="heads=0.5,kv-groups=0.5", data=data, latency=False, sequential=False
    )
    dense, pruned = model.model.layers[0].self_attn.o_proj, result.model.model.layers[0].self_attn.o_proj
    seen = []
    for one, net in ((dense, model), (pruned, result.model)):
        handle = one.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
        for batch in data:
            net(**batch)
        handle.remove()
    half = len(seen) // 2
    assert_close(torch.cat(seen[:half]).mean((0, 1)), torch.cat(seen[half:]).mean((0, 1)), atol=1e-5, rtol=1e-4)


def test_a_reader_without_a_bias_is_left_and_said():
    view = looked(Reader(3, 2, bias=False), torch.randn(8, 3))
    decision = MeanBias().solve(view, torch.tensor([True, False, True]))
    assert isinstance(decision, Decision) and set(decision.tensors) == {"read.weight"} and decision.notes


def test_the_mean_helps_and_the_choice_beats_chance():
    error = dict.fromkeys(("flap", "bare", "chance"), 0.0)
    methods = {
        "flap": flap,
        "bare": flap.but(solver=None),
        "chance": flap.but(criterion=Random(), allocation=Global(), solver=None),
    }
    model, data = language.model("opt", batches=6)
    for seed in range(3):
        for name, recipe in methods.items():
            pruned = pomona.prune(model, data[0], method=recipe, goal="params=0.8x", data=data[:4], latency=False, seed=seed)
            for batch in data[4:]:
                error[name] += float((pruned.model(**batch).logits - model(**batch).logits).detach().square().mean())
    assert error["flap"] < error["bare"] < error["chance"]


def test_where_there_are_no_biases_fitted_readers_lose_less_with_the_same_units_gone():
    model, data = language.model("llama", batches=8)
    plans = [
        pomona.prune(
            model, data[0], method=name, structure="neurons", goal="units=0.7x", data=data, latency=False, sequential=False
        ).plan
        for name in ("flap", "flap-refit")
    ]
    seen = []
    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(lambda module, args: seen.append((module, args[0].detach().flatten(0, 1))))
    for batch in data:
        model(**batch)
    for number, layer in enumerate(model.model.layers):
        name, site = f"model.layers.{number}.mlp.down_proj.weight", f"model.layers.{number}.mlp.gate_proj.weight:0"
        assert torch.equal(plans[0].keep(site), plans[1].keep(site))
        x, w = torch.cat([x for module, x in seen if module is layer.mlp.down_proj]), layer.mlp.down_proj.weight.detach()
        cut, fitted = (float((x @ (plan.decisions[site].tensors[name] - w).T).square().mean()) for plan in plans)
        assert fitted < cut


@pytest.mark.slow
def test_a_real_language_model_speaks_better_with_the_means_in_its_biases_than_without():
    try:
        model, tokenizer = smollm2()
    except InputError as missing:
        pytest.skip(str(missing))
    text = load_data("lee-text", tokenizer=tokenizer, length=256)
    data, held = list(text.train)[:2], list(text.test)[:1]
    methods = {"flap": flap, "bare": flap.but(solver=MeanBias(adds_biases=False)), "magnitude": osscar.but(solver=None)}
    graph, perplexity = pomona.trace(model, data[0]["input_ids"][:1, :32]), {}
    for name, recipe in methods.items():
        result = pomona.prune(model, graph, method=recipe, goal="params=0.8x", data=data, latency=False)
        perplexity[name] = pomona.evaluate(result.model, held, "perplexity").value
    assert perplexity["flap"] < perplexity["bare"] < perplexity["magnitude"]
