"""What this installation has: kernels, compiler, machine, packages."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from pomona import __version__
from pomona.native import library
from pomona.runtime import machine
from pomona.runtime.gpu.device import TARGETS, gpu_for
from pomona.runtime.sparse.layouts import conv_layouts, linear_layouts
from pomona.vocabulary import InputError

COMPILERS = ("c++", "g++", "clang++")
PACKAGES = ("transformers", "timm", "onnx", "onnxruntime", "openvino", "scipy", "peft", "lm_eval", "gguf", "pyarrow", "triton")


@dataclass(frozen=True)
class Condition:
    """`kernels` is the path of the library and `isa` what runs of it, None where torch does its work for the `reason`."""

    pomona: str
    kernels: str | None
    isa: str | None
    isas: tuple[str, ...]
    reason: str | None
    compiler: str | None
    layouts: tuple[str, ...]
    machine: Mapping[str, Any]
    packages: Mapping[str, str | None]
    gpu: Mapping[str, str]  # by target: the device that it runs on, or why there is none

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """As pairs of a word and what there is to say about it; the last says what to do, if anything."""
        m = self.machine
        kernels = (
            f"{self.isa} of {', '.join(self.isas)} in {self.kernels}"
            if self.isa
            else f"none: {self.reason}; torch does their work"
        )
        there = ", ".join(f"{name} {found}" for name, found in self.packages.items() if found)
        missing = ", ".join(name for name, found in self.packages.items() if not found)
        found = [
            ("pomona", f"{self.pomona}, Python {m['python']}, torch {m['torch']}"),
            ("kernels", kernels),
            ("layouts", ", ".join(self.layouts)),
            ("compiler", self.compiler or "none found"),
            ("machine", f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads of torch, {m['platform']}"),
            *self.gpu.items(),
            ("packages", there or "none of the optional ones"),
            ("not there", missing or "nothing"),
        ]
        return found if self.advice is None else [*found, ("to do", self.advice)]

    @property
    def advice(self) -> str | None:
        """What would bring the kernels back; None where they run."""
        if self.isa is not None:
            return None
        if os.environ.get("POMONA_NATIVE"):
            return "Unset POMONA_NATIVE to use the library that was built with Pomona."
        if self.compiler is None:
            return "Install a C++ compiler (g++ or clang++), then Pomona again."
        return "Install Pomona again, or run `make native` in its source folder: a compiler is there."


def condition() -> Condition:
    """The condition of this installation. Raises InputError where POMONA_NATIVE or POMONA_ISA ask for what is not there."""
    kernels = library()
    return Condition(
        pomona=__version__,
        kernels=None if kernels.path is None else str(kernels.path),
        isa=kernels.isa,
        isas=kernels.isas,
        reason=kernels.reason,
        compiler=next(filter(None, map(shutil.which, (os.environ.get("CXX") or COMPILERS[0], *COMPILERS))), None),
        layouts=(*sorted(linear_layouts()), *sorted(conv_layouts())),
        machine=machine() | {"python": platform.python_version(), "torch": torch.__version__},
        packages={name: _version(name) for name in PACKAGES},
        gpu={target: _gpu(target) for target in TARGETS},
    )


def _gpu(target: str) -> str:
    try:
        return gpu_for(target).name
    except InputError as error:
        return f"none: {error}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
