import ctypes

import pytest
import torch

from pomona.native.linear import Linear, linear_layer
from pomona.vocabulary import InputError


def test_the_struct_is_as_long_as_the_kernels_read():
    assert ctypes.sizeof(Linear) == 3 * 8 + 7 * 8 + 2 * 4


@pytest.mark.parametrize("part", [{"scales": torch.ones(3)}, {"bias": torch.ones(2).double()}, {"starts": torch.zeros(3)}])
def test_what_does_not_fit_a_layer_is_refused(part):
    with pytest.raises(InputError, match=next(iter(part))):
        linear_layer("dense", "f32", (2, 2), torch.ones(4), **part)
