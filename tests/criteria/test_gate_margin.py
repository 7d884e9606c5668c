import pytest
import torch

from handmade import element_site, net, view
from pomona.criteria.gate_margin import GateMargin
from pomona.vocabulary import InputError


def test_the_margin_is_what_the_weight_has_above_its_neurons_threshold():
    model, thresholds = net(), torch.rand(5, 1, 1, 1)
    seen = view(model, element_site())
    learned = type(seen)(seen.site, seen.structure, {**seen.tensors, "gate/threshold": thresholds}, seen.alive)
    assert torch.equal(GateMargin().score(learned).value, model.conv.weight.detach().abs() - thresholds)


def test_without_thresholds_it_says_which_gate_to_use():
    with pytest.raises(InputError, match="LearnedThreshold"):
        GateMargin().score(view(net(), element_site()))
