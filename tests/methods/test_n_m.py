"""n:m: Accelerating Sparse Deep Neural Networks (Mishra et al., 2021), Balanced Sparsity (Yao et al., 2019)."""

from itertools import combinations

import torch

from papergraph import PaperGraph, conv, linear
from pomona.structures.n_m import NM
from pomona.structures.weights import Weights
from pomona.vocabulary import Scores


def kept(rows, n, m):
    """The magnitudes that stay."""
    w = torch.tensor(rows)
    structure = NM(n, m)
    site = structure.sites(PaperGraph({"w": linear("w", *w.shape)}))[0]
    return w * structure.select(site, Scores(w.abs()), torch.tensor(structure.feasible(site)))


def test_two_of_four_keeps_the_two_largest_magnitudes():
    assert kept([[4, -1, 3, 0.5, 0, 0, 7, -6]], 2, 4).tolist() == [[4, 0, 3, 0, 0, 0, 7, -6]]


def test_the_balanced_row():
    row = [[5.0, 1, 4, 2, 9, 8, 0.1, 0.2]]
    assert kept(row, 2, 4).sum() == 26
    assert kept(row, 1, 4).tolist() == [[5, 0, 0, 0, 9, 0, 0, 0]]


def test_no_pattern_keeps_more():
    w = torch.rand(1, 8)
    best = max(sum(float(w[0, i]) for i in (*a, *b)) for a in combinations(range(4), 2) for b in combinations(range(4, 8), 2))
    assert abs(float(kept(w.tolist(), 2, 4).sum()) - best) < 1e-6


def test_longer_groups_keep_more_and_a_whole_row_is_row_top_k():
    w = torch.randn(8, 16)
    by_group = [float(kept(w.tolist(), m // 2, m).abs().sum()) for m in (2, 4, 8, 16)]
    assert by_group == sorted(by_group)
    site = Weights().sites(PaperGraph({"w": linear("w", 8, 16)}))[0]
    rows = Weights().select(site, Scores(w.abs()), torch.full((8,), 8))
    assert torch.equal(kept(w.tolist(), 8, 16) != 0, rows)


def test_a_convolution_is_grouped_along_input_channels_not_kernel_positions():
    weight = conv("w", 2, 4)
    w = torch.zeros(2, 4, 3, 3)
    w[:, 1:3] = 1.0
    site = NM().sites(PaperGraph({"w": weight}))[0]
    assert torch.equal(NM().select(site, Scores(w), torch.tensor(site.units // 2)), w.bool())


def test_a_ratio_of_one_keeps_everything():
    site = NM().sites(PaperGraph({"w": linear("w", 2, 4)}))[0]
    assert NM().select(site, Scores(torch.rand(2, 4)), torch.tensor(8)).all()
