"""On a real GPU: `pytest -m gpu`. Both ways give the dense product, and the clock and the choice work."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pomona
from pomona.runtime.gpu.choose import Way, choose, packed
from pomona.runtime.gpu.device import gpu_for
from pomona.runtime.gpu.timing import samples

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0), reason="no such GPU here"),
]
triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def thinned(rows, columns, pattern, kind=torch.bfloat16):
    draw = torch.Generator().manual_seed(0)
    order = torch.rand(rows, columns // 4, 4, generator=draw).argsort(2).reshape(rows, columns)
    keep = order < 2 if pattern == "2:4" else torch.rand(rows, columns, generator=draw) < pattern
    found = nn.Linear(columns, rows).requires_grad_(False)
    found.weight *= keep
    return found.to("cuda", kind)


def off(found, layer, x):
    right = F.linear(x.double(), layer.weight.double(), layer.bias.double())
    return float((found.double() - right).norm() / right.norm())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 8, 9, 300])
def test_2_4_is_the_dense_product(kind, rows):
    layer, gpu = thinned(512, 1024, "2:4", kind), gpu_for("gpu-2:4")
    sparse = packed(layer, [Way("2:4")], gpu)[Way("2:4")]
    x = torch.randn(rows, 1024, device="cuda").to(kind)
    with torch.inference_mode():
        assert off(sparse(x), layer, x) < 6e-3
    with torch.no_grad():
        assert off(sparse(x), layer, x) < 6e-3


@triton
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "columns"), [(512, 1024), (1000, 4100), (37, 508)])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_spans_are_the_dense_product(kind, rows, columns, share):
    layer, gpu = thinned(rows, columns, share, kind), gpu_for("gpu-sparse")
    for batch in (1, 2, 5, 16, 40):
        x = torch.randn(batch, columns, device="cuda").to(kind)
        ways = [Way("spans", tall, parts) for tall in (4, 8, 16, 32) for parts in (1, 3)]
        for way, module in packed(layer, ways, gpu).items():
            assert off(module(x), layer, x) < 6e-3, (batch, way)


@triton
def test_the_same_call_gives_the_same_bits():
    layer, x = thinned(256, 4096, 0.5), torch.randn(1, 4096, device="cuda").bfloat16()
    module = packed(layer, [Way("spans", 8, 8)], gpu_for("gpu-sparse"))[Way("spans", 8, 8)]
    assert all(module(x).equal(module(x)) for _ in range(20))


def test_events_see_a_hundredfold():
    small, large = (torch.zeros(n, device="cuda") for n in (1 << 20, 1 << 28))
    took = samples({"small": small.exp, "large": large.exp}, torch.device("cuda"), rounds=5)
    assert min(took["large"]) > 20 * max(took["small"])


@triton
def test_a_model_is_chosen_for_compared_and_timed():
    model = nn.Sequential(thinned(4096, 4096, 0.1), nn.ReLU(), thinned(4096, 4096, "2:4")).cpu()
    fast = pomona.accelerate_gpu(model, torch.randn(1, 4096).bfloat16())
    assert fast.error < 0.03 and all(layer.dense_ms for layer in fast.layers)
    assert fast.before_ms is None or fast.after_ms > 0
    assert next(model.parameters()).device.type == "cpu"


@triton
@pytest.mark.parametrize("way", [Way("2:4"), Way("spans", 8, 1)], ids=str)
def test_both_ways_go_through_the_compiler(way):
    layer, x = thinned(4096, 4096, "2:4"), torch.randn(1, 4096, device="cuda").bfloat16()
    module = packed(layer, [way], gpu_for("gpu-sparse"))[way]
    with torch.inference_mode():
        assert off(torch.compile(module, fullgraph=True)(x), layer, x) < 6e-3


@triton
def test_the_choice_is_the_clocks():
    found = choose(thinned(4096, 4096, 0.1), 1, "gpu-sparse", gpu_for("gpu-sparse"))
    assert found.dense_ms > 0 and found.best_ms == min(found.tried.values())
    assert (found.way is None) == (found.best_ms > 0.97 * found.dense_ms)
