"""How far a copy with other layers is off."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from pomona.face.layer_calls import distance


@pytest.mark.parametrize(("kind", "rough"), [(torch.float32, False), (torch.bfloat16, True), (torch.float16, True)])
def test_outputs_of_half_types_are_known_as_such(kind, rough):
    net = nn.Linear(8, 4).to(kind)
    off, found = distance(net, net, (torch.randn(2, 8).to(kind),), {})
    assert (off, found) == (0.0, rough)


def test_the_distance_is_that_of_the_whole():
    net = nn.Linear(2, 2, bias=False)
    other = deepcopy(net)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        other.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
    assert distance(net, other, (torch.ones(1, 2),), {})[0] == pytest.approx(0.2)
