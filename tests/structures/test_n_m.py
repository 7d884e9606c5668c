"""n:m along the input dimension."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.integers(2, 10), st.data())
def test_the_best_of_each_group_stay_and_of_equals_the_first(m, draw):
    n = draw.draw(st.integers(1, m - 1))
    row = draw.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, float("-inf")]), min_size=2 * m, max_size=2 * m))
    mask = NM(n, m).select(site(linear("w", 1, 2 * m), NM(n, m)), Scores(torch.tensor([row])), torch.tensor(2 * n))[0].tolist()
    for start in (0, m):
        first = sorted(range(start, start + m), key=lambda i: (-row[i], i))[:n]
        assert [i for i in range(start, start + m) if mask[i]] == sorted(first)
