"""How far a copy with other layers is off."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from pomona.face.layer_calls import check_comparable, distance
from pomona.vocabulary import InputError


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


class Gives(nn.Module):
    """Whatever it was made of, one thing after the other, the last for ever."""

    def __init__(self, *values):
        super().__init__()
        self.values = list(values)

    def forward(self, x):
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


def apart(one, other):
    return distance(Gives(one), Gives(other), (torch.ones(1),), {})[0]


def test_what_is_not_finite_in_both_is_no_difference():
    masked = torch.tensor([3.0, -torch.inf, torch.inf, torch.nan, 4.0])
    moved = masked.clone()
    moved[0] += 0.5
    assert apart(masked, masked) == 0 and apart(masked, moved) == pytest.approx(0.1)
    for place, value in ((0, torch.nan), (0, torch.inf), (1, torch.inf), (1, 0.0), (3, 0.0)):
        wrong = masked.clone()
        wrong[place] = value
        assert apart(masked, wrong) == float("inf")
    assert apart(masked, masked[:2]) == float("inf")


def test_complex_outputs_count_and_whole_numbers_where_there_are_no_others():
    waves = torch.tensor([3 + 0j, 4j])
    assert apart(waves, waves + torch.tensor([0.5j, 0])) == pytest.approx(0.1)
    words = torch.tensor([1, 2, 3, 4])
    assert apart(words, words) == 0 and apart(words, torch.tensor([1, 2, 4, 4])) == 0.25
    assert apart(words > 2, words > 3) == 0.25
    assert apart((torch.ones(2), words), (torch.ones(2), words + 1)) == 0


def test_a_distance_that_is_the_models_own_doing_is_refused():
    x, steady = (torch.ones(1),), torch.ones(2)
    check_comparable(Gives(steady), x, {}, 1.0, 1e-4)
    with pytest.raises(InputError, match=r"Gives differs from itself by 1\.0e\+00; is there randomness or state"):
        check_comparable(Gives(steady, 2 * steady), x, {}, 1.0, 1e-4)
    hidden = Gives(torch.tensor([1.0, torch.nan]))
    check_comparable(hidden, x, {}, 1.0, 1e-4)
    with pytest.raises(InputError, match="NaN or infinities"):
        check_comparable(hidden, x, {}, float("inf"), 1e-4)
