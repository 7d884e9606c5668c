"""Single weights."""

import pytest
import torch

from papergraph import graph
from pomona.structures.weights import Weights
from pomona.vocabulary import InputError, Scores


def names(structure):
    return [site.name for site in structure.sites(graph())]


def test_only_what_sparsity_counts_unless_asked():
    assert names(Weights()) == [n for n, w in graph().weights.items() if w.prunable]
    assert "words.weight" in names(Weights(embeddings=True))
    assert {"conv1.bias", "fc.bias"} <= set(names(Weights(biases=True)))


def test_patterns_name_tensors_or_modules():
    assert names(Weights(only=("conv*",))) == ["conv1.weight", "conv2.weight"]
    assert "head.weight" not in names(Weights(keep=("head",)))


@pytest.mark.parametrize("wrong", [Weights(keep=("haed",)), Weights(only=("conv3.weight",)), Weights(keep=("*",))])
def test_a_pattern_that_does_nothing_or_takes_all_is_refused(wrong):
    with pytest.raises(InputError):
        wrong.sites(graph())


def test_a_near_miss_is_answered_with_the_right_name():
    with pytest.raises(InputError, match=r"did you mean 'conv2.weight'"):
        Weights(keep=("conv3.weight",)).sites(graph())


def test_rows_follow_the_output_dimension():
    site = Weights(only=("head",)).sites(graph())[0]  # (12, 4), transposed
    mask = Weights().select(site, Scores(torch.rand(12, 4)), torch.tensor([1, 2, 3, 12]))
    assert mask.sum(0).tolist() == [1, 2, 3, 12]
