"""What keep counts leave of the three costs."""

import pytest
import torch

from papergraph import graph
from pomona.engines.prices import price
from pomona.structures.axes import Axes
from pomona.structures.block import Block
from pomona.structures.layers import Layers
from pomona.structures.union import Union
from pomona.structures.weights import Weights
from pomona.vocabulary import Goal

G = graph()
COUNTED = 8 * 4 * 9 + 8 * 8 * 9 + 12 * 32 + 2 * 144 + 48


def bound(cost, structure):
    return price(Goal(cost, 0.5), G, structure.sites(G), structure)


def count(**keeps):
    return {name.replace("__", "."): torch.tensor(n) for name, n in keeps.items()}


def test_sparsity_counts_linear_and_convolution_weights():
    assert bound("sparsity", Weights()).dense == COUNTED
    assert bound("sparsity", Weights())({}) == COUNTED


def test_embeddings_count_when_asked_for():
    assert bound("sparsity", Weights(embeddings=True)).dense == COUNTED + 120


def test_elements_are_counted_one_by_one():
    assert bound("sparsity", Weights())(count(fc__weight=100)) == COUNTED - 384 + 100
    rows = {"fc.weight": torch.tensor([3] * 12)}
    assert bound("sparsity", Weights())(rows) == COUNTED - 384 + 36


def test_axes_shrink_every_tensor_they_reach():
    cost = bound("sparsity", Axes())
    assert cost(count(conv1=5)) == COUNTED - 3 * 4 * 9 - 8 * 3 * 9
    both = cost(count(conv1=5, conv2=6))
    assert both == 5 * 4 * 9 + 6 * 5 * 9 + 12 * 24 + 2 * 144 + 48


def test_params_and_macs_come_from_the_graph():
    params, macs = bound("params", Axes()), bound("macs", Axes())
    assert params.dense == sum(w.size for w in G.weights.values())
    assert params(count(conv1=5)) == pytest.approx(params.dense - 3 * 4 * 9 - 8 * 3 * 9 - 3)
    assert macs(count(conv1=0)) == pytest.approx(macs.dense - G.weights["conv1.weight"].macs - G.weights["conv2.weight"].macs)


def test_elements_thin_out_macs():
    macs = bound("macs", Weights())
    assert macs(count(conv1__weight=144)) == pytest.approx(macs.dense - G.weights["conv1.weight"].macs / 2)


def test_blocks_cost_their_elements():
    assert bound("sparsity", Block(4, 1))(count(conv1__weight=10)) == COUNTED - 288 + 40


def test_edge_blocks_are_priced_from_above():
    cost = bound("sparsity", Block(5, 1, only=("fc",)))  # 12 rows: tiles of 5, 5 and 2
    assert cost(count(fc__weight=64)) == COUNTED - 384 + 320
    assert cost(count(fc__weight=65)) == COUNTED - 384 + 322


def test_a_block_that_is_left_out_takes_the_mean_with_it():
    for cost in ("sparsity", "params", "macs"):
        whole = bound(cost, Layers())
        assert whole(count(blocks=1)) == pytest.approx(whole.dense - 144)


def test_axes_elements_and_layers_multiply():
    mixed = Union((Axes(only=("conv1",)), Weights(only=("conv2", "blocks*")), Layers()))
    keeps = count(conv1=4, conv2__weight=288, blocks__0__map__weight=72, blocks__1__map__weight=72, blocks=1)
    assert bound("sparsity", mixed)(keeps) == COUNTED - 144 - (576 - 144) - (288 - 72)


def test_two_axes_along_one_dimension_keep_what_both_keep():
    from papergraph import PaperGraph, linear
    from pomona.vocabulary import Axis, Member

    heads = torch.arange(12).view(3, 4)
    axes = [Axis("h", 3, "head", (Member("w", "out", 0, heads),)), Axis("d", 4, "head-dim", (Member("w", "out", 0, heads.T),))]
    two = PaperGraph({"w": linear("w", 12, 5)}, {axis.name: axis for axis in axes})
    structure = Axes(("head", "head-dim"))
    cost = price(Goal("sparsity", 0.5), two, structure.sites(two), structure)
    assert cost(count(h=2, d=3)) == 2 * 3 * 5
