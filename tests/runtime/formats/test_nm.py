import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.runtime.formats.nm import NM
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]
PATTERNS = [(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (1, 8), (2, 16), (4, 16), (8, 16), (16, 16)]


def patterned(rows, columns, n, m, seed):
    """A weight of which n of every m columns live at most, often fewer."""
    draw = torch.Generator().manual_seed(seed)
    wide = -(-columns // m) * m
    order = torch.rand(rows, wide // m, m, generator=draw).argsort(2).argsort(2)
    lives = (order < n).reshape(rows, wide)[:, :columns] & (torch.rand(rows, columns, generator=draw) < 0.9)
    return torch.randn(rows, columns, generator=draw) * lives


@pytest.mark.parametrize("isa", EVERY)
@given(
    rows=st.integers(0, 50), columns=st.integers(0, 70), batch=st.integers(0, 11), pattern=st.sampled_from(PATTERNS),
    values=st.sampled_from(NM.kinds), threads=st.integers(1, 3), biased=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_what_a_kernel_gives_is_what_float64_gives(isa, rows, columns, batch, pattern, values, threads, biased, seed):
    x, bias = torch.randn(batch, columns), torch.randn(rows) if biased else None
    packed = NM.pack(patterned(rows, columns, *pattern, seed), values, *pattern)
    with using(isa):
        y = packed.linear(x, bias, threads)
    weight = packed.dense().double()
    exact = x.double() @ weight.T + (bias.double() if biased else 0)
    scale = x.double().abs() @ weight.abs().T + 1
    assert y.shape == (batch, rows) and ((y - exact).abs() <= 1e-6 * scale).all()


@pytest.mark.parametrize("isa", EVERY)
def test_threads_share_the_rows(isa):
    packed, x = NM.pack(patterned(1000, 300, 2, 4, 0)), torch.randn(3, 300)
    with using(isa):
        assert torch.equal(packed.linear(x, None, 3), packed.linear(x, None, 1))


@given(rows=st.integers(0, 50), columns=st.integers(0, 70), pattern=st.sampled_from(PATTERNS), values=st.sampled_from(NM.kinds))
@settings(deadline=None)
def test_packing_gives_what_was_packed(rows, columns, pattern, values):
    weight = patterned(rows, columns, *pattern, 0)
    packed = NM.pack(weight, values, *pattern)
    assert (packed.n, packed.m) == pattern
    wanted = {"f32": weight, "bf16": weight.bfloat16().float()}.get(values)
    if wanted is None:  # half a step away at most
        assert (packed.dense() - weight).abs().le(weight.abs().amax(1, keepdim=True) / 253 if columns else 0).all()
    else:
        assert torch.equal(packed.dense(), wanted)
    assert torch.equal(NM.of(packed.parts(), packed.shape, values).dense(), packed.dense())


@pytest.mark.parametrize("n, m, bits", [(2, 4, 2), (4, 8, 3), (8, 16, 4), (2, 16, 4)])
@pytest.mark.parametrize("values, width", [("f32", 32), ("bf16", 16), ("int8", 8)])
def test_a_value_costs_the_bits_of_its_position(n, m, bits, values, width):
    packed = NM.pack(patterned(512, 512, n, m, 0), values, n, m)
    assert packed.nbytes == 512 * 512 * n // m * (width + bits) / 8 + 4 * 512 * (values == "int8")


def test_the_first_place_that_breaks_the_pattern_is_named():
    weight = torch.zeros(20, 10)
    weight[17, 4:7] = 1
    weight[18, 0:4] = 1
    with pytest.raises(InputError, match=r"not 2:4: row 17 has more than 2 living weights in the columns from 4 to 7\."):
        NM.pack(weight)
    weight[17, 4:7] = 0
    weight[:, 8:] = 1
    with pytest.raises(InputError, match=r"not 1:4: row 0 .* columns from 8 to 9\."):
        NM.pack(weight, n=1)


@pytest.mark.parametrize("what", ["living", "positions", "scales"])
def test_damaged_parts_are_refused(what):
    packed = NM.pack(patterned(20, 90, 2, 4, 0), "int8")
    low = packed.living.clone()
    low[0, 0] = -128
    damaged = {
        "living": [packed.living[:, :-1], packed.living.float(), packed.living.flatten(), packed.living | 1, low],
        "positions": [packed.positions[:-1], packed.positions.int(), packed.positions.flip(2), packed.positions * 0],
        "scales": [packed.scales[:-1], packed.scales.double(), None],
    }
    for part in damaged[what]:
        with pytest.raises(InputError, match="damaged"):
            NM.of({**packed.parts(), what: part}, packed.shape, "int8")
    for shape in [(33, 90), (20, 93), (17, 90)]:
        with pytest.raises(InputError, match="damaged"):
            NM.of(packed.parts(), shape, "int8")


def test_what_does_not_fit_is_refused():
    for n, m in [(0, 4), (5, 4), (1, 3), (1, 32)]:
        with pytest.raises(InputError, match=f"not {n}:{m}"):
            NM.pack(torch.zeros(3, 4), n=n, m=m)
    with pytest.raises(InputError, match=r"takes float32 \(batch, 4\)"):
        NM.pack(torch.zeros(3, 4)).linear(torch.ones(2, 5))
