"""n:m along the input dimension."""

import pytest
import torch

from papergraph import PaperGraph, conv, graph, linear, transposed
from pomona.structures.n_m import NM
from pomona.vocabulary import InputError, Scores
from pomona.vocabulary.layout import to_matrix


def site(weight, structure):
    return structure.sites(PaperGraph({weight.tensor: weight}))[0]


WEIGHTS = [linear("a", 4, 8), transposed("b", 8, 4), conv("c", 4, 8), conv("d", 4, 8, groups=2), conv("e", 4, 8, flipped=True)]


@pytest.mark.parametrize("weight", WEIGHTS, ids=lambda w: w.tensor)
def test_every_group_of_inputs_keeps_exactly_n(weight):
    structure = NM(1, 4)
    place = site(weight, structure)
    mask = structure.select(place, Scores(torch.rand(weight.shape)), torch.tensor(structure.feasible(place)))
    out, width, k = to_matrix(weight, mask).shape
    assert (to_matrix(weight, mask).view(out, width // 4, 4, k).sum(2) == 1).all()
    assert int(mask.sum()) == structure.feasible(place) == weight.size // 4


def test_a_width_that_does_not_divide_is_refused_with_the_way_out():
    with pytest.raises(InputError, match=r"2:4 needs input widths divisible by 4; a has 10\. Leave it alone with --keep a\."):
        site(linear("a", 4, 10), NM())


def test_depthwise_convolutions_are_refused_not_skipped():
    with pytest.raises(InputError, match=r"dw\.weight has 1 a group\. Leave it alone with --keep dw\.weight"):
        site(conv("dw.weight", 8, 8, groups=8), NM())


def test_what_does_not_fit_can_be_skipped():
    assert len(NM(2, 16, keep=("conv*", "blocks*", "head")).sites(graph())) == 1


@pytest.mark.parametrize(("n", "m"), [(4, 4), (0, 4), (5, 4)])
def test_senseless_patterns_are_refused(n, m):
    with pytest.raises(InputError):
        NM(n, m)
