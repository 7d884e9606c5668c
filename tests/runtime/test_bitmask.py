"""Packed weights come back to the last bit, take what the arithmetic says, and do not let a reader leave its bounds."""

import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.runtime.packing.bitmask import Packed, alive, check, grid, pack, stride, unpack
from pomona.vocabulary import InputError

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn]
CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_bits(a, b):
    kind = CARRIERS[a.element_size()]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(kind), b.view(kind))


@st.composite
def weights(draw):
    """A weight of any shape and type with every bit pattern, zeros of both signs and NaN among it, and any mask over it."""
    shape = tuple(draw(st.lists(st.integers(0, 40), max_size=4).filter(lambda s: torch.Size(s).numel() <= 4000)))
    dtype = draw(st.sampled_from(DTYPES))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    carrier = CARRIERS[torch.empty(0, dtype=dtype).element_size()]
    info = torch.iinfo(carrier)
    bits = torch.randint(info.min, info.max, shape, generator=g, dtype=carrier)
    bits = torch.where(torch.rand(shape, generator=g) < 0.2, torch.zeros((), dtype=carrier), bits)
    minus_zero = torch.tensor(-0.0).to(dtype).view(carrier)
    bits = torch.where(torch.rand(shape, generator=g) < 0.1, minus_zero, bits)
    keep = torch.rand(shape, generator=g) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    return torch.where(keep, bits, torch.zeros((), dtype=carrier)).view(dtype), keep


@given(weights())
@settings(max_examples=150)
def test_any_weight_under_any_mask_comes_back_to_the_last_bit(drawn):
    weight, keep = drawn
    packed = pack(weight, keep)
    check(packed, "w")
    assert same_bits(unpack(packed), weight)
    assert torch.equal(alive(packed), keep)


@given(weights())
def test_without_a_mask_all_but_plus_zero_lives(drawn):
    weight, _ = drawn
    packed = pack(weight)
    check(packed, "w")
    assert same_bits(unpack(packed), weight)
    assert torch.equal(alive(packed), weight.view(CARRIERS[weight.element_size()]) != 0)


def test_the_layout_is_what_the_document_says():
    """By hand: two rows of ten, bits from the lowest up, rows on bytes of their own, values row after row."""
    weight = torch.zeros(2, 10)
    weight[0, 0], weight[0, 9], weight[1, 3] = 1.0, 2.0, 3.0
    packed = pack(weight)
    assert packed.bits.tolist() == [[0b00000001, 0b00000010], [0b00001000, 0b00000000]]
    assert packed.values.tolist() == [1.0, 2.0, 3.0]
    assert packed.offsets.tolist() == [0, 3]  # rows of ten: 103 of them share an offset


def test_the_row_of_an_offset_is_found_without_reading_those_before():
    weight = torch.relu(torch.randn(7, 2048, generator=torch.Generator().manual_seed(0)))
    packed = pack(weight)
    assert stride(2048) == 1
    start, end = packed.offsets[4], packed.offsets[5]
    assert torch.equal(packed.values[start:end], weight[4][weight[4] != 0])


@pytest.mark.parametrize("shape", [(576, 576), (1536, 576), (576, 1536), (64, 64), (4096, 1024), (8, 96, 64)])
@pytest.mark.parametrize("pattern", ["half", "2:4"])
def test_half_of_the_weights_take_at_most_57_percent_of_dense_fp16(shape, pattern):
    g = torch.Generator().manual_seed(0)
    scores = torch.rand(shape, generator=g)
    best_two = scores.view(-1, 4).argsort(1).argsort(1).ge(2).view(shape)
    keep = best_two if pattern == "2:4" else scores >= scores.flatten().median()
    weight = torch.randn(shape, generator=g).half() * keep
    packed = pack(weight, keep)
    assert packed.nbytes <= 0.57 * weight.nbytes
    assert same_bits(unpack(packed).abs(), weight.abs())


def test_torch_csr_and_a_bitmask_by_bytes_say_the_same():
    """What other libraries call CSR and bitmask can be read off without looking at a value."""
    weight = torch.relu(torch.randn(5, 1024, generator=torch.Generator().manual_seed(0)))
    packed = pack(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls CSR a beta
        rows = weight.to_sparse_csr()
    assert torch.equal(packed.offsets.long(), rows.crow_indices())
    assert torch.equal(packed.values, rows.values())
    assert torch.equal(alive(packed).nonzero()[:, 1], rows.col_indices())


def test_a_mask_over_a_weight_that_is_not_zero_is_refused():
    with pytest.raises(InputError, match="is not zero"):
        pack(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(InputError, match="shape"):
        pack(torch.ones(2, 2), torch.ones(4, dtype=torch.bool))


def test_minus_zero_under_the_mask_becomes_plus_zero():
    """Multiplying a weight by its mask leaves -0.0 behind; removed is removed."""
    packed = pack(torch.tensor([-0.0, 1.0]), torch.tensor([False, True]))
    assert unpack(packed).signbit().tolist() == [False, False]


def test_whole_numbers_are_refused():
    with pytest.raises(InputError, match="floating-point"):
        pack(torch.ones(3, dtype=torch.int64))


HARM = {
    "a bit more": lambda p: replace(p, bits=p.bits | 1),
    "a value less": lambda p: replace(p, values=p.values[:-1]),
    "an offset moved": lambda p: replace(p, offsets=p.offsets + 1),
    "fewer rows": lambda p: replace(p, bits=p.bits[:-1]),
    "another width": lambda p: replace(p, shape=(6, 17)),
    "offsets too long": lambda p: replace(p, offsets=torch.cat([p.offsets, p.offsets[-1:]])),
    "wide bits": lambda p: replace(p, bits=p.bits.int()),
    "whole values": lambda p: replace(p, values=p.values.int()),
    "a huge shape": lambda p: replace(p, shape=(2**40, 13)),
}


@pytest.mark.parametrize("harm", HARM)
def test_damage_is_found_before_anything_is_read(harm):
    weight = torch.ones(6, 13)
    weight[:, 0] = 0
    with pytest.raises(InputError, match="damaged"):
        check(HARM[harm](pack(weight)), "w")


def test_bits_behind_the_end_of_a_row_are_found():
    packed = pack(torch.zeros(1, 13))
    with pytest.raises(InputError, match="damaged"):
        check(Packed((1, 13), packed.bits | 1 << 15 % 8, torch.tensor([0, 2], dtype=torch.int32), torch.ones(2)), "w")


@given(st.lists(st.integers(1, 64), min_size=1, max_size=5))
def test_the_grid_holds_every_weight_once(shape):
    rows, width = grid(tuple(shape))
    assert rows * width == torch.Size(shape).numel()
    assert width >= 32 or width == torch.Size(shape[1:] or shape).numel() or len(shape) == 1
