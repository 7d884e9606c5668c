import copy

import pytest
import torch

from pomona.native.buffers import is_padded, padded
from pomona.native.pages import HUGE, zeros


@pytest.mark.parametrize("count", [0, 5, HUGE // 4 + 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.uint16])
def test_zeros_are_zeros_of_their_own(count, dtype):
    found, other = zeros(count, dtype), zeros(count, dtype)
    assert found.dtype == dtype and found.shape == (count,) and not found.to(torch.float32).any()
    found.fill_(1)
    assert not other.to(torch.float32).any() and found.to(torch.float32).all()


def test_what_is_large_begins_with_a_huge_page_and_ends_with_its_own_last_byte():
    found = zeros(HUGE + 1, torch.int8)
    assert found.data_ptr() % HUGE == 0
    assert found.untyped_storage().nbytes() == HUGE + 1


def test_what_is_large_outlives_the_names_of_its_memory_and_can_be_copied():
    values = torch.arange(HUGE, dtype=torch.float32)
    again = copy.deepcopy(padded(values))
    assert is_padded(padded(values)) and torch.equal(again, values) and torch.equal(padded(values), values)
