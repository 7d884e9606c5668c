"""Weights in spans: nothing is lost, little is added, and nothing that is damaged reaches a kernel."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pomona.runtime.gpu.linear import SpansLinear
from pomona.runtime.gpu.ops import spans_linear
from pomona.runtime.gpu.spans import SPARE, Spans
from pomona.vocabulary import InputError


def weight(rows, columns, sparsity=0.5, kind=torch.bfloat16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    whole = torch.randn(rows, columns, generator=draw) + 0.01
    return (whole * (torch.rand(rows, columns, generator=draw) >= sparsity)).to(kind)


@given(
    rows=st.integers(0, 40),
    columns=st.one_of(st.integers(0, 70), st.sampled_from([511, 512, 513, 1024, 1100])),
    sparsity=st.sampled_from([0.0, 0.5, 0.97, 1.0]),
    kind=st.sampled_from([torch.bfloat16, torch.float16]),
)
def test_unpacked_is_what_was_packed(rows, columns, sparsity, kind):
    dense = weight(rows, columns, sparsity, kind)
    packed = Spans.pack(dense)
    assert packed.dense().equal(dense) and packed.dense().dtype == kind
    again = Spans.of(packed.parts(), packed.shape)
    assert all(a.equal(b) for a, b in zip(again.parts().values(), packed.parts().values(), strict=True))


def test_bits_values_and_starts_lie_span_by_span_and_row_by_row():
    dense = torch.zeros(2, 514, dtype=torch.bfloat16)
    dense[0, 0], dense[0, 33], dense[0, 513], dense[1, 31], dense[1, 512] = 1, 2, 4, 3, 5
    packed = Spans.pack(dense)
    assert packed.living.tolist() == [1, 2, 3, 4, 5] + [0] * SPARE  # the first span of both rows, then the second
    assert packed.starts.tolist() == [[0, 2], [3, 4]]
    assert packed.bits[0, 0].tolist() == [1, 2] + [0] * 14
    assert packed.bits[0, 1].tolist() == [-(2**31)] + [0] * 15
    assert packed.bits[1, :, 0].tolist() == [2, 1]


@pytest.mark.parametrize("sparsity", [0.5, 0.7, 0.9])
def test_what_is_added_to_bits_and_values_is_a_sixteenth_of_a_bit_a_weight(sparsity):
    dense = weight(256, 4096, sparsity)
    least = dense.numel() / 8 + int(dense.count_nonzero()) * 2
    assert Spans.pack(dense).nbytes == least + dense.numel() / 128 + 2 * SPARE


def damaged(**change):
    packed = Spans.pack(weight(6, 600))
    parts = dict(packed.parts())
    for name, how in change.items():
        parts[name] = how(parts[name].clone())
    return parts


@pytest.mark.parametrize(
    "parts",
    [
        damaged(bits=lambda t: t ^ 1),
        damaged(bits=lambda t: t | -1),
        damaged(starts=lambda t: t + 1),
        damaged(starts=lambda t: t.flip(0)),
        damaged(starts=lambda t: t.long()),
        damaged(living=lambda t: t[:-1]),
        damaged(living=lambda t: t.float()),
        damaged(bits=lambda t: t[:, :-1]),
        {"bits": torch.zeros(2, 6, 16, dtype=torch.int32)},
    ],
)
def test_damaged_parts_are_refused(parts):
    with pytest.raises(InputError, match="damaged"):
        Spans.of(parts, (6, 600))


def test_a_bit_behind_the_last_column_is_refused():
    packed = Spans.pack(weight(1, 33))
    with pytest.raises(InputError, match="behind the last column"):
        Spans.of(packed.parts(), (1, int(packed.dense().nonzero()[-1, 1])))


@pytest.mark.parametrize("wrong", [torch.ones(2, 2), torch.ones(2, 2, 2).half(), torch.full((2, 2), float("nan")).half()])
def test_what_spans_cannot_hold_is_refused(wrong):
    with pytest.raises(InputError):
        Spans.pack(wrong)


def test_the_layer_is_the_dense_one_for_any_leading_dimensions():
    dense, bias = weight(24, 700), torch.randn(24).bfloat16()
    layer = SpansLinear(Spans.pack(dense), bias)
    for x in (torch.randn(700), torch.randn(2, 3, 700), torch.randn(40, 700), torch.randn(0, 700)):
        assert layer(x.bfloat16()).equal(F.linear(x.bfloat16(), dense, bias))
    assert not layer.state_dict() and not list(layer.parameters())


def test_gradients_reach_the_input():
    dense = weight(8, 40)
    x = torch.randn(3, 40).bfloat16().requires_grad_()
    (found,) = torch.autograd.grad(SpansLinear(Spans.pack(dense))(x).sum(), x)
    assert torch.allclose(found.float(), dense.float().sum(0).expand(3, -1), atol=0.05)


@pytest.mark.parametrize("x", [torch.ones(2, 41).bfloat16(), torch.ones(2, 40), torch.tensor(1.0).bfloat16()])
def test_other_inputs_are_refused(x):
    with pytest.raises(InputError, match=r"takes torch.bfloat16 \(..., 40\)"):
        SpansLinear(Spans.pack(weight(8, 40)))(x)


def test_moving_or_casting_the_model_leaves_the_layer_as_it_is():
    model = nn.Sequential(SpansLinear(Spans.pack(weight(8, 40)))).double()
    assert model[0].living.dtype == torch.bfloat16 and model[0].bits.dtype == torch.int32


def test_the_operation_is_one_for_compilers():
    layer = SpansLinear(Spans.pack(weight(8, 40)))
    x = torch.randn(4, 40).bfloat16()
    torch.library.opcheck(spans_linear, (x, None, layer.bits, layer.living, layer.starts, 8, 1))
    program = torch.export.export(layer, (x,))
    assert [n.target for n in program.graph.nodes if n.op == "call_function"].count(spans_linear) == 1
    assert program.module()(x).equal(layer(x))
    assert torch.compile(layer, fullgraph=True, backend="eager")(x).equal(layer(x))
