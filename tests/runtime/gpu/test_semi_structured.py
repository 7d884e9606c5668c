"""2:4 by torch: its rules are told first, rows are filled up, and what it compresses to holds every weight."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from pomona.runtime.gpu.semi_structured import SIZES, SemiStructuredLinear, compress, unfit, with_rows
from pomona.vocabulary import InputError

HALVES = (torch.bfloat16, torch.float16)


def two_of_four(rows, columns, kind=torch.bfloat16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    whole = torch.randn(rows, columns, generator=draw).to(kind)
    order = torch.rand(rows, columns // 4, 4, generator=draw).argsort(2)
    return whole * (order < 2).reshape(rows, columns)


@pytest.mark.parametrize(
    ("name", "kind"), [("cusparselt", SparseSemiStructuredTensorCUSPARSELT), ("cutlass", SparseSemiStructuredTensorCUTLASS)]
)
def test_the_sizes_are_those_that_torch_asks_for(name, kind):
    for dtype in HALVES:
        theirs, ours = kind._DTYPE_SHAPE_CONSTRAINTS[dtype], SIZES[name][dtype]
        assert (ours.rows, ours.columns, ours.batch) == (theirs.sparse_min_rows, theirs.sparse_min_cols, theirs.dense_min_rows)
        assert ours.columns % theirs.dense_min_cols == 0  # so columns of x never need filling up


@pytest.mark.parametrize(
    ("weight", "library", "said"),
    [
        (two_of_four(32, 64), "cutlass", None),
        (two_of_four(16, 16, torch.float16), "cusparselt", None),
        (torch.zeros(32, 64).bfloat16(), "cutlass", None),
        (two_of_four(16, 64), "cutlass", "its weight is 16x64, and 2:4 takes multiples of 32x64"),
        (two_of_four(16, 24), "cusparselt", "its weight is 16x24, and 2:4 takes multiples of 16x16"),
        (torch.zeros(0, 16).half(), "cusparselt", "its weight is 0x16, and 2:4 takes multiples of 16x16"),
        (torch.eye(64), "cutlass", "its weight is float32, and 2:4 runs in bfloat16 and float16 (--values bf16)"),
        (torch.ones(16, 16).half(), "cusparselt", "4 of four weights side by side live, not 2"),
    ],
)
def test_what_is_against_2_4_is_told_in_one_sentence(weight, library, said):
    assert unfit(weight, library) == said


def test_one_weight_too_many_is_seen():
    weight = two_of_four(32, 64)
    weight[31, 60:] = torch.tensor([1, 0, 1, 1])
    assert unfit(weight, "cutlass") == "3 of four weights side by side live, not 2"


@given(rows=st.integers(0, 40), multiple=st.sampled_from([8, 16]))
def test_rows_are_filled_up_with_zeros(rows, multiple):
    x = torch.ones(rows, 3)
    full = with_rows(x, multiple)
    assert len(full) % multiple == 0 and len(full) - rows < multiple
    assert full[:rows].equal(x) and not full[rows:].any()


class Compressed(torch.Tensor):
    """A dense weight that asks for what sparse tensor cores ask for."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is F.linear:
            x, weight, bias = args
            assert x.dim() == 2 and x.is_contiguous() and len(x) % 8 == 0 and len(x) > 0
            return F.linear(x, weight.as_subclass(torch.Tensor), bias)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("shape", [(64,), (1, 64), (8, 64), (9, 64), (2, 5, 64), (0, 64)])
@pytest.mark.parametrize("biased", [True, False])
def test_the_layer_is_the_dense_one_for_any_rows(shape, biased):
    layer = nn.Linear(64, 32, bias=biased).bfloat16().requires_grad_(False)
    layer.weight.copy_(two_of_four(32, 64))
    sparse = SemiStructuredLinear(layer, "cutlass", lambda weight, _: weight.detach().as_subclass(Compressed))
    x = torch.randn(shape).bfloat16()
    assert torch.allclose(sparse(x).float(), layer(x).float(), atol=1e-2) and sparse(x).shape == layer(x).shape
    assert not sparse.state_dict() and sparse.double().bias is sparse.bias


def test_other_inputs_are_refused():
    layer = SemiStructuredLinear(nn.Linear(64, 32).bfloat16(), "cutlass", lambda weight, _: weight.detach())
    for wrong in (torch.ones(2, 64), torch.ones(2, 60).bfloat16(), torch.tensor(1.0).bfloat16()):
        with pytest.raises(InputError, match=r"takes torch.bfloat16 \(..., 64\)"):
            layer(wrong)
    with pytest.raises(InputError, match="no gradients"):
        layer(torch.ones(2, 64).bfloat16().requires_grad_())


@pytest.mark.parametrize("library", ["cusparselt", "cutlass"])
def test_what_torch_refuses_is_told_as_an_input_error(library):
    with pytest.raises(InputError, match="torch does not compress a weight of"):  # it wants a CUDA tensor
        compress(two_of_four(32, 64), library)


@given(seed=st.integers(0, 20), rows=st.sampled_from([32, 96]), columns=st.sampled_from([64, 192]), fewer=st.booleans())
def test_what_we_call_fit_torch_compresses_without_loss(seed, rows, columns, fewer):
    weight = two_of_four(rows, columns, seed=seed)
    if fewer:
        weight = weight * (torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.6)
    assert unfit(weight, "cutlass") is None
    assert sparse_semi_structured_to_dense_cutlass(*sparse_semi_structured_from_dense_cutlass(weight)).equal(weight)


def test_the_layout_is_values_and_two_bits_a_value_with_rows_interleaved():
    """Our own reading of the compressed form: rows in groups of 32, 8 apart become neighbours, 2x2 blocks turned over."""
    rows, columns = 64, 64
    weight = two_of_four(rows, columns, torch.float16)
    values, meta = sparse_semi_structured_from_dense_cutlass(weight)
    words = meta.flatten().tolist()  # int16, of 8 positions each
    width, dense = columns // 16, torch.zeros(rows, columns, dtype=torch.float16)
    for row in range(rows):
        for word in range(width):
            to_row, to_word = row // 32 * 32 + row % 8 * 4 + row % 32 // 8, word
            if to_row % 2 == 0 and to_word % 2 == 1:
                to_row, to_word = to_row + 1, to_word - 1
            elif to_row % 2 == 1 and to_word % 2 == 0:
                to_row, to_word = to_row - 1, to_word + 1
            found = words[to_word // 2 * rows * 2 + to_row * 2 + to_word % 2]
            for place in range(8):
                column = word * 16 + place // 2 * 4 + (found >> 2 * place & 3)
                dense[row, column] += values[row, word * 8 + place]
    assert dense.equal(weight)
