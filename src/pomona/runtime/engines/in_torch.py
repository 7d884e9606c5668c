"""Torch's own ways to run a model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.graph.export import runnable
from pomona.runtime.engines.engine import Running
from pomona.runtime.engines.files import Files
from pomona.runtime.export import quiet
from pomona.vocabulary import InputError

_COMPILERS = ("g++", "clang++", "cl")
_KEPT = 64  # compiled models of one class that are kept at a time; by default torch runs the ninth eagerly, and tells nobody


def eager(files: Files) -> Running:
    """Layer by layer, from a file of weights."""
    return running(files.again(), files, files.weights.stat().st_size)


def compiled(files: Files) -> Running:
    """By torch.compile, from a file of weights; it compiles in each process anew."""
    return running(frozen(files.again(), files.args, files.kwargs), files, files.weights.stat().st_size)


def exported(files: Files) -> Running:
    """A program of torch.export in a .pt2 file, run as it was read."""
    path = files.folder / "model.pt2"
    with quiet():
        torch.export.save(files.program, path)
        again = runnable(torch.export.load(path))
    return running(again, files, path.stat().st_size)


def ahead_of_time(files: Files) -> Running:
    """The program compiled by AOTInductor into a .pt2 file that needs no compiler where it runs."""
    _need_compiler()
    inductor: Any = torch._inductor
    with quiet(), torch.no_grad(), _freezing():
        path = inductor.aoti_compile_and_package(files.program, package_path=str(files.folder / "compiled.pt2"))
        run = inductor.aoti_load_package(path)
    return running(run, files, os.path.getsize(path))


def frozen(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> nn.Module:
    """The model compiled for inputs of these shapes with its weights as constants, which it may fold and lay out as it likes.

    Raises InputError where there is no C++ compiler, and what torch.compile raises.
    """
    _need_compiler()
    made: Any = torch.compile(model, dynamic=False)
    dynamo: Any = torch._dynamo.config
    with quiet(), torch.inference_mode(), _freezing(), dynamo.patch(recompile_limit=_KEPT):
        made(*args, **kwargs)
    return made  # type: ignore[no-any-return]


def running(run: Callable[..., Any], files: Files, nbytes: int, **about: Any) -> Running:
    """What is called as the model is, and gives what the model gives."""

    def outputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        return [leaf for leaf in tree_leaves(run(*args, **kwargs)) if isinstance(leaf, Tensor)]

    return Running(partial(run, *files.args, **files.kwargs), outputs, nbytes, **about)


@contextmanager
def _freezing() -> Iterator[None]:
    """Weights are constants of what is compiled. As an option of torch.compile it comes too late: the tracer asks for it, too."""
    config: Any = torch._inductor.config
    with config.patch(freezing=True):
        yield


def _need_compiler() -> None:
    if not any(map(shutil.which, (os.environ.get("CXX", ""), *_COMPILERS))):
        raise InputError("needs a C++ compiler")
