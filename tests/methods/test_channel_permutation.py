"""n:m with channel permutation (Pool and Yu, 2021; Zhang et al., RIA, 2024): the same model, more of it kept."""

import pytest
import torch
from torch import nn

import language
import pomona
import tinylm
import zoo
from pomona import registry
from pomona.graph.precise import precise
from pomona.graph.proof import difference
from pomona.graph.reference import answer
from pomona.orders.swaps import Swaps
from pomona.recipes.layerwise import sparsegpt
from pomona.structures.n_m import NM
from pomona.vocabulary import InputError, Plan


def held(result, dense):
    """The sum of |w| over what stays, as a share of all."""
    weights = {name: parameter.detach() for name, parameter in dense.named_parameters()}
    kept = sum(float(weights[site][plan].abs().sum()) for site, plan in result.plan.of_kind("element").items())
    return kept / sum(float(weights[site].abs().sum()) for site in result.plan.sites)


def test_the_example_of_the_card_keeps_everything():
    row = torch.tensor([[5.0, 4, 3, 2, 0, 0, 0, 0]])
    stripes = row[:, Swaps().arrange(row, 2, 4)].view(2, 4)
    assert float(row.view(2, 4).topk(2).values.sum()) == 9 and float(stripes.topk(2).values.sum()) == 14


@pytest.mark.parametrize(
    "make", [zoo.resnet, zoo.densenet, zoo.mobilenet, zoo.vit, zoo.gpt2, zoo.llama], ids=lambda m: m.__name__
)
def test_more_is_kept_of_a_model_that_is_the_same(make):
    model, args = make()
    graph = pomona.trace(model, args)
    positional, keywords = graph.program.example_inputs
    fits = [w.tensor for w in graph.weights.values() if w.prunable and w.shape[1 if w.in_dim is None else w.in_dim] % 4 == 0]
    wish = {"structure": NM(only=tuple(fits)), "latency": False}
    plain = pomona.prune(model, graph, method="magnitude-uniform", **wish)
    permuted = pomona.prune(model, graph, method="nm-permuted", **wish)
    same = difference(answer(precise(permuted.dense), positional, keywords), answer(precise(model), positional, keywords))
    assert permuted.plan.provenance["orders"] and same < 1e-9 and permuted.report.proof.passed
    assert held(permuted, permuted.dense) > held(plain, model) * 1.003
    groups = permuted.plan.keep(fits[-1])
    assert float(groups.float().mean()) == 0.5


def test_the_order_is_in_the_plan_which_is_saved_and_replayed(tmp_path):
    model, data = language.model("llama")
    result = pomona.prune(model, data[0], method="wanda-permuted", data=data, latency=False)
    result.save(tmp_path / "out")
    plan = Plan.load(tmp_path / "out" / "plan.safetensors")
    again = pomona.replay(model, plan, data[0], latency=False)
    opened = pomona.load(tmp_path / "out")
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    with torch.no_grad():
        assert torch.equal(opened(**data[0]).logits, result.model(**data[0]).logits)
    assert "put into another order" in result.report.notes[0]
    back = result.masked().state_dict()
    assert all(torch.equal(value, back[name]) for name, value in result.model.state_dict().items())


@pytest.mark.parametrize("method", ["wanda-permuted", "ria-permuted", str(sparsegpt.but(order=Swaps(), structure=NM()))])
def test_every_criterion_and_solver_works_on_the_new_order(method):
    pytest.importorskip("scipy")
    model, text = tinylm.trained(), tinylm.text(4, seed=2)
    plain = registry.recipe(method).but(order=None)
    one, two = (pomona.prune(model, text[0], method=m, data=text, latency=False) for m in (plain, method))
    assert two.report.proof.passed and two.plan.removes == one.plan.removes
    assert sum(two.plan.provenance["blocks"].values()) < 1.02 * sum(one.plan.provenance["blocks"].values())
    assert tinylm.loss(two.model, tinylm.text(8, seed=3)) < tinylm.loss(one.model, tinylm.text(8, seed=3)) + 0.02


class Flat(nn.Module):
    """A convolution whose 9 positions a channel are read one after the other: groups of 4 hold positions of two channels."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(4, 8, 3, padding=1), nn.Linear(72, 8)

    def forward(self, x):
        return self.head(self.conv(x).relu().flatten(1))


def test_an_axis_whose_units_do_not_fill_groups_is_left_and_told():
    result = pomona.prune(Flat(), torch.randn(1, 4, 3, 3), method="nm-permuted", latency=False)
    assert not result.plan.provenance["orders"]
    assert "its units do not fill whole groups of 4 of head.weight" in " ".join(result.report.notes)
    assert "conv.weight:1 (input)" in " ".join(result.report.notes)


class Plain(nn.Module):
    """Two layers."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.two(self.one(x))


class Ramp(Plain):
    """Multiplies its units by their numbers, which no parameter says."""

    def forward(self, x):
        return self.two(self.one(x) * torch.arange(16.0))


@pytest.mark.parametrize(
    ("traced", "why"), [(Ramp, ""), (Plain, "one.weight:0 (the model is another function in another order)")]
)
def test_units_whose_places_mean_something_stay(traced, why):
    """Whether the graph knows it or, traced on a model with the same tensors, is wrong about it."""
    torch.manual_seed(0)
    x = torch.randn(2, 8)
    result = pomona.prune(Ramp(), pomona.trace(traced(), x), method="nm-permuted", latency=False)
    assert not result.plan.provenance["orders"] and result.report.proof.passed
    assert why in " ".join(result.report.notes)
    assert pomona.prune(Plain(), pomona.trace(Plain(), x), method="nm-permuted", latency=False).plan.provenance["orders"]


def test_an_order_needs_neighbours_a_graph_and_the_whole_model(tmp_path):
    model, x = zoo.mlp()
    with pytest.raises(InputError, match="use --structure 2:4 or --order none"):
        pomona.prune(model, x, method="nm-permuted", structure="weights", goal="sparsity=0.5", latency=False)
    with pytest.raises(InputError, match="did you mean 'swaps'"):
        pomona.prune(model, x, structure="2:4", order="swops", latency=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(InputError, match="choose a method without an order"):
        pomona.sparsify(model, optimizer, method="nm-permuted", steps=2, args=x)
