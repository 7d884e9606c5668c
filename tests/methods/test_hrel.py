"""Relevance of activations for the labels, by matrix-based Renyi information (Sarvani et al., 2022)."""

from statistics import mean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import one_hot
from torch.testing import assert_close

from filter_trial import Reversed, left
from pomona.collect import collect
from pomona.criteria.hrel import HRel
from pomona.statistics.relevance import Relevance, entropy, gram, information, kernel_width
from pomona.vocabulary import Axis, InputError, Member, Site

LABELS = one_hot(torch.tensor([0, 0, 1, 1])).double()


def told(*activations, width=1.0, alpha=1.0):
    """I(T; Y) in bits of one unit with these activations for four examples of two classes."""
    t = torch.tensor(activations, dtype=torch.float64).view(1, 4, 1)
    return float(information(t, LABELS, width, alpha))


def test_a_filter_that_knows_the_class_tells_one_bit():
    assert told(0.0, 0.0, 100.0, 100.0) == pytest.approx(1.0)


def test_a_constant_filter_and_one_that_crosses_the_classes_tell_nothing():
    assert told(5.0, 5.0, 5.0, 5.0) == pytest.approx(0.0, abs=1e-9)
    assert told(0.0, 100.0, 0.0, 100.0) == pytest.approx(0.0, abs=1e-9)


def test_at_a_small_width_every_filter_saturates():
    assert told(0.0, 1.0, 2.0, 3.0, width=1e-3) == pytest.approx(1.0)
    t = gram(torch.arange(4.0, dtype=torch.float64).view(4, 1), 1e-3)
    assert float(entropy(t, 1.0)) == pytest.approx(2.0)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), width=st.floats(0.2, 10.0))
def test_information_lies_between_nothing_and_what_the_labels_hold(seed, width):
    g = torch.Generator().manual_seed(seed)
    t = torch.randn(3, 12, 4, generator=g, dtype=torch.float64)
    y = one_hot(torch.randint(0, 3, (12,), generator=g), 3).double()
    found = information(t, y, width, 1.0)
    assert (found >= 0).all() and (found <= entropy(gram(y, 0.1), 1.0) + 1e-9).all()
    order = torch.randperm(12, generator=g)
    assert_close(information(t[:, order], y[order], width, 1.0), found, rtol=1e-6, atol=1e-9)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64)).Q
    assert_close(information(t @ turn, y, width, 1.0), found, rtol=1e-6, atol=1e-9)
    assert_close(information(t, y, width, 1.01), found, rtol=0.02, atol=0.02)


def test_information_is_symmetric():
    g = torch.Generator().manual_seed(0)
    a, b = (0.05 * torch.randn(10, 2, generator=g, dtype=torch.float64) for _ in range(2))
    there, back = information(a.unsqueeze(0), b, 0.1), information(b.unsqueeze(0), a, 0.1)  # the labels' own width is 0.1
    assert there > 0.01
    assert_close(there, back)


def test_the_width_is_the_one_that_aligns_best_with_the_labels():
    x = torch.tensor([[0.0], [0.1], [5.0], [5.1]], dtype=torch.float64)
    best = kernel_width(x, LABELS)
    scale = torch.cdist(x, x).mean()

    def alignment(width):
        k, y = gram(x, width), gram(LABELS, 0.1)
        return float((k * y).sum() / k.norm())

    assert 0.3 * scale <= best <= 10 * scale
    assert all(alignment(best) >= alignment(w) - 1e-12 for w in torch.linspace(0.3, 10, 100, dtype=torch.float64) * scale)
    assert kernel_width(torch.zeros(4, 1, dtype=torch.float64), LABELS) == 1


def axis(units):
    members = (Member("0.weight", "in", 1),)
    return Site("a", "axis", (units,), members, axis=Axis("a", units, "neuron", members))


def test_neurons_are_told_apart_by_class_numbers_and_by_class_probabilities_alike():
    y = torch.arange(60) % 3
    noise = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    x = torch.cat([y.float().unsqueeze(1), noise], dim=1)
    model, needs = nn.Sequential(nn.Linear(3, 3)), HRel(samples=30).needs
    found = [collect(model, [axis(3)], needs, [(x, target)])["a"][needs[0]] for target in (y, one_hot(y).float())]
    assert_close(*found)
    assert found[0].argmax() == 0


@pytest.mark.parametrize(
    "target", [torch.rand(8), torch.zeros(8, 4, dtype=torch.long), torch.tensor([-100] * 8), torch.arange(7)]
)
def test_labels_that_are_no_classes_are_refused(target):
    with pytest.raises(InputError, match="one class an example"):
        collect(nn.Sequential(nn.Linear(3, 3)), [axis(3)], HRel().needs, [(torch.randn(8, 3), target)])


def test_data_without_labels_is_refused():
    with pytest.raises(InputError, match="the data has none"):
        collect(nn.Sequential(nn.Linear(3, 3)), [axis(3)], HRel().needs, [torch.randn(8, 3)])
    with pytest.raises(InputError, match="positive alpha"):
        Relevance(alpha=0.0)


def test_keeping_the_relevant_beats_keeping_the_irrelevant_on_digits():
    high, low = ([left(criterion, seed, "0.12x", 10) for seed in range(2)] for criterion in (HRel(), Reversed(HRel())))
    assert mean(high) > mean(low) + 0.1
