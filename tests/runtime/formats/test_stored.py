import pytest
import torch

from pomona.runtime.formats.stored import quantised, stored
from pomona.vocabulary import InputError


def test_bf16_rounds_to_the_nearest_even():
    halfway = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8])  # bfloat16 has steps of 2^-7 from 1 on
    assert stored(halfway, "bf16").float().tolist() == [1, 1 + 2**-6]


def test_what_bf16_cannot_hold_is_refused():
    with pytest.raises(InputError, match="too large to store as bf16"):
        stored(torch.tensor([3.4e38]), "bf16")


def test_a_row_is_stored_in_steps_of_a_127th_of_its_largest():
    values, rows = torch.tensor([127.0, -2.5, 3.5, 0.2, -254.0]), torch.tensor([0, 0, 0, 0, 2])
    found, step = quantised(values, rows, 3)
    assert found.tolist() == [127, -2, 4, 0, -127] and step.tolist() == [1, 0, 2]
