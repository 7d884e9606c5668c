import copy
import ctypes
import io

import pytest
import torch

from pomona.native import library, using
from pomona.runtime.formats import blocks, nm, rowlanes
from pomona.runtime.formats.conv_layer import Weight
from pomona.runtime.formats.convolution import ConvBlocks
from pomona.runtime.sparse.layouts import linear_layouts

WEIGHT = torch.randn(18, 40, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(10)
X = torch.randn(2, 40, generator=torch.Generator().manual_seed(1))


def products():
    """A packed weight of every layout and kind of values, and what is multiplied by it."""
    for layout in linear_layouts().values():
        for kind in layout.kinds:
            packed = layout.pack(WEIGHT, kind)
            yield packed, packed.linear, X
    packed = ConvBlocks.pack(WEIGHT.reshape(18, 10, 2, 2), padding=1)
    yield packed, packed.conv, torch.ones(1, 10, 4, 5)


def through_a_file(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "struct, pointers, sizes, ints",
    [(rowlanes.Struct, 5, 2, 2), (blocks.Struct, 6, 6, 2), (nm.Struct, 4, 4, 3), (Weight, 4, 1, 0)],
)
def test_structs_are_as_long_as_the_kernels_read(struct, pointers, sizes, ints):
    assert ctypes.sizeof(struct) == -(-(8 * pointers + 8 * sizes + 4 * ints) // 8) * 8


def test_a_packed_weight_that_was_used_is_copied_and_tells_its_own_addresses():
    for packed, multiply, x in products():
        right, told = multiply(x), packed.layer()
        assert packed.layer() is told
        for again in (copy.deepcopy(packed), through_a_file(packed)):
            assert again.layer() is not told
            assert torch.equal((again.conv if isinstance(again, ConvBlocks) else again.linear)(x), right)


def test_a_part_that_has_moved_is_read_where_it_is():
    for packed, multiply, x in products():
        right, told = multiply(x), packed.layer()
        for part in packed.parts().values():
            part.share_memory_()  # as sending it to another process does: the old memory is free now
        assert packed.layer() is not told and torch.equal(multiply(x), right)


@pytest.mark.skipif(library().isa is None, reason="no native kernels here")
def test_a_kernel_is_looked_for_again_when_others_are_in_use():
    for packed, multiply, x in products():
        told = multiply(x)
        for isa in (*library().isas, None):
            with using(isa):
                assert (packed.layer().kernel() is None) == (isa is None)
                assert torch.allclose(multiply(x), told, atol=1e-4)


def test_a_batch_that_fits_no_stack_is_multiplied_too():
    x = torch.randn(300, 40)
    for _, multiply, example in products():
        if example.dim() == 2:
            assert torch.allclose(multiply(x)[-2:], multiply(x[-2:].clone()), atol=1e-5)
