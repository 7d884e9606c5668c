"""What bitmask, CSR16 and dense values have in common: rows that one kernel multiplies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.runtime.formats.bitmask import Bitmask
from pomona.runtime.formats.csr16 import CSR16
from pomona.runtime.formats.values import Values
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]
FORMATS = [Bitmask, CSR16, Values]
KINDS = ["f32", "bf16", "int8"]


def sparse(rows, columns, share, seed=0):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw)
    return weight * (torch.rand(rows, columns, generator=draw) >= share)


def by_hand(x, weight, bias):
    """int8 as it is defined, in numpy: whole numbers as int64, everything else in float32."""
    x, weight = x.numpy(), weight.numpy()
    most = np.abs(weight).max(1, initial=0).astype(np.float32)
    scales = most / np.float32(127)
    q = np.rint(np.divide(weight, scales[:, None], out=np.zeros_like(weight), where=scales[:, None] > 0)).astype(np.int64)
    largest = np.abs(x).max(1, initial=0).astype(np.float32)
    steps = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    u = np.rint(x * steps[:, None]).astype(np.int64)
    y = scales * (largest / np.float32(127))[:, None] * (u @ q.T).astype(np.float32)
    return torch.from_numpy(y if bias is None else y + bias.numpy())


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("values", KINDS)
@given(
    rows=st.integers(0, 20) | st.integers(30, 70), columns=st.integers(0, 330) | st.integers(500, 600),
    batch=st.integers(0, 17) | st.sampled_from([23, 24, 31, 61]), share=st.sampled_from([0, 0.5, 0.9, 1]),
    threads=st.integers(1, 3), biased=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_the_kernels_give_the_product(isa, layout, values, rows, columns, batch, share, threads, biased, seed):
    weight = sparse(rows, columns, share, seed)
    x, bias = torch.randn(batch, columns), torch.randn(rows) if biased else None
    packed = layout.pack(weight, values)
    with using(isa):
        y = packed.linear(x, bias, threads)
    assert y.shape == (batch, rows)
    if values == "int8":
        assert torch.equal(y, by_hand(x, weight, bias))
    else:
        stored = weight.to(torch.bfloat16 if values == "bf16" else torch.float32).double()
        exact = x.double() @ stored.T + (bias.double() if biased else 0)
        assert ((y - exact).abs() <= 1e-6 * (x.double().abs() @ stored.abs().T + 1)).all()


@pytest.mark.parametrize("isa", library().isas)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("values", KINDS)
def test_threads_change_nothing(isa, layout, values):
    packed = layout.pack(sparse(1501, 130, 0.5), values)
    with using(isa):
        for batch in (1, 2, 4, 7, 30):
            x = torch.randn(batch, 130)
            assert all(torch.equal(packed.linear(x, threads=1), packed.linear(x, threads=threads)) for threads in (2, 3, 5))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("values", KINDS)
@given(rows=st.integers(0, 20), columns=st.integers(0, 150), share=st.sampled_from([0, 0.5, 1]))
@settings(max_examples=20, deadline=None)
def test_packing_what_comes_back_changes_nothing(layout, values, rows, columns, share):
    weight = sparse(rows, columns, share)
    packed = layout.pack(weight, values)
    dense = packed.dense()
    assert torch.equal(layout.pack(dense, values).dense(), dense)
    assert torch.equal(layout.of(packed.parts(), packed.shape, values).dense(), dense)
    if values == "f32":
        assert torch.equal(dense, weight)
    step = weight.abs().amax(1, keepdim=True) / 127 if columns else 0
    assert ((dense - weight).abs() <= {"f32": 0, "bf16": weight.abs() / 256, "int8": 0.50001 * step}[values]).all()


@pytest.mark.parametrize("values", KINDS)
def test_the_sizes_are_those_of_the_values_and_their_places(values):
    weight = sparse(1024, 1024, 0.5)
    living, each = int((weight != 0).sum()), {"f32": 4, "bf16": 2, "int8": 1}[values]
    assert Bitmask.pack(weight, values).nbytes <= 1.02 * (weight.numel() / 8 + each * living)
    assert CSR16.pack(weight, values).nbytes <= 1.02 * (2 + each) * living
    assert Values.pack(weight, values).nbytes <= 1.02 * each * weight.numel()


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("layout", FORMATS)
def test_an_int8_input_with_nan_gives_nan_and_others_what_they_are(isa, layout):
    weight = sparse(5, 70, 0.5)
    x = torch.randn(4, 70)
    x[1, 69], x[2, 0] = torch.nan, torch.inf
    with using(isa):
        y = layout.pack(weight, "int8").linear(x)
    assert y[1:3].isnan().all() and torch.equal(y[[0, 3]], by_hand(x[[0, 3]], weight, None))


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("layout", FORMATS)
def test_int8_holds_at_both_ends_of_float32(isa, layout):
    weight = torch.tensor([[3e38, -3e38, 0.0], [1e-44, 0.0, 0.0], [0.0, 0.0, 0.0]])
    x = torch.tensor([[1e-40, 0.0, 1e-42], [0.0, 0.0, 0.0], [1e-36, -1e-36, 0.0]])
    with using(isa):
        y = layout.pack(weight, "int8").linear(x)
    assert torch.equal(y[:2], torch.zeros(2, 3))  # of an x below 2^-120 nothing is left
    assert abs(y[2, 0] - 600) < 0.01 and torch.equal(y[2, 1:], torch.zeros(2))


@pytest.mark.parametrize("isa", library().isas)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("sign", [1, -1])
def test_int8_sums_stay_whole_for_the_longest_rows(isa, layout, sign):
    weight, x = torch.ones(2, 65_000), torch.ones(1, 65_000)
    weight[1, ::2] = 0.0  # all in one row: nothing is taken from float sums that only look whole
    x[0, 17] = sign
    with using(isa):
        y = layout.pack(weight * sign, "int8").linear(x)
    assert torch.equal(y, by_hand(x, weight * sign, None))


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("layout", FORMATS)
def test_one_full_row_among_empty_ones_is_computed_by_any_number_of_threads(isa, layout):
    weight = torch.zeros(3000, 900)
    weight[1234] = torch.randn(900)
    x = torch.randn(3, 900)
    packed = layout.pack(weight)
    with using(isa):
        alone, together = packed.linear(x, threads=1), packed.linear(x, threads=5)
    assert torch.equal(alone, together) and (alone[:, 1234] - x @ weight[1234]).abs().max() < 1e-4
    assert not alone[:, torch.arange(3000) != 1234].any()


@pytest.mark.parametrize("layout", FORMATS)
def test_int8_refuses_rows_whose_sums_would_not_fit(layout):
    with pytest.raises(InputError, match="65,000 columns"):
        layout.pack(torch.ones(1, 65_001), "int8")


@pytest.mark.parametrize("layout", FORMATS)
def test_bf16_refuses_what_it_cannot_hold(layout):
    with pytest.raises(InputError, match="too large"):
        layout.pack(torch.tensor([[3.4e38]]), "bf16")


@pytest.mark.parametrize("layout", FORMATS)
def test_damaged_values_are_refused(layout):
    packed = layout.pack(sparse(8, 100, 0.5), "int8")
    parts = packed.parts()
    values = "weights" if layout is Values else "living"
    wrong = [
        {values: parts[values][:-1]},
        {values: parts[values].to(torch.bfloat16)},
        {values: torch.full_like(parts[values], -128)},
        {"scales": parts["scales"][:-1]},
        {"scales": parts["scales"].double()},
    ]
    for change in wrong:
        with pytest.raises(InputError, match="damaged"):
            layout.of({**parts, **change}, packed.shape, "int8")
    for kind, kept in (("int8", {k: v for k, v in parts.items() if k != "scales"}), ("f32", parts), ("int4", parts)):
        with pytest.raises(InputError, match="damaged"):
            layout.of(kept, packed.shape, kind)
