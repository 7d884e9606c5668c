"""Tiles of a weight."""

import torch

from papergraph import PaperGraph, conv, linear, transposed
from pomona.structures.block import Block
from pomona.vocabulary import Scores


def site(weight, structure):
    return structure.sites(PaperGraph({weight.tensor: weight}))[0]


def test_mean_and_maximum_disagree_where_they_should():
    structure = Block(2, 2)
    w = torch.tensor([[1.0, 1, 3, 0], [1, 1, 0, 0]])
    place = site(linear("a", 2, 4), structure)
    assert structure.reduce(place, {"a": w}, how="mean").tolist() == [[1.0, 0.75]]
    assert structure.reduce(place, {"a": w}, how="max").tolist() == [[1.0, 3.0]]


def test_edge_tiles_count_only_what_they_have():
    structure = Block(2, 2)
    place = site(linear("a", 3, 3), structure)
    ones = {"a": torch.ones(3, 3)}
    assert structure.reduce(place, ones).tolist() == [[4, 2], [2, 1]]
    assert structure.reduce(place, ones, how="mean").tolist() == [[1, 1], [1, 1]]
    assert structure.reduce(place, {"a": -torch.ones(3, 3)}, how="max").tolist() == [[-1, -1], [-1, -1]]


def test_a_transposed_weight_is_tiled_over_outputs():
    structure = Block(4, 1)
    place = site(transposed("b", 3, 8), structure)
    assert place.shape == (2, 3)
    keep = torch.zeros(2, 3, dtype=torch.bool)
    keep[1, 2] = True
    assert structure.expand(place, keep)["b"].nonzero().tolist() == [[2, 4], [2, 5], [2, 6], [2, 7]]


def test_kernel_positions_are_tiles_of_their_own():
    structure = Block(4, 2)
    place = site(conv("c", 8, 4), structure)
    assert place.shape == (2, 2, 9)
    keep = structure.select(place, Scores(torch.arange(36.0).view(2, 2, 9)), torch.tensor(1))
    mask = structure.expand(place, keep)["c"]
    assert mask.sum() == 8 and mask[4:, 2:, 2, 2].all()
