"""The GPU that there is, and whether a target runs on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from pomona.runtime.gpu.semi_structured import compress, library
from pomona.runtime.gpu.timing import Measure, on
from pomona.vocabulary import InputError

TARGETS: Mapping[str, tuple[str, ...]] = {"gpu-2:4": ("2:4",), "gpu-sparse": ("2:4", "spans")}  # the layouts of each
_LEAST = (8, 0)  # Ampere: the first with sparse tensor cores, and with bfloat16 in the others


@dataclass(frozen=True)
class Gpu:
    """What layers are chosen for: where tensors go, how many processors share the work, which library compresses to 2:4.

    `measure` times several functions there, and `compress` makes torch's compressed tensor.
    """

    device: torch.device
    name: str
    processors: int
    library: str
    measure: Measure
    compress: Callable[[Tensor, str], Tensor] = compress


def gpu_for(target: str) -> Gpu:
    """The current CUDA device. Raises InputError where there is none, or it or this installation lacks what the target needs."""
    if target not in TARGETS:
        raise InputError(f"There is no GPU target {target!r}; there are {', '.join(TARGETS)}.")
    if torch.version.hip:
        raise InputError(f"The target {target} is made for NVIDIA GPUs; this torch ({torch.__version__}) is built for ROCm.")
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        why = "no CUDA device is visible" if built else f"this torch ({torch.__version__}) is built without CUDA"
        raise InputError(f"The target {target} needs an NVIDIA GPU, and {why}.")
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    have = (found.major, found.minor)
    if have < _LEAST:
        raise InputError(
            f"The target {target} needs compute capability 8.0 or more; {found.name} has {have[0]}.{have[1]}."
        )  # fmt: skip
    if "spans" in TARGETS[target] and find_spec("triton") is None:
        raise InputError(f"The target {target} needs Triton: pip install triton.")
    device = torch.device("cuda", torch.cuda.current_device())
    return Gpu(device, found.name, found.multi_processor_count, library(), on(device))
