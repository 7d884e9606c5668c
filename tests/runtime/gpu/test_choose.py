"""How a linear layer runs on a GPU: what may be tried, and that the clock decides. Here on the CPU, by clocks of our own."""

import pytest
import torch
from torch import nn

from pomona.runtime.gpu.choose import DENSE, Way, choose, packed, ways
from pomona.runtime.gpu.device import Gpu, gpu_for
from pomona.runtime.gpu.linear import SpansLinear
from pomona.runtime.gpu.semi_structured import SemiStructuredLinear
from pomona.vocabulary import InputError


def gpu(clock=lambda name: 1.0, calls=None):
    """A GPU whose times are what `clock` says; every call is made, and what it gives is put into `calls`."""

    def measure(turns):
        for name, call in turns.items():
            found = call()
            if calls is not None:
                calls[name] = found
        return {name: clock(name) for name in turns}

    return Gpu(torch.device("cpu"), "one of ours", 132, "cutlass", measure, lambda weight, _: weight.detach())


def layer(rows=64, columns=1024, pattern="2:4", kind=torch.bfloat16):
    draw = torch.Generator().manual_seed(0)
    found = nn.Linear(columns, rows).to(kind).requires_grad_(False)
    order = torch.rand(rows, columns // 4, 4, generator=draw).argsort(2)
    keep = order.reshape(rows, columns) < 2
    if pattern == "half":
        keep = torch.rand(rows, columns, generator=draw) < 0.5
    if pattern != "none":
        found.weight *= keep
    return found


def layouts(pattern, rows, target, **kind):
    found, reason = ways(layer(pattern=pattern, **kind).weight, rows, target, gpu())
    return sorted({way.layout for way in found}), reason


def test_what_may_run_follows_from_pattern_rows_and_target():
    assert layouts("2:4", 1, "gpu-sparse") == (["2:4", "spans"], None)
    assert layouts("2:4", 64, "gpu-sparse") == (["2:4"], None)
    assert layouts("2:4", 1, "gpu-2:4") == (["2:4"], None)
    assert layouts("half", 16, "gpu-sparse") == (["spans"], None)


@pytest.mark.parametrize(
    ("pattern", "rows", "target", "kind", "said"),
    [
        ("half", 17, "gpu-sparse", torch.bfloat16, "it is given 17 rows at a time, and the kernel"),
        ("none", 1, "gpu-sparse", torch.bfloat16, "it has too few zeros"),
        ("2:4", 1, "gpu-sparse", torch.float32, "its weight is float32, and sparse kernels run in bfloat16 and float16"),
        ("half", 1, "gpu-2:4", torch.bfloat16, "of four weights side by side live, not 2"),
    ],
)  # fmt: skip
def test_what_may_not_run_is_told_why(pattern, rows, target, kind, said):
    found, reason = layouts(pattern, rows, target, kind=kind)
    assert not found and said in reason


def test_weights_that_are_no_numbers_stay_dense():
    broken = layer()
    broken.weight[0, 0] = float("nan")
    assert choose(broken, 1, "gpu-sparse", gpu()).reason == "its weight holds NaN or infinities"


def test_small_layers_are_tried_in_as_many_parts_as_keep_all_processors_busy():
    small, _ = ways(layer(64, 4096, "half").weight, 1, "gpu-sparse", gpu())
    assert {(way.tall, way.parts) for way in small} == {(4, 1), (4, 8), (8, 1), (8, 8), (16, 1), (16, 8)}  # 8 spans are all
    large, _ = ways(layer(8448, 512, "half").weight, 2, "gpu-sparse", gpu())
    assert {(way.tall, way.parts) for way in large} == {(16, 1), (32, 1)}


@pytest.mark.parametrize("best", ["2:4", "spans tall=8 parts=1", DENSE])
def test_the_fastest_is_chosen_dense_among_them(best):
    found = choose(layer(), 1, "gpu-sparse", gpu(lambda name: 1e-3 if name == best else 2e-3))
    assert str(found.way) == (best if best != DENSE else "None")
    assert (found.dense_ms, found.best_ms) == ((1.0, 2.0) if best == DENSE else (2.0, 1.0))
    assert found.reason == ("dense is as fast" if best == DENSE else None)
    assert "2:4" in found.tried and DENSE not in found.tried


def test_a_gain_of_less_than_three_percent_is_none():
    assert choose(layer(), 1, "gpu-sparse", gpu(lambda name: 1.0 if name == DENSE else 0.98)).way is None
    assert choose(layer(), 1, "gpu-sparse", gpu(lambda name: 1.0 if name == DENSE else 0.96)).way is not None


def test_all_that_are_timed_compute_the_same():
    calls = {}
    choose(layer(), 3, "gpu-sparse", gpu(calls=calls))
    dense = calls.pop(DENSE).float()
    assert len(calls) >= 3 and all(torch.allclose(found.float(), dense, atol=0.05) for found in calls.values())


def test_a_way_makes_its_module():
    made = packed(layer(), [Way("2:4"), Way("spans", 16, 2)], gpu())
    sparse, spans = made.values()
    assert isinstance(sparse, SemiStructuredLinear) and isinstance(spans, SpansLinear)
    assert (spans.tall, spans.parts) == (16, 2) and not spans.training


@pytest.mark.parametrize("target", ["gpu-2:4", "gpu-sparse"])
def test_without_a_gpu_one_sentence_says_what_is_missing(target, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(InputError, match=f"The target {target} needs an NVIDIA GPU, and this torch .* is built without CUDA"):
        gpu_for(target)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(InputError, match="no CUDA device is visible"):
        gpu_for(target)


class Properties:
    name, major, minor, multi_processor_count = "Old One", 7, 5, 40


def test_an_old_gpu_or_a_missing_triton_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    with pytest.raises(InputError, match=r"needs compute capability 8.0 or more; Old One has 7.5"):
        gpu_for("gpu-2:4")
    monkeypatch.setattr(Properties, "major", 9)
    monkeypatch.setattr("pomona.runtime.gpu.device.find_spec", lambda _: None)
    with pytest.raises(InputError, match="needs Triton: pip install triton"):
        gpu_for("gpu-sparse")
    assert gpu_for("gpu-2:4").processors == 40
