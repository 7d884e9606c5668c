"""Latency as a price of keep counts."""

import pytest
import torch

from papergraph import graph
from pomona.engines.clocked import Clocked
from pomona.engines.prices import price
from pomona.structures.axes import Axes
from pomona.structures.layers import Layers
from pomona.structures.union import Union
from pomona.structures.weights import Weights
from pomona.vocabulary import Goal, InputError, Sweeping

G = graph()


class Told:
    """100 ms, of which each channel of conv1 takes 5 and each block as long as its name says."""

    def at(self, sizes):
        return 100.0 - 5 * (8 - sizes.get("conv1", 8))

    def along(self, sizes, axis, counts):
        return [self.at({**sizes, axis: count}) for count in counts]

    def of_blocks(self, sizes, blocks):
        return [7.0 + 2 * number for number, _ in enumerate(blocks)]


def clocked(structure):
    return price(Goal("latency", 0.5), G, structure.sites(G), structure, Told)


def test_axes_and_skipped_blocks_save_time():
    cost = clocked(Union((Axes(), Layers())))
    assert cost.dense == 100
    assert cost({"conv1": torch.tensor(4)}) == 80
    assert cost({"conv1": torch.tensor(4), "blocks": torch.tensor(1)}) == 80 - 7  # the quicker block


def test_it_tells_many_counts_at_once():
    cost = clocked(Axes())
    assert isinstance(cost, Sweeping)
    assert cost.along({"conv2": torch.tensor(3)}, "conv1", [1, 8]) == [65, 100]


def test_zeroed_weights_meet_no_goal_in_latency():
    with pytest.raises(InputError, match="--structure channels"):
        clocked(Weights())


def test_where_nothing_is_timed_the_goal_is_refused():
    with pytest.raises(InputError, match="macs"):
        price(Goal("latency", 0.5), G, Axes().sites(G), Axes())


def test_refusing_comes_before_timing():
    with pytest.raises(InputError):
        Clocked.of(lambda: pytest.fail("timed"), tuple(Weights().sites(G)))
