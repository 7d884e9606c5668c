"""Survivors left alone."""

import torch

from handmade import element_site, net, view
from pomona.solvers.keep import Keep


def test_the_proposal_is_the_decision_and_no_weight_changes():
    proposal = torch.rand(5, 2, 3, 3) > 0.5
    decision = Keep().solve(view(net(), element_site()), proposal)
    assert torch.equal(decision.keep, proposal) and not decision.tensors and Keep().needs == ()
