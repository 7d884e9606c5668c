"""One setting: dense engines and packed layouts, turn by turn in one process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.cpu_runtime.beside import DeepSparse
from benchmarks.cpu_runtime.cells import Contender, Setting, contenders
from benchmarks.cpu_runtime.network import network, old_file, resnet50, zeroed
from benchmarks.cpu_runtime.onnx_files import conv_file, linear_file
from benchmarks.cpu_runtime.rows import Result, Row
from torch import Tensor
from torch.nn import functional as F

from pomona.runtime.cold import evict, read
from pomona.runtime.engines import engines_here, in_onnxruntime, in_openvino
from pomona.runtime.patterned import patterned
from pomona.runtime.pinning import pinned
from pomona.runtime.roofline import burst, roofline
from pomona.runtime.sparse.layouts import conv_layout, linear_layout
from pomona.runtime.timing import SETTLED, Clocks, Sampler, clock_of, sampler, threads_set, turns
from pomona.vocabulary import InputError

_WRONG = {"f32": 1e-4, "bf16": 1e-2, "int8": 5e-2}  # relative to the largest output; beyond it a time is worth nothing
_BURST = 256  # parts a thread: a few milliseconds


@dataclass(frozen=True)
class Entry:
    """Somebody who takes part: what is known of it beforehand, and how a sample is taken."""

    result: Result
    sample: Sampler


def measured(setting: Setting, rounds: int, deepsparse: Path | None, note: Callable[[str], None]) -> Row:
    """All contenders of a setting in so many rounds. What is not there or refuses is left out, with a note."""
    clock: Clocks = "cpu" if setting.threads == 1 else "wall"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(threads_set(setting.threads))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(pinned(setting.threads))
        entries = list(_entries(setting, folder, clock, note))
        if deepsparse is not None:
            worker = DeepSparse(deepsparse, setting.threads, evict().buffer.nbytes)
            stack.callback(worker.close)
            entries += _deepsparse(setting, worker, folder, clock == "cpu", note)
        samples = [entry.sample for entry in entries]
        order = turns(samples, pause=SETTLED if setting.threads > 1 else 0.0)
        next(order)  # warm
        took = list(zip(*(next(order) for _ in range(rounds)), strict=True))
    results = tuple(entry.result.with_seconds(seconds) for entry, seconds in zip(entries, took, strict=True))
    return Row.of(setting, clock, roofline(setting.threads), results)


def _entries(setting: Setting, folder: Path, clock: Clocks, note: Callable[[str], None]) -> Iterator[Entry]:
    if setting.kind == "model":
        for result, call in network(setting, note):
            yield Entry(result, _warm(call, clock))
        return
    tiny = _tiny(setting)
    (folder / "tiny").mkdir()
    small = {result.name: call for result, call in _layer(tiny, folder / "tiny", contenders(setting), lambda _: None)}
    for result, call in _layer(setting, folder, contenders(setting), note):
        sample = sampler(call, clock_of(clock), _cold(small[result.name])) if setting.cold else _warm(call, clock)
        yield Entry(result, sample)
    yield from _bursts(setting, clock)


def _bursts(setting: Setting, clock: Clocks) -> Iterator[Entry]:
    """What the machine can do at most at that very moment: one that others use too gives more in one minute than in the next."""
    if setting.cold:
        buffer = evict().buffer
        reading = partial(read, buffer, setting.threads, 1)
        yield Entry(Result("memory burst", "limit", 0, "", "f32", buffer.nbytes, 0), sampler(reading, clock_of(clock)))
    parts = _BURST * setting.threads
    if operations := burst(parts, setting.threads):
        multiplying = partial(burst, parts, setting.threads)
        yield Entry(Result("float32 burst", "limit", 0, "", "f32", 0, int(operations)), sampler(multiplying, clock_of(clock)))


def _warm(call: Callable[[], object], clock: Clocks) -> Sampler:
    """One call beforehand, always: the weights of all the others together do not fit into the caches."""
    sample = sampler(call, clock_of(clock))

    def again() -> float:
        call()
        return sample()

    return again


def _cold(tiny: Callable[[], object]) -> Callable[[], object]:
    """In a model only the weights are cold: the code, of Python as well, has just been used on the layer before."""

    def prepare() -> None:
        evict()()
        tiny()

    return prepare


def _tiny(setting: Setting) -> Setting:
    return replace(setting, shape=(32, 32) if setting.kind == "linear" else (32, 32, setting.shape[2], 4))


def _layer(
    setting: Setting, folder: Path, wanted: Iterable[Contender], note: Callable[[str], None]
) -> Iterator[tuple[Result, Callable[[], object]]]:
    dense, x = _dense(setting, "weights", 0), _input(setting)
    multiply = _torch(setting)
    operations = 2 * dense.numel() * _positions(setting)
    yield Result("torch", "dense", 0, "", "f32", dense.nbytes, operations), lambda: multiply(x, dense)
    path = _file(setting, dense, folder / "dense.onnx")
    for engine, load in (("onnxruntime", in_onnxruntime), ("openvino", in_openvino)):
        if engine in engines_here():
            yield Result(engine, "dense", 0, "", "f32", dense.nbytes, operations), load(path, [x])
    for contender in wanted:
        try:
            made = _packed(setting, contender, x)
        except InputError as error:
            note(f"{setting}: without {contender} ({error})")
            continue
        yield made


def _packed(setting: Setting, contender: Contender, x: Tensor) -> tuple[Result, Callable[[], object]]:
    weight = _dense(setting, contender.pattern, contender.sparsity)
    options: Any = dict(contender.options)
    if setting.kind == "conv":
        conv = conv_layout(contender.layout).pack(weight, 1, setting.shape[2] // 2, 1, 1, **options)
        nbytes, call = conv.nbytes, lambda: conv.conv(x, threads=setting.threads)
    else:
        matrix: Any = linear_layout(contender.layout)
        packed = matrix.pack(weight, contender.values, **options)
        nbytes, call = packed.nbytes, lambda: packed.linear(x, threads=setting.threads)
    right = _torch(setting)(x.double(), weight.double())
    error = float((call() - right).abs().max() / right.abs().max())
    if not error <= _WRONG[contender.values]:
        raise RuntimeError(f"{setting}: {contender} is off by {error:.2g}")
    operations = 2 * int(weight.count_nonzero()) * _positions(setting)
    name, kind = str(contender), contender.values
    result = Result(name, "sparse", contender.sparsity, contender.pattern, kind, nbytes, operations)
    return result, call


def _deepsparse(setting: Setting, worker: DeepSparse, folder: Path, cpu: bool, note: Callable[[str], None]) -> Iterator[Entry]:
    tiny = None
    if setting.cold:
        _, path, shape = _for_deepsparse(_tiny(setting), 0, folder / "tiny.onnx")
        tiny = worker.load(path, shape)
    for sparsity in (0, 90) if setting.kind == "model" else (0, 50, 80, 90):
        try:
            about, path, shape = _for_deepsparse(setting, sparsity, folder / f"{sparsity}.onnx")
            yield Entry(about, worker.sampler(worker.load(path, shape), tiny, cpu))
        except RuntimeError as error:  # its own words, or those of torch's older exporter
            note(f"{setting}: without DeepSparse at {sparsity} % ({error})")


def _for_deepsparse(setting: Setting, sparsity: float, path: Path) -> tuple[Result, Path, tuple[int, ...]]:
    if setting.kind == "model":
        model, x = resnet50(setting.batch)
        model = zeroed(model, "weights", sparsity) if sparsity else model
        living = sum(int(p.count_nonzero()) for p in model.parameters())
        operations = 0
        old_file(model, x, path)
    else:
        weight, x = _dense(setting, "weights", sparsity), _input(setting)
        living = int(weight.count_nonzero())
        operations = 2 * living * _positions(setting)
        _file(setting, weight, path)
    name = f"deepsparse {sparsity:g}"
    return Result(name, "deepsparse", sparsity, "weights", "f32", 4 * living, operations), path, tuple(x.shape)


def _dense(setting: Setting, pattern: str, sparsity: float) -> Tensor:
    if setting.kind == "linear":
        return patterned(*setting.shape, pattern, sparsity)
    out, into, kernel, _ = setting.shape
    return patterned(out, into * kernel * kernel, pattern, sparsity).reshape(out, into, kernel, kernel)


def _input(setting: Setting) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    if setting.kind == "linear":
        return torch.randn(setting.batch, setting.shape[1], generator=draw)
    return torch.randn(setting.batch, setting.shape[1], setting.shape[3], setting.shape[3], generator=draw)


def _positions(setting: Setting) -> int:
    return setting.batch if setting.kind == "linear" else setting.batch * setting.shape[3] ** 2


def _torch(setting: Setting) -> Callable[[Tensor, Tensor], Tensor]:
    return F.linear if setting.kind == "linear" else lambda x, w: F.conv2d(x, w, padding=setting.shape[2] // 2)


def _file(setting: Setting, weight: Tensor, path: Path) -> Path:
    if setting.kind == "linear":
        return linear_file(weight, setting.batch, path)
    return conv_file(weight, setting.shape[3], setting.batch, path)
