"""What is measured: settings of a layer, and the contenders in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One interleaved run. `shape` is (out, in) of a linear layer, or (out, in, kernel, map) of a convolution; () of a model."""

    kind: str  # linear, conv or model
    shape: tuple[int, ...]
    batch: int
    cold: bool
    threads: int

    def __str__(self) -> str:
        size = {"linear": "x".join(map(str, self.shape)), "model": "ResNet-50"}.get(self.kind) or conv_name(self.shape)
        return f"{size} batch {self.batch} {'cold' if self.cold else 'warm'} threads {self.threads}"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def of(cls, found: dict[str, Any]) -> Setting:
        """The inverse."""
        return cls(**{**found, "shape": tuple(found["shape"])})


@dataclass(frozen=True)
class Contender:
    """A layout with its settings, on a weight with this pattern: "weights", "Rx1" or "n:m"."""

    layout: str
    values: str
    pattern: str
    sparsity: float
    options: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        told = "".join(f" {value}" for _, value in self.options)
        return f"{self.layout}{told} {self.values} {self.pattern} {self.sparsity:g}"


LINEAR_ONE = ((4096, 4096), (2048, 2048), (3072, 768), (1536, 576))
CONVOLUTIONS = (
    (64, 256, 1, 56), (128, 512, 1, 28), (256, 1024, 1, 14),
    (64, 64, 3, 56), (128, 128, 3, 28), (256, 256, 3, 14), (512, 512, 3, 7),
)  # fmt: skip


def settings(threads: tuple[int, ...] = (1, 2)) -> Iterator[Setting]:
    """All runs, those first that the goals rest on."""
    for count in threads:
        for shape in LINEAR_ONE:
            for cold in (True, False):
                yield Setting("linear", shape, 1, cold, count)
        for shape, batch in (((4096, 4096), 8), ((4096, 4096), 64), ((2048, 2048), 512)):
            yield Setting("linear", shape, batch, False, count)
        for shape in CONVOLUTIONS:
            yield Setting("conv", shape, 1, False, count)
        yield Setting("model", (), 1, False, count)


def contenders(setting: Setting) -> Iterator[Contender]:
    """The sparse side of a run."""
    if setting.kind == "conv":
        for pattern, sparsities in (("weights", (80, 90)), ("4x1", (70, 80, 90)), ("8x1", (80, 90)), ("16x1", (90,))):
            rows = 1 if pattern == "weights" else int(pattern.split("x")[0])
            for sparsity in sparsities:
                yield Contender("conv_blocks", "f32", pattern, sparsity, (("rows", rows),))
    elif setting.kind == "linear" and setting.batch == 1:
        yield from _single()
    elif setting.kind == "linear":
        yield from _batched(setting.batch)


def _single() -> Iterator[Contender]:
    for values in ("bf16", "int8"):
        yield Contender("dense", values, "weights", 0)
    yield Contender("rowlanes", "f32", "weights", 0, (("rows", 32),))
    for values in ("f32", "bf16", "int8"):
        for sparsity in (50, 80, 90):
            yield Contender("bitmask", values, "weights", sparsity)
    for sparsity in (50, 80, 90, 95):
        yield Contender("csr16", "f32", "weights", sparsity)
    for sparsity in (80, 90, 95):
        yield Contender("rowlanes", "f32", "16x1", sparsity, (("rows", 16),))
    for n in (8, 4, 2):
        yield Contender("nm", "f32", f"{n}:16", 100 - 6.25 * n, (("n", n), ("m", 16)))
    yield Contender("nm", "f32", "2:4", 50, (("n", 2), ("m", 4)))


def _batched(batch: int) -> Iterator[Contender]:
    yield Contender("blocks", "f32", "weights", 0, (("rows", 8),))
    yield Contender("dense", "int8", "weights", 0)
    for sparsity in (50, 80, 90):
        for rows in (1, 2, 4, 8, 16):
            yield Contender("blocks", "f32", f"{rows}x1" if rows > 1 else "weights", sparsity, (("rows", rows),))
        if batch <= 8:
            for rows in (16, 32):
                yield Contender("rowlanes", "f32", f"{rows}x1", sparsity, (("rows", rows),))
    if batch <= 8:
        yield Contender("rowlanes", "f32", "weights", 0, (("rows", 32),))
        yield Contender("nm", "f32", "8:16", 50, (("n", 8), ("m", 16)))
        yield Contender("bitmask", "f32", "weights", 50)


def conv_name(shape: tuple[int, ...]) -> str:
    """As in tables of networks."""
    out, into, kernel, size = shape
    return f"{kernel}x{kernel} {into}->{out} @{size}"
