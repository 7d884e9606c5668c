import time

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import zoo
from plans import axes_plan, blocks_plan, both, prunable
from pomona.graph import trace
from pomona.graph.surgery import realise
from pomona.vocabulary import InputError


def assert_same(predicted, traced):
    """Copies that only some sizes need (keys repeated for one query head) are the same up to a few hundredths."""
    assert (predicted.params, predicted.macs) == (traced.params, traced.macs)
    assert predicted.activation_bytes == pytest.approx(traced.activation_bytes, rel=0.03)
    assert predicted.peak_bytes == pytest.approx(traced.peak_bytes, rel=0.03)


every_model = pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)


def run(model, args):
    with torch.no_grad():
        return model(**args) if isinstance(args, dict) else model(*args)


@every_model
def test_parameters_are_exact(make):
    model, args = make()
    assert trace(model, args).costs().params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("make", [m for m in zoo.EVERY if m is not zoo.lstm], ids=lambda make: make.__name__)
def test_macs_are_half_the_flops_that_torch_counts(make):
    model, args = make()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run(model, args)
    assert 2 * trace(model, args).costs().macs == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_macs_of_an_lstm_by_hand():
    batch, length, into, hidden = 2, 6, 8, 12
    first = 2 * 4 * hidden * (into + hidden)  # two directions, four gates
    second = 2 * 4 * hidden * (2 * hidden + hidden)
    assert trace(*zoo.lstm()).costs().macs == batch * length * (first + second) + batch * 2 * hidden * 5


def test_activations_of_a_perceptron_by_hand():
    assert trace(*zoo.mlp()).costs().activation_bytes == 4 * 2 * (16 + 16 + 12 + 12 + 4)


def test_two_results_of_a_perceptron_live_at_once():
    assert trace(*zoo.mlp()).costs().peak_bytes == 4 * 2 * (16 + 16)


class Forked(torch.nn.Module):
    """`first` lives under a view until the end, `third` dies in the sum, which is written into `second`."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (torch.nn.Linear(8, width) for width in (32, 4, 4))

    def forward(self, x):
        first = self.first(x).view(-1, 2, 16)
        second = self.second(x)
        second += self.third(x)
        return second.sum() * first.sum()


def test_views_prolong_a_life_and_sums_in_place_begin_none():
    costs = trace(Forked(), torch.randn(3, 8)).costs()
    assert costs.peak_bytes == 4 * 3 * (32 + 4 + 4)
    assert costs.activation_bytes == 4 * (3 * (32 + 4 + 4) + 3)


@every_model
def test_the_peak_lies_between_the_largest_result_and_their_sum(make):
    graph = trace(*make())
    costs = graph.costs()
    results = graph.polynomials.results.values(graph.polynomials.compiled.at({}), {})
    assert results.max() <= costs.peak_bytes <= costs.activation_bytes == results.sum()


@pytest.mark.parametrize(
    ("make", "container"),
    [(zoo.vit, "blocks"), (zoo.bert, "bert.encoder.layer"), (zoo.gpt2, "transformer.h"), (zoo.llama, "model.layers")],
)
def test_the_costs_without_a_block_are_those_of_the_small_model_traced_anew(make, container):
    model, args = make()
    graph = trace(model, args)
    plan = both(blocks_plan(container, [0], [0, 1]), axes_plan(graph))
    small = trace(realise(model, graph, plan).model, args)
    sizes = {n: (graph.axes[n].size + 1) // 2 for n in prunable(graph)}
    assert_same(graph.costs(sizes, without=[f"{container}.0"]), small.costs())
    assert sum(graph.macs_by_weight(sizes, [f"{container}.0"]).values()) == small.costs().macs


@every_model
def test_the_costs_of_half_are_those_of_the_small_model_traced_anew(make):
    model, args = make()
    graph = trace(model, args)
    small = trace(realise(model, graph, axes_plan(graph)).model, args)
    assert_same(graph.costs({n: (graph.axes[n].size + 1) // 2 for n in prunable(graph)}), small.costs())


@every_model
def test_macs_by_weight_add_up(make):
    graph = trace(*make())
    by_weight = graph.macs_by_weight()
    assert sum(by_weight.values()) == graph.costs().macs
    assert all(w.macs == by_weight.get(name, 0) for name, w in graph.weights.items())
    assert all(w.macs for w in graph.weights.values() if w.prunable)


def test_densities_scale_parameters_and_work_of_their_tensor_alone():
    graph = trace(*zoo.mlp())
    whole, sparse = graph.costs(), graph.costs(densities={"2.weight": 0.25})
    assert whole.params - sparse.params == 0.75 * 16 * 12
    assert whole.macs - sparse.macs == 0.75 * 2 * 16 * 12
    assert whole.activation_bytes == sparse.activation_bytes
    assert graph.costs({"0.weight:0": 8}, {"2.weight": 0.5}).macs == 2 * (8 * 8 + 8 * 12 // 2 + 12 * 4)


def test_a_price_is_monotone_in_every_axis():
    graph = trace(*zoo.densenet())
    for name in prunable(graph):
        prices = [graph.costs({name: n}).macs for n in range(graph.axes[name].size + 1)]
        assert prices == sorted(prices) and prices[-1] == graph.costs().macs


def test_an_unknown_or_frozen_axis_is_refused():
    graph = trace(*zoo.mlp())
    with pytest.raises(InputError, match=r"no axis '0\.weigth:0'; did you mean '0\.weight:0'"):
        graph.costs({"0.weigth:0": 3})
    with pytest.raises(InputError, match=r"'0\.weight:1' is frozen \(input\)"):
        graph.costs({"0.weight:1": 3})
    with pytest.raises(InputError, match=r"no weight '7\.weight'"):
        graph.costs(densities={"7.weight": 0.5})
    with pytest.raises(InputError, match=r"no block '2'"):
        graph.costs(without=["2"])


def test_ten_thousand_candidates_take_seconds():
    graph = trace(*zoo.resnet())
    start = time.process_time()
    for number in range(2000):
        graph.costs(dict.fromkeys(graph.atoms, 1 + number % 8))
    assert time.process_time() - start < 1.0
