import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.runtime.formats.blocks import Blocks
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]
HEIGHTS = [1, 2, 4, 8, 16]


def blocky(rows, columns, height, share, seed):
    """A weight of which `share` of the blocks of `height` rows is zero."""
    draw = torch.Generator().manual_seed(seed)
    lives = torch.rand(-(-rows // height), columns, generator=draw) >= share
    return torch.randn(rows, columns, generator=draw) * lives.repeat_interleave(height, 0)[:rows]


@pytest.mark.parametrize("isa", EVERY)
@given(
    rows=st.integers(0, 70), columns=st.integers(0, 40), batch=st.integers(0, 140), height=st.sampled_from(HEIGHTS),
    values=st.sampled_from(Blocks.kinds), share=st.sampled_from([0, 0.5, 0.9, 1]), threads=st.integers(1, 3),
    biased=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_a_kernel_gives_is_what_float64_gives(isa, rows, columns, batch, height, values, share, threads, biased, seed):
    check(isa, blocky(rows, columns, height, share, seed), batch, height, values, threads, biased)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("values", Blocks.kinds)
@pytest.mark.parametrize("batch, threads", [(1, 1), (65, 1), (130, 3)])
def test_bands_and_cuts_meet(isa, height, values, batch, threads):
    check(isa, blocky(531, 400, height, 0.7, height), batch, height, values, threads, True)


@pytest.mark.parametrize("isa", EVERY)
def test_many_cuts_are_added_up(isa):
    check(isa, blocky(20, 9001, 4, 0.5, 0), 70, 4, "f32", 1, True)


def check(isa, weight, batch, height, values, threads, biased):
    x, bias = torch.randn(batch, weight.shape[1]), torch.randn(len(weight)) if biased else None
    packed = Blocks.pack(weight, values, height)
    with using(isa):
        y = packed.linear(x, bias, threads)
    weight = (weight if values == "f32" else weight.bfloat16()).double()
    exact = x.double() @ weight.T + (bias.double() if biased else 0)
    scale = x.double().abs() @ weight.abs().T + 1
    assert y.shape == (batch, len(weight)) and ((y - exact).abs() <= 1e-6 * scale).all()


@given(
    rows=st.integers(0, 600), columns=st.integers(0, 300), height=st.sampled_from(HEIGHTS), values=st.sampled_from(Blocks.kinds),
    share=st.sampled_from([0, 0.5, 1]),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_nothing_is_lost_by_packing(rows, columns, height, values, share):
    weight = blocky(rows, columns, height, share, 0)
    packed = Blocks.pack(weight, values, height)
    assert torch.equal(packed.dense(), weight if values == "f32" else weight.bfloat16().float())
    again = Blocks.pack(packed.dense(), values, height).parts()
    assert all(torch.equal(again[name], part) for name, part in packed.parts().items())
    assert torch.equal(Blocks.of(packed.parts(), packed.shape, values).dense(), packed.dense())


@pytest.mark.parametrize("height", HEIGHTS)
def test_a_block_costs_a_byte_beside_its_values(height):
    packed = Blocks.pack(blocky(2048, 2048, height, 0.5, 0), "f32", height)
    assert packed.nbytes <= 1.02 * (4 * height + 1) * len(packed.living)


@pytest.mark.parametrize("what", ["living", "index", "order", "lengths", "starts"])
def test_damaged_parts_are_refused(what):
    packed = Blocks.pack(blocky(300, 200, 4, 0.5, 0), "f32", 4)
    last = torch.zeros_like(packed.starts)
    last[-1] = 1
    damaged = {
        "living": [packed.living[:-1], packed.living.double(), packed.living.reshape(-1, 2), packed.living.flatten()],
        "index": [packed.index[:-1], packed.index.flip(0), packed.index + 8, packed.index * 0 + 192, packed.index.int()],
        "order": [packed.order + 1, packed.order[:, :-1], packed.order.flip(1), packed.order * 0],
        "lengths": [packed.lengths + 1, packed.lengths.flip(1), packed.lengths.flip(0), packed.lengths[:1]],
        "starts": [packed.starts + 1, packed.starts - last, packed.starts.flip(0), packed.starts[:-1], packed.starts.long()],
    }
    for part in damaged[what]:
        with pytest.raises(InputError, match="damaged"):
            Blocks.of({**packed.parts(), what: part}, packed.shape, "f32")
    with pytest.raises(InputError, match="damaged"):
        Blocks.of(packed.parts(), (304, 200), "f32")
    with pytest.raises(InputError, match="damaged"):
        Blocks.of(packed.parts(), packed.shape, "int8")


def test_values_in_rows_that_are_not_there_are_refused():
    packed = Blocks.pack(torch.ones(3, 2), "f32", 4)
    with pytest.raises(InputError, match="rows that the weight lacks"):
        Blocks.of({**packed.parts(), "living": torch.ones(2, 4)}, (3, 2), "f32")


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="1, 2, 4, 8, 16 rows, not 3"):
        Blocks.pack(torch.ones(3, 4), rows=3)
    with pytest.raises(InputError, match="too large to store as bf16"):
        Blocks.pack(torch.full((1, 1), 3.4e38), "bf16")
    with pytest.raises(InputError, match="f32, bf16"):
        Blocks.pack(torch.ones(3, 4), "int8")
    packed = Blocks.pack(torch.ones(3, 4))
    with pytest.raises(InputError, match=r"takes float32 \(batch, 4\)"):
        packed.linear(torch.ones(2, 5))
