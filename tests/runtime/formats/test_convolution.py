import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pomona.native import library, using
from pomona.runtime.formats import conv_plan
from pomona.runtime.formats.conv_format import Geometry
from pomona.runtime.formats.convolution import ROWS, ConvBlocks
from pomona.vocabulary import InputError

EVERY = [*library().isas, None]
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def sparse(shape, share, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw) * (torch.rand(shape, generator=draw) >= share)


def blocks(out, channels, kernel, rows, share):
    return torch.randn(out, channels, kernel, kernel) * sparse((out // rows, channels, kernel, kernel), share).ne(
        0
    ).repeat_interleave(rows, 0)


def exact(x, weight, geometry, bias=None, residual=None, relu=False):
    g = geometry
    bias = None if bias is None else bias.double()
    y = torch.nn.functional.conv2d(x.double(), weight.double(), bias, g.stride, g.padding, g.dilation, g.groups)
    y = y if residual is None else y + residual.double()
    return y.relu() if relu else y


def agree(y, wanted, taps):
    assert y.shape == wanted.shape
    assert torch.allclose(y.double(), wanted, rtol=1e-5, atol=1e-6 * (taps + 1))


@pytest.mark.parametrize("isa", EVERY)
@given(
    out=st.integers(1, 20), channels=st.integers(1, 5), kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=pairs, padding=st.tuples(st.integers(0, 4), st.integers(0, 4)), dilation=pairs, groups=st.integers(1, 3),
    size=st.tuples(st.integers(1, 30), st.integers(1, 40)), rows=st.sampled_from(ROWS), batch=st.integers(0, 3),
    share=st.sampled_from([0, 0.5, 0.9, 1]), threads=st.integers(1, 3),
    biased=st.booleans(), added=st.booleans(), relu=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_what_a_kernel_gives_is_what_float64_gives(
    isa, out, channels, kernel, stride, padding, dilation, groups, size, rows, batch, share, biased, added, relu, threads
):
    geometry = Geometry(stride, padding, dilation, groups)
    assume(min(geometry.output(kernel, size)) >= 1)
    weight = sparse((out * groups, channels, *kernel), share)
    x, bias = torch.randn(batch, channels * groups, *size), torch.randn(out * groups) if biased else None
    residual = torch.randn(batch, out * groups, *geometry.output(kernel, size)) if added else None
    with using(isa):
        y = ConvBlocks.pack(weight, stride, padding, dilation, groups, rows).conv(x, bias, residual, relu, threads)
    agree(y, exact(x, weight, geometry, bias, residual, relu), weight[0].numel())


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bands_fit_together(isa, stride, threads, monkeypatch):
    monkeypatch.setattr(conv_plan, "_NEAR", 1 << 10)
    conv_plan.plan.cache_clear()
    weight, x = sparse((16, 6, 3, 3), 0.6), torch.randn(2, 6, 45, 37)
    geometry = Geometry.of(stride, 1)
    assert conv_plan.plan((16, 6, 3, 3), geometry, (45, 37)).room < 6 * 46 * 38 / 2  # several bands
    with using(isa):
        y = ConvBlocks.pack(weight, stride, 1).conv(x, threads=threads)
    conv_plan.plan.cache_clear()
    agree(y, exact(x, weight, geometry), 54)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("kernel, size", [(1, 56), (1, 7), (3, 14), (3, 7), (5, 28), (7, 32)])
@pytest.mark.parametrize("rows", ROWS)
def test_layers_of_a_network_are_right_on_two_threads(isa, kernel, size, rows):
    weight = blocks(32, 24, kernel, rows, 0.8)
    geometry = Geometry.of(1, kernel // 2)
    x, bias, residual = torch.randn(2, 24, size, size), torch.randn(32), torch.randn(2, 32, size, size)
    with using(isa):
        y = ConvBlocks.pack(weight, 1, kernel // 2, rows=rows).conv(x, bias, residual, True, threads=2)
    agree(y, exact(x, weight, geometry, bias, residual, True), weight[0].numel())


@pytest.mark.parametrize("isa", EVERY)
def test_a_depthwise_convolution_skips_dead_taps(isa):
    weight = sparse((40, 1, 3, 3), 0.5)
    packed = ConvBlocks.pack(weight, 2, 1, groups=40, rows=1)
    assert len(packed.taps) == int((weight != 0).sum())
    x = torch.randn(2, 40, 19, 23)
    with using(isa):
        agree(packed.conv(x, threads=2), exact(x, weight, packed.geometry), 9)


@pytest.mark.parametrize("isa", EVERY)
def test_nan_and_infinity_go_through_as_in_torch(isa):
    weight, x = torch.ones(8, 1, 1, 1), torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0]).view(1, 1, 2, 2)
    with using(isa):
        y = ConvBlocks.pack(weight).conv(x, relu=True)
    assert torch.equal(y, x.relu().expand(1, 8, 2, 2)) or torch.allclose(y, x.relu().expand(1, 8, 2, 2), equal_nan=True)


def test_memory_that_is_laid_out_otherwise_gives_the_same():
    weight, x = sparse((16, 8, 3, 3), 0.5), torch.randn(2, 8, 9, 9)
    residual, bias = torch.randn(2, 16, 9, 9), torch.randn(32)[::2]
    packed = ConvBlocks.pack(weight, padding=1)
    wanted = packed.conv(x, bias.contiguous(), residual)
    last = torch.channels_last
    assert torch.equal(packed.conv(x.to(memory_format=last), bias, residual.to(memory_format=last)), wanted)


@given(
    out=st.integers(1, 20), groups=st.integers(1, 3), rows=st.sampled_from(ROWS), share=st.sampled_from([0, 0.5, 1]),
    kernel=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_nothing_is_lost_by_packing(out, groups, rows, share, kernel):
    weight = sparse((out * groups, 3, kernel, kernel), share)
    packed = ConvBlocks.pack(weight, 2, 1, groups=groups, rows=rows)
    again = ConvBlocks.of(packed.parts(), packed.shape, packed.geometry)
    assert torch.equal(packed.dense(), weight) and torch.equal(again.dense(), weight)


def test_the_size_is_that_of_values_and_two_bytes_a_block():
    packed = ConvBlocks.pack(blocks(256, 64, 3, 8, 0.9), rows=8)
    assert packed.nbytes <= 1.02 * (4 * packed.values.numel() + 2 * len(packed.taps))


@pytest.mark.parametrize("what", ["starts", "taps", "values"])
def test_damaged_parts_are_refused(what):
    packed = ConvBlocks.pack(sparse((16, 4, 3, 3), 0.5), rows=4)
    taps = packed.taps.int()
    damaged = {
        "starts": [packed.starts + 1, packed.starts[:-1], packed.starts.flip(0), packed.starts.long()],
        "taps": [(taps + 36).to(torch.uint16), taps.flip(0).to(torch.uint16), packed.taps[:-1], taps],
        "values": [packed.values[:-1], packed.values.double(), packed.values[:, :3], packed.values.flatten()],
    }
    for part in damaged[what]:
        with pytest.raises(InputError, match="damaged"):
            ConvBlocks.of({**packed.parts(), what: part}, packed.shape, packed.geometry)
    with pytest.raises(InputError, match="damaged"):
        ConvBlocks.of({k: v for k, v in packed.parts().items() if k != what}, packed.shape, packed.geometry)


@pytest.mark.parametrize(
    "weight, arguments, says",
    [
        (torch.ones(3, 4), {}, "packs a floating-point"),
        (torch.full((1, 1, 1, 1), float("nan")), {}, "NaN"),
        (torch.ones(3, 1, 1, 1), {"groups": 2}, "divide"),
        (torch.ones(3, 1, 0, 1), {}, "at least one"),
        (torch.ones(0, 1, 1, 1), {}, "at least one"),
        (torch.ones(3, 1, 1, 1), {"stride": 0}, "at least 1"),
        (torch.ones(3, 1, 1, 1), {"padding": (1, -1)}, "at least 0"),
        (torch.ones(3, 1, 1, 1), {"padding": "same"}, "whole number"),
        (torch.ones(3, 1, 1, 1), {"rows": 3}, "rows together"),
        (torch.ones(1, 1 << 13, 3, 3), {}, "too large"),
    ],
)
def test_a_weight_that_makes_no_convolution_is_refused(weight, arguments, says):
    with pytest.raises(InputError, match=says):
        ConvBlocks.pack(weight, **arguments)


def test_what_does_not_fit_is_refused():
    packed = ConvBlocks.pack(torch.ones(3, 2, 3, 3))
    for x in (torch.ones(1, 3, 5, 5), torch.ones(2, 5, 5), torch.ones(1, 2, 5, 5).double()):
        with pytest.raises(InputError, match=r"takes float32 \(batch, 2, height, width\)"):
            packed.conv(x)
    for small in (torch.ones(1, 2, 2, 5), torch.ones(1, 2, 0, 5)):
        with pytest.raises(InputError, match="does not fit a map"):
            packed.conv(small)
    with pytest.raises(InputError, match="bias"):
        packed.conv(torch.ones(1, 2, 5, 5), torch.ones(2))
    with pytest.raises(InputError, match="residual"):
        packed.conv(torch.ones(1, 2, 5, 5), residual=torch.ones(1, 3, 5, 5))
    with pytest.raises(InputError, match="thread"):
        packed.conv(torch.ones(1, 2, 5, 5), threads=0)
