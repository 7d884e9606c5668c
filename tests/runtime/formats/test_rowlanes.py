import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.runtime.formats.rowlanes import RowLanes
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]


def blocky(rows, columns, height, share, seed):
    """A weight of which `share` of the blocks of `height` rows is zero."""
    draw = torch.Generator().manual_seed(seed)
    lives = torch.rand(-(-rows // height), columns, generator=draw) >= share
    return torch.randn(rows, columns, generator=draw) * lives.repeat_interleave(height, 0)[:rows]


@pytest.mark.parametrize("isa", EVERY)
@given(
    rows=st.integers(0, 100), columns=st.integers(0, 60), batch=st.integers(0, 11), height=st.sampled_from([16, 32]),
    values=st.sampled_from(RowLanes.kinds), share=st.sampled_from([0, 0.5, 0.9, 1]), threads=st.integers(1, 3),
    biased=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_what_a_kernel_gives_is_what_float64_gives(isa, rows, columns, batch, height, values, share, threads, biased, seed):
    x, bias = torch.randn(batch, columns), torch.randn(rows) if biased else None
    packed = RowLanes.pack(blocky(rows, columns, height, share, seed), values, height)
    with using(isa):
        y = packed.linear(x, bias, threads)
    weight = packed.dense().double()
    exact = x.double() @ weight.T + (bias.double() if biased else 0)
    scale = x.double().abs() @ weight.abs().T + 1
    assert y.shape == (batch, rows) and ((y - exact).abs() <= 1e-6 * scale).all()


@pytest.mark.parametrize("isa", EVERY)
def test_threads_share_the_rows(isa):
    weight, x = blocky(1000, 300, 16, 0.5, 0), torch.randn(3, 300)
    with using(isa):
        assert torch.equal(RowLanes.pack(weight).linear(x, None, 3), RowLanes.pack(weight).linear(x, None, 1))


@given(
    rows=st.integers(0, 100), columns=st.integers(0, 60), height=st.sampled_from([16, 32]),
    values=st.sampled_from(RowLanes.kinds), share=st.sampled_from([0, 0.5, 1]),
)  # fmt: skip
@settings(deadline=None)
def test_packing_gives_what_was_packed(rows, columns, height, values, share):
    weight = blocky(rows, columns, height, share, 0)
    packed = RowLanes.pack(weight, values, height)
    wanted = {"f32": weight, "bf16": weight.bfloat16().float()}.get(values)
    if wanted is None:  # half a step away at most
        assert (packed.dense() - weight).abs().le(weight.abs().amax(1, keepdim=True) / 253 if columns else 0).all()
    else:
        assert torch.equal(packed.dense(), wanted)
    assert torch.equal(RowLanes.of(packed.parts(), packed.shape, values).dense(), packed.dense())


@pytest.mark.parametrize("values, width", [("f32", 4), ("bf16", 2), ("int8", 1)])
def test_a_block_costs_two_bytes_beside_its_values(values, width):
    packed = RowLanes.pack(blocky(1024, 1024, 16, 0.8, 0), values)
    assert packed.nbytes <= 1.02 * (16 * width + 2) * len(packed.living) + 4096 * (values == "int8")


@pytest.mark.parametrize("what", ["living", "columns", "starts", "scales"])
def test_damaged_parts_are_refused(what):
    packed = RowLanes.pack(blocky(40, 100, 16, 0.5, 0), "int8")
    low = packed.living.clone()
    low[0, 0] = -128
    damaged = {
        "living": [packed.living[:-1], packed.living.float(), packed.living.flatten(), packed.living | 1, low],
        "columns": [packed.columns[:-1], packed.columns.to(torch.int32), (packed.columns.int() + 10).to(torch.uint16)],
        "starts": [packed.starts + 1, packed.starts[:-1], packed.starts.flip(0), packed.starts * 2],
        "scales": [packed.scales[:-1], packed.scales.double(), None],
    }
    for part in damaged[what]:
        with pytest.raises(InputError, match="damaged"):
            RowLanes.of({**packed.parts(), what: part}, packed.shape, "int8")
    for shape in [(48, 100), (40, 90), (60, 100)]:
        with pytest.raises(InputError, match="damaged"):
            RowLanes.of(packed.parts(), shape, "int8")


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="16 or 32 rows, not 8"):
        RowLanes.pack(torch.ones(3, 4), rows=8)
    with pytest.raises(InputError, match="65,536 columns"):
        RowLanes.pack(torch.zeros(1, 65537))
    with pytest.raises(InputError, match=r"takes float32 \(batch, 4\)"):
        RowLanes.pack(torch.ones(3, 4)).linear(torch.ones(2, 5))
