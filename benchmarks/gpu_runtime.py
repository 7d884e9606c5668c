"""Sparse linear layers on a GPU beside cuBLAS on the dense weights; writes docs/results/gpu_runtime.md.

`python -m benchmarks.gpu_runtime`, in bfloat16. 2:4 by torch at every batch, single weights by Pomona's kernel up to 16 rows,
at 50, 70 and 90 % zeros and with each of the kernel's settings. All of a case take turns, timed by events on the GPU with caches
that hold something else, and so does a copy within its memory, which tells what bytes cost in the same rounds. Needs an NVIDIA
GPU of compute capability 8.0 and Triton.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import TypeAlias

import torch
from torch import Tensor, nn

from pomona.runtime.gpu.choose import DENSE, packed, ways
from pomona.runtime.gpu.device import Gpu, gpu_for
from pomona.runtime.gpu.linear import SpansLinear
from pomona.runtime.gpu.ops import FEW
from pomona.runtime.gpu.timing import Turns, samples
from pomona.runtime.timing import quantile
from pomona.vocabulary import InputError

Sampled: TypeAlias = Callable[[Turns], Mapping[str, Sequence[float]]]
OUT = Path(__file__).parents[1] / "docs" / "results" / "gpu_runtime.md"
SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (14336, 4096))
BATCHES = (1, 8, 64, 4096)
ZEROS = (0.5, 0.7, 0.9)
_COPY = "copy"
_COPIED = 1 << 30  # bytes; read once and written once
_HEAD = ("weight", "batch", "runs as", "zeros", "µs", "p10 to p90", "x dense", "quartiles", "of the byte limit")
_ABOUT = """\
`µs` is the median of {rounds} rounds. `x dense` is the median over the rounds of the dense time over this one in the same round,
with its quartiles. `of the byte limit` is the time in which the copy of the same rounds ({rate:.2f} TB/s read and written) would
move weight, inputs and outputs once, over the median; at large batches arithmetic is the limit, not bytes. Of the kernel's
settings only the fastest is shown."""


@dataclass(frozen=True)
class Row:
    """One way of one case: seconds by round, the dense ones of the same rounds, and the bytes that it must move."""

    shape: tuple[int, int]
    batch: int
    name: str
    zeros: float
    seconds: Sequence[float]
    dense: Sequence[float]
    nbytes: int
    rate: float

    def cells(self) -> tuple[str, ...]:
        """As the page shows it."""
        took, middle = sorted(self.seconds), median(self.seconds)
        ratios = sorted(d / s for d, s in zip(self.dense, self.seconds, strict=True))
        return (
            "x".join(map(str, self.shape)),
            str(self.batch),
            self.name,
            f"{self.zeros:.0%}",
            f"{1e6 * middle:.1f}",
            f"{1e6 * quantile(took, 0.1):.1f} to {1e6 * quantile(took, 0.9):.1f}",
            f"{median(ratios):.2f}",
            f"{quantile(ratios, 0.25):.2f} to {quantile(ratios, 0.75):.2f}",
            f"{self.nbytes / self.rate / middle:.0%}",
        )


def rows_of(shape: tuple[int, int], batch: int, gpu: Gpu, sampled: Sampled, copied: int = _COPIED) -> list[Row]:
    """Dense, 2:4, and the fastest setting of the kernel at each share of zeros."""
    draw = torch.Generator(gpu.device).manual_seed(0)
    x = torch.randn(batch, shape[1], generator=draw, device=gpu.device).bfloat16()
    modules: dict[tuple[str, float], nn.Module] = {(DENSE, 0.0): _layer(shape, None, draw, gpu)}
    for name, zeros, made in _sparse(shape, batch, draw, gpu):
        modules[name, zeros] = made
    source, sink = (torch.empty(copied, dtype=torch.uint8, device=gpu.device) for _ in range(2))
    turns: dict[str, Callable[[], object]] = {f"{name} {zeros}": _call(made, x) for (name, zeros), made in modules.items()}
    found = sampled({**turns, _COPY: lambda: sink.copy_(source)})
    rate = 2 * copied / median(found[_COPY])
    dense = found[f"{DENSE} 0.0"]
    rows = [
        Row(shape, batch, name, zeros, found[f"{name} {zeros}"], dense, _bytes(made, shape, batch), rate)
        for (name, zeros), made in modules.items()
    ]
    best: dict[tuple[str, float], Row] = {}
    for row in rows:
        key = row.name.split()[0], row.zeros
        if key not in best or median(row.seconds) < median(best[key].seconds):
            best[key] = row
    return list(best.values())


def page(rows: Sequence[Row], about: str, rounds: int) -> str:
    """The table, with what it was made by."""
    lines = [
        "# Sparse linear layers on a GPU",
        "",
        f"`python -m benchmarks.gpu_runtime --rounds {rounds}`; {about}.",
        "",
        _ABOUT.format(rounds=rounds, rate=median(row.rate for row in rows) / 1e12),
        "",
        f"| {' | '.join(_HEAD)} |",
        f"|{' --- |' * len(_HEAD)}",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page; 2 where there is no such GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    try:
        gpu = gpu_for("gpu-sparse")
    except InputError as error:
        print(f"{error} Nothing is written.", file=sys.stderr)
        return 2
    rows = []
    with torch.inference_mode():
        for shape in SHAPES:
            for batch in BATCHES:
                rows += rows_of(shape, batch, gpu, lambda turns: samples(turns, gpu.device, given.rounds))
                print(*rows[-1].cells(), file=sys.stderr, flush=True)
    about = f"{gpu.name}, torch {torch.__version__}, CUDA {torch.version.cuda}, 2:4 by {gpu.library}, {date.today()}"
    given.out.write_text(page(rows, about, given.rounds))
    print(given.out)
    return 0


def _sparse(
    shape: tuple[int, int], batch: int, draw: torch.Generator, gpu: Gpu
) -> Iterator[tuple[str, float, nn.Module]]:  # fmt: skip
    both = [("gpu-2:4", 0.5, _two_of_four(shape, draw, gpu))]
    if batch <= FEW:
        both += [("gpu-sparse", zeros, torch.rand(shape, generator=draw, device=gpu.device) >= zeros) for zeros in ZEROS]
    for target, zeros, keep in both:
        layer = _layer(shape, keep, draw, gpu)
        found, reason = ways(layer.weight, batch, target, gpu)
        if not found:
            raise InputError(f"A weight of {shape} does not run as {target}: {reason}.")
        yield from ((str(way), zeros, made) for way, made in packed(layer, found, gpu).items())


def _layer(shape: tuple[int, int], keep: Tensor | None, draw: torch.Generator, gpu: Gpu) -> nn.Linear:
    layer = nn.Linear(shape[1], shape[0], bias=False, device=gpu.device, dtype=torch.bfloat16).requires_grad_(False)
    weight = torch.randn(shape, generator=draw, device=gpu.device).bfloat16()
    layer.weight = nn.Parameter(weight if keep is None else weight * keep, requires_grad=False)
    return layer


def _two_of_four(shape: tuple[int, int], draw: torch.Generator, gpu: Gpu) -> Tensor:
    order = torch.rand(shape[0], shape[1] // 4, 4, generator=draw, device=gpu.device).argsort(2)
    return (order < 2).reshape(shape)


def _bytes(module: nn.Module, shape: tuple[int, int], batch: int) -> int:
    """What must be moved once: the weight as it is stored, inputs and outputs."""
    dense = 2 * shape[0] * shape[1]
    if isinstance(module, SpansLinear):
        weight = module.bits.nbytes + module.living.nbytes + module.starts.nbytes
    else:
        weight = dense if isinstance(module, nn.Linear) else dense // 2 + dense // 16  # two bits for each of half the values
    return weight + 2 * batch * sum(shape)


def _call(module: nn.Module, x: Tensor) -> Callable[[], object]:
    return lambda: module(x)


if __name__ == "__main__":
    raise SystemExit(main())
