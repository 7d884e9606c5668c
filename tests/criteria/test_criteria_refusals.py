import pytest
import torch

from handmade import axis_site, branch_site, element_site, filters, net, view
from pomona.criteria.geometric_median import GeometricMedian
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.norm_scale import NormScale
from pomona.vocabulary import InputError


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(bad):
    model = net()
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] = bad
    for criterion in (Magnitude(), GeometricMedian()):
        with pytest.raises(InputError, match=r"conv\.weight holds NaN or infinite"):
            criterion.score(view(model, axis_site()))


def test_a_constant_weight_gives_equal_finite_scores():
    assert Magnitude("l2").score(filters(torch.zeros(3, 4))).value.tolist() == [0, 0, 0]


def test_half_precision_weights_are_scored_in_float32():
    assert Magnitude("l2").score(filters(torch.full((2, 4), 300.0, dtype=torch.float16))).value.tolist() == [600, 600]


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match="'l3' is not a norm"):
        Magnitude("l3")


def test_a_criterion_that_does_not_fit_the_site_says_so():
    with pytest.raises(InputError, match="no normalisation with a scale"):
        NormScale().score(filters(torch.ones(3, 2)))
    with pytest.raises(InputError, match="compares whole filters"):
        GeometricMedian().score(view(net(), element_site()))
    with pytest.raises(InputError, match="has no in weights"):
        Magnitude(roles=("in",)).score(view(net(), branch_site()))
