"""The threads that torch computes with, lent to the kernels."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch


def torch_team() -> int | None:
    """The address of `GOMP_parallel` in the OpenMP library that torch has loaded; None where it runs on something else.

    Threads of OpenMP wait busily for a while after each loop, and so would those of a pool of our own: of two such sets of
    threads on the same cores each waits for the other.
    """
    if sys.platform != "linux":
        return None
    for path in (Path(torch.__file__).parent / "lib").glob("lib*omp*.so*"):
        try:
            loaded = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            continue  # it lies there, and torch has not loaded it
        if hasattr(loaded, "GOMP_parallel"):
            return ctypes.cast(loaded.GOMP_parallel, ctypes.c_void_p).value
    return None
