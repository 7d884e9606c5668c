import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.runtime.interchange import of_compressed_tensors, of_sparse, to_bsr, to_compressed_tensors, to_csr
from pomona.vocabulary import InputError


def sparse(rows, columns, share, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * (torch.rand(rows, columns, generator=draw) >= share)


@given(rows=st.integers(0, 9), columns=st.integers(0, 20), share=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 5))
@settings(deadline=None)
def test_nothing_is_lost_on_the_way_there_and_back(rows, columns, share, seed):
    weight = sparse(4 * rows, columns, share, seed)
    assert torch.equal(of_sparse(to_csr(weight)), weight)
    assert torch.equal(of_sparse(to_bsr(weight, 4)), weight)
    assert torch.equal(of_sparse(weight.to_sparse_coo()), weight)
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        assert torch.equal(of_compressed_tensors(to_compressed_tensors(weight.to(dtype))), weight.to(dtype))


def test_blocks_of_zeros_are_left_out():
    weight = torch.zeros(8, 6)
    weight[4, 2] = 1.0
    found = to_bsr(weight, 4)
    assert found.values().shape == (1, 4, 1) and found.crow_indices().tolist() == [0, 0, 1]
    with pytest.raises(InputError, match="do not divide"):
        to_bsr(weight, 3)


def test_the_bitmask_is_in_little_bit_order_with_the_offset_of_each_row():
    parts = to_compressed_tensors(torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 4.0]]))
    assert parts["bitmask"].tolist() == [[2], [5]] and parts["row_offsets"].tolist() == [0, 1]
    assert parts["compressed"].tolist() == [2.0, 3.0, 4.0] and parts["shape"].tolist() == [2, 3]


def test_damaged_parts_are_refused():
    parts = to_compressed_tensors(sparse(4, 20, 0.5))
    for name, wrong in (
        ("compressed", parts["compressed"][1:]),
        ("bitmask", parts["bitmask"] ^ 1),
        ("bitmask", parts["bitmask"][:, :2]),
        ("row_offsets", parts["row_offsets"] + 1),
        ("shape", torch.tensor([4, 28])),
        ("shape", torch.tensor([-4, 20])),
        ("shape", torch.tensor([4])),
        ("shape", torch.tensor([4, 2**40])),
    ):
        with pytest.raises(InputError, match="damaged"):
            of_compressed_tensors({**parts, name: wrong})
    with pytest.raises(InputError, match="damaged"):
        of_compressed_tensors({})


def test_impossible_indices_are_refused():
    csr = to_csr(sparse(4, 5, 0.5))
    broken = torch.sparse_csr_tensor(csr.crow_indices(), csr.col_indices() + 3, csr.values(), (4, 5), check_invariants=False)
    with pytest.raises(InputError, match="impossible indices"):
        of_sparse(broken)
