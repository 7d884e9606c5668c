import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.runtime.formats.bitmask import Bitmask
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]


def sparse(rows, columns, share, seed):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw)
    return weight * (torch.rand(rows, columns, generator=draw) >= share)


@pytest.mark.parametrize("isa", EVERY)
@given(
    rows=st.integers(0, 40), columns=st.integers(0, 150), batch=st.integers(0, 3), share=st.sampled_from([0, 0.5, 0.9, 1]),
    threads=st.integers(1, 3), biased=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_a_kernel_gives_is_what_float64_gives(isa, rows, columns, batch, share, threads, biased, seed):
    weight = sparse(rows, columns, share, seed)
    x, bias = torch.randn(batch, columns), torch.randn(rows) if biased else None
    with using(isa):
        y = Bitmask.pack(weight).linear(x, bias, threads)
    exact = x.double() @ weight.double().T + (bias.double() if biased else 0)
    scale = x.double().abs() @ weight.double().abs().T + 1
    assert y.shape == (batch, rows) and ((y - exact).abs() <= 1e-6 * scale).all()


@given(rows=st.integers(0, 40), columns=st.integers(0, 150), share=st.sampled_from([0, 0.5, 1]))
@settings(deadline=None)
def test_nothing_is_lost_by_packing(rows, columns, share):
    weight = sparse(rows, columns, share, 0)
    packed = Bitmask.pack(weight)
    assert torch.equal(packed.dense(), weight)
    assert torch.equal(Bitmask.of(packed.parts(), packed.shape, "f32").dense(), weight)


def test_the_size_is_that_of_bits_and_values():
    packed = Bitmask.pack(sparse(1024, 1024, 0.5, 0))
    assert packed.nbytes <= 1.02 * (1024 * 1024 / 8 + 4 * len(packed.living))


@pytest.mark.parametrize("what", ["bits", "living", "starts"])
def test_damaged_parts_are_refused(what):
    packed = Bitmask.pack(sparse(8, 100, 0.5, 0))
    damaged = {
        "bits": [packed.bits ^ 1, packed.bits[:, :8], packed.bits[:4]],
        "living": [packed.living[:-1], packed.living.double()],
        "starts": [packed.starts + 1, packed.starts[:-1], packed.starts.flip(0)],
    }
    for part in damaged[what]:
        with pytest.raises(InputError, match="damaged"):
            Bitmask.of({**packed.parts(), what: part}, packed.shape, "f32")


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="NaN"):
        Bitmask.pack(torch.tensor([[float("nan")]]))
    with pytest.raises(InputError, match="matrix"):
        Bitmask.pack(torch.ones(3))
    packed = Bitmask.pack(torch.ones(3, 4))
    for x in (torch.ones(2, 5), torch.ones(4), torch.ones(2, 4).double()):
        with pytest.raises(InputError, match=r"takes float32 \(batch, 4\)"):
            packed.linear(x)
    with pytest.raises(InputError, match="bias"):
        packed.linear(torch.ones(2, 4), torch.ones(4))
