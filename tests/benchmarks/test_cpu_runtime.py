"""The benchmark of the CPU runtime: rows, goals, the page; one tiny run from end to end."""

from dataclasses import replace

import pytest
import torch
from benchmarks.cpu_runtime import network as network_module
from benchmarks.cpu_runtime import rows as kept
from benchmarks.cpu_runtime.__main__ import main
from benchmarks.cpu_runtime.cells import Contender, Setting, contenders, settings
from benchmarks.cpu_runtime.goals import goals
from benchmarks.cpu_runtime.measure import measured
from benchmarks.cpu_runtime.page import page
from benchmarks.cpu_runtime.rows import Result, Row
from torch import nn

from pomona.native import library
from pomona.runtime.cold import Evict
from pomona.runtime.roofline import Roofline

LIMITS = Roofline(1, "x", memory=1e9, last_cache=1e10, own_cache=1e11, fma=1e12, dot=4e12, own=0, shared=1 << 30)
COLD = Setting("linear", (4096, 4096), 1, True, 1)
BATCH = Setting("linear", (2048, 2048), 512, False, 1)


def row(setting, *results):
    return Row(setting, "cpu", LIMITS, {"cpu": "x", "cores": 2, "torch": "2", "kernels": "a"}, results)


def result(name, side, ms, sparsity=0, pattern="", values="f32", nbytes=1000, operations=0):
    return Result(name, side, sparsity, pattern, values, nbytes, operations, tuple(1e-3 * m for m in ms))


TORCH = result("torch", "dense", (4.0, 4.2, 4.4))
ORT = result("onnxruntime", "dense", (3.0, 3.0, 3.3))
BITS = result("bitmask f32 weights 50", "sparse", (1.5, 1.5, 3.0), 50, "weights")
DEEP = result("deepsparse 50", "deepsparse", (2.0, 2.0, 2.0), 50, "weights")


def test_ratios_are_taken_round_by_round_to_the_best_dense_engine():
    found = row(COLD, TORCH, ORT, BITS)
    assert found.best is ORT and found.rounds == 3
    median, low, high = BITS.over(found.best)
    assert median == pytest.approx(2.0) and low < 2.0 and high == pytest.approx(2.0)
    assert found.of_limit(replace(BITS, nbytes=1_500_000)) == pytest.approx(1.0)  # 1.5 ms at 1 GB/s


def test_goals_say_what_holds_what_does_not_and_what_was_not_measured():
    by_text = {goal.text: goal for goal in goals([row(COLD, TORCH, ORT, BITS, DEEP)])}
    assert by_text["bitmask f32 at 50 %, times the best dense engine"].holds is True
    assert by_text["single weights at 50 %, times DeepSparse"].found == pytest.approx(2.0 / 1.5)
    assert by_text["16x1 at 90 %, times the best dense engine"].holds is None
    slow = replace(BITS, seconds=(2e-3, 2.5e-3, 3e-3))
    assert next(g for g in goals([row(COLD, ORT, slow)]) if "bitmask f32" in g.text).holds is False


def test_blocks_in_batches_are_held_against_the_limit():
    near = result("blocks 8 f32 8x1 80", "sparse", (1.0, 1.0, 1.0), 80, "8x1", nbytes=1, operations=900_000_000)
    found = {goal.text: goal for goal in goals([row(BATCH, ORT, near)])}
    assert found["8x1 at 80 %, share of the limit"].found == pytest.approx(0.9)
    assert found["8x1 at 80 %, share of the limit"].holds and found["4x1 at 80 %, share of the limit"].holds is None


def test_a_limit_that_took_turns_is_compared_with_round_by_round():
    near = result("blocks 8 f32 8x1 80", "sparse", (1.0, 2.0, 4.0), 80, "8x1", nbytes=1, operations=800)
    multiplied = result("float32 burst", "limit", (1.0, 2.0, 4.0), nbytes=0, operations=1000)
    found = row(BATCH, ORT, near, multiplied)
    assert found.of_limit(near) == pytest.approx(0.8)  # whatever the rate measured beforehand
    assert found.best is ORT
    bits = result("bitmask f32 weights 50", "sparse", (1.0, 2.0, 4.0), 50, "weights", nbytes=600)
    memory = result("memory burst", "limit", (2.0, 4.0, 8.0), nbytes=2000)
    assert row(COLD, ORT, bits, memory, multiplied).of_limit(bits) == pytest.approx(0.6)
    text = page([found], [], "a command")
    assert "The float32 burst ran at 0.0005 GFLOP/s" in text and "| float32 burst |" not in text


def test_rows_come_back_and_the_last_of_a_setting_counts(tmp_path):
    path = tmp_path / "rows.jsonl"
    first, second = row(COLD, TORCH, BITS), row(COLD, ORT, BITS)
    for each in (first, row(BATCH, TORCH), second):
        kept.append(path, each)
    found = kept.read(path)
    assert {one.setting for one in found} == {COLD, BATCH}
    assert next(one for one in found if one.setting == COLD) == second


def test_runs_of_other_kernels_are_made_anew(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("benchmarks.cpu_runtime.__main__.settings", lambda threads: [COLD])
    monkeypatch.setattr("benchmarks.cpu_runtime.__main__.roofline", lambda *_, **__: LIMITS)
    monkeypatch.setattr("benchmarks.cpu_runtime.__main__.measured", lambda *_: made.append(1) or row(COLD, TORCH, BITS))
    for build, rounds, count in (("a", 3, 1), ("a", 3, 1), ("b", 3, 2), ("a", 9, 3)):
        monkeypatch.setattr(kept, "here", lambda build=build: {**row(COLD, TORCH).machine, "kernels": build})
        main(["--out", str(tmp_path), "--rounds", str(rounds)])
        assert len(made) == count


def test_the_page_has_goals_limits_runs_and_what_was_left_out():
    text = page([row(COLD, TORCH, ORT, BITS)], ["DeepSparse was not there"], "a command")
    assert "| bitmask f32 at 50 %, times the best dense engine | 4096x4096 batch 1 cold threads 1 | 1.6 | 2.00 | holds |" in text
    assert "**bitmask f32 weights 50**" in text and "2.00 (" in text and "DeepSparse was not there" in text


def test_every_setting_has_contenders_and_a_name_of_its_own():
    everything = list(settings())
    assert len({str(setting) for setting in everything}) == len(everything)
    assert all(len({str(c) for c in contenders(s)}) == len(list(contenders(s))) > 0 for s in everything if s.kind != "model")


def some(_):
    return [Contender(layout, "f32", "weights", 50) for layout in ("bitmask", "rune", "csr16")]


@pytest.mark.parametrize("cold", [True, False])
def test_a_small_run_goes_from_end_to_end(tmp_path, monkeypatch, cold):
    monkeypatch.setattr("benchmarks.cpu_runtime.measure.engines_here", lambda: ("eager",))
    monkeypatch.setattr("benchmarks.cpu_runtime.measure.evict", lambda: Evict(1 << 16))
    monkeypatch.setattr("benchmarks.cpu_runtime.measure.contenders", some)
    monkeypatch.setattr("benchmarks.cpu_runtime.measure.roofline", lambda threads: LIMITS)
    notes = []
    found = measured(Setting("linear", (64, 48), 1, cold, 1), 3, None, notes.append)
    assert len(notes) == 1 and "There is no layout 'rune'" in notes[0]
    names = [result.name for result in found.results]
    assert names[0] == "torch" and "bitmask f32 weights 50" in names and all(len(r.seconds) == 3 for r in found.results)
    kept.append(tmp_path / "cpu_runtime" / "rows.jsonl", found)
    main(["--page", "--out", str(tmp_path)])
    assert "64x48 batch 1" in (tmp_path / "cpu_runtime.md").read_text()


def test_a_small_convolution_runs_too(monkeypatch):
    monkeypatch.setattr("benchmarks.cpu_runtime.measure.engines_here", lambda: ("eager",))
    monkeypatch.setattr("benchmarks.cpu_runtime.measure.roofline", lambda threads: LIMITS)
    found = measured(Setting("conv", (32, 16, 3, 6), 1, False, 1), 3, None, lambda _: None)
    assert any(result.pattern == "8x1" for result in found.results)
    assert library().isa is None or [burst.name for burst in found.bursts] == ["float32 burst"]


def test_a_kernel_that_computes_something_else_is_not_timed(monkeypatch):
    from pomona.runtime.formats.bitmask import Bitmask

    monkeypatch.setattr("benchmarks.cpu_runtime.measure.engines_here", lambda: ("eager",))
    right = Bitmask.linear
    monkeypatch.setattr(Bitmask, "linear", lambda self, x, bias=None, threads=None: right(self, x, bias, threads) + 1)
    monkeypatch.setattr("benchmarks.cpu_runtime.measure.contenders", some)
    with pytest.raises(RuntimeError, match="bitmask f32 weights 50 is off by"):
        measured(Setting("linear", (64, 48), 1, False, 1), 3, None, lambda _: None)


def test_a_network_takes_part_dense_in_engines_and_sparse_packed_and_compiled(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3)).eval()
    monkeypatch.setattr(network_module, "resnet50", lambda batch: (net, torch.randn(batch, 3, 8, 8)))
    monkeypatch.setattr(network_module, "engines_here", lambda: ("eager",))
    monkeypatch.setattr(network_module, "ready", lambda engine, model, args, kwargs: lambda: model(*args))
    notes = []
    found = list(network_module.network(Setting("model", (), 1, False, 1), notes.append))
    names = [result.name for result, _ in found]
    assert names[0] == "eager" and "accelerate 8x1 90 compiled" in names and "accelerate weights 90" in names
    sparse = network_module.zeroed(net, "8x1", 90)
    assert int((sparse[0].weight == 0).sum()) == 0 and float((sparse[1].weight == 0).float().mean()) > 0.6
    assert len(notes) == len(network_module.SPARSE) and all(call() is not None for _, call in found)
