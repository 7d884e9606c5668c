import copy
import json
from dataclasses import asdict
from statistics import median

import pytest
import torch
from torch import nn

from pomona.runtime import machine, measure_latency
from pomona.runtime.roofline import Roofline
from pomona.runtime.timing import Pairs
from pomona.vocabulary import InputError


def net(width):
    return nn.Sequential(nn.Linear(256, width), nn.ReLU(), nn.Linear(width, 256))


def test_a_sixteenth_of_the_work_is_faster_and_needs_no_excuse():
    found = measure_latency(net(2048), net(128), torch.randn(64, 256), threads=1, clock="cpu", pairs=9, seconds=3.0)
    assert found.faster and found.reason is None and found.advice is None and found.ratio < 0.5
    assert found.batch == 64 and found.pairs == len(found.samples_before_ms) == len(found.samples_after_ms)
    assert found.before_ms == pytest.approx(median(found.samples_before_ms))
    assert found.spread[0] <= found.ratio <= found.spread[1]
    assert json.loads(json.dumps(asdict(found)))["ratio"] == found.ratio


def timings_of(monkeypatch, ratios):
    """Pairs of these ratios instead of a clock: where weights lie moves real ones by a tenth on shared machines."""
    pairs = Pairs(tuple(1e-3 for _ in ratios), tuple(1e-3 * ratio for ratio in ratios))
    monkeypatch.setattr("pomona.runtime.latency.time_pairs", lambda *_, **__: pairs)


def zeroed(dense):
    sparse = copy.deepcopy(dense)
    with torch.no_grad():
        for layer in (sparse[0], sparse[2]):
            layer.weight *= torch.rand_like(layer.weight) > 0.9
    return sparse


def test_zeros_on_dense_kernels_are_named_where_nothing_is_faster(monkeypatch):
    dense = net(64)
    timings_of(monkeypatch, [0.98, 1.0, 1.01, 0.99, 1.02])
    found = measure_latency(dense, zeroed(dense), torch.randn(4, 256))
    assert not found.faster and found.ratio == pytest.approx(1.0)
    assert "are zero, but dense kernels multiply zeros" in found.reason and "--structure channels" in found.advice


@pytest.mark.parametrize(
    ("ratios", "faster", "says"),
    [
        ([0.90, 0.95, 0.96, 0.96, 0.99], True, None),
        ([0.80, 0.85, 0.90, 1.05, 1.10], False, "scatter too much"),  # a good median, but not in every pair
        ([0.98, 0.98, 0.98, 0.98, 0.98], False, "are zero"),  # in every pair, but not worth the name
    ],
)
def test_faster_is_what_both_the_median_and_the_spread_say(monkeypatch, ratios, faster, says):
    dense = net(64)
    timings_of(monkeypatch, ratios)
    found = measure_latency(dense, zeroed(dense), torch.randn(4, 256))
    assert found.faster == faster and found.ratio == pytest.approx(median(ratios))
    assert found.reason is None if says is None else says in found.reason


def test_twice_the_work_is_never_faster():
    found = measure_latency(net(256), net(2048), torch.randn(64, 256), threads=1, clock="cpu", pairs=5, seconds=2.0)
    assert found.ratio > 1 and not found.faster


def test_models_threads_and_modes_are_left_as_they_were():
    first, second = net(8).train(), net(8).eval()
    threads = torch.get_num_threads()
    found = measure_latency(first, second, {"input": torch.randn(2, 256)}, batch=5, threads=threads + 1, pairs=5, seconds=0.1)
    assert found.batch == 5 and found.threads == threads + 1 and torch.get_num_threads() == threads
    assert first.training and not second.training and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"clock": "sun"}, "no clock"),
        ({"engines": ["steam"]}, "no engine"),
        ({"pairs": 0}, "one pair"),
        ({"seconds": 0.0}, "some time"),
        ({"batch": 0}, "one example"),
        ({"threads": 0}, "thread"),
    ],
)
def test_impossible_wishes_are_refused(wish, says):
    with pytest.raises(InputError, match=says):
        measure_latency(net(8), net(8), torch.randn(2, 256), **wish)


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="Sequential does not run on these inputs at batch 2"):
        measure_latency(net(8), net(8), torch.randn(2, 7))


def test_cold_weights_rivals_limit_and_energy_come_when_asked_for(monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    emptied = []
    monkeypatch.setattr("pomona.runtime.latency.evict", lambda: lambda: emptied.append(1))
    limits = Roofline(1, "x", 1e9, 1e10, 1e11, fma=1e12, dot=0, own=1 << 20, shared=1 << 24)
    monkeypatch.setattr("pomona.runtime.roofline.roofline", lambda threads, fresh=False: limits)
    wide, thin, x = net(512), net(64), torch.randn(4, 256)
    found = measure_latency(
        wide, thin, x, threads=1, pairs=5, seconds=0.1, cold=True, clock="cpu", pin=True, engines=["onnxruntime"], limit=True,
        energy=True, watts=7.0,
    )  # fmt: skip
    assert len(emptied) == 15 and found.cold and found.clock == "cpu"
    (rival,) = found.rivals
    assert rival.engine == "onnxruntime" and rival.ms > 0 and rival.spread[0] <= rival.ratio <= rival.spread[1]
    stored = sum(p.nbytes for p in thin.parameters())
    assert found.limit_ms == pytest.approx(1e3 * stored / 1e9)  # bytes from memory, not the few products
    assert found.joules is not None and min(found.joules) > 0 and found.energy_by is not None
    assert json.loads(json.dumps(asdict(found)))["rivals"][0]["engine"] == "onnxruntime"


def test_nothing_more_is_measured_than_asked_for():
    found = measure_latency(net(8), net(8), torch.randn(2, 256), pairs=5, seconds=0.1)
    assert (found.clock, found.cold, found.pinned, found.rivals, found.limit_ms, found.joules) == (
        "wall",
        False,
        (),
        (),
        None,
        None,
    )


def test_the_machine_is_described():
    facts = machine()
    assert set(facts) == {"cpu", "cores", "threads", "torch", "python", "platform"}
    assert facts["cores"] >= 1 and facts["torch"] == torch.__version__ and json.dumps(facts)
