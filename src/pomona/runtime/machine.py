"""The machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """What a reader needs to place a measurement: cpu, cores (usable by this process), threads (torch's), versions, platform."""
    return {
        "cpu": _cpu_name(),
        "cores": len(processors()),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }


def caches() -> tuple[int, int]:
    """Bytes of a core's own largest cache and of the last one, which cores share; 1 and 32 MiB where the system does not say."""
    found: dict[int, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, size, kind = (index.joinpath(name).read_text().strip() for name in ("level", "size", "type"))
        except OSError:
            continue
        if kind != "Instruction":
            found[int(level)] = int(size.rstrip("KMG")) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1], 1)
    own, last = found.get(2, 1 << 20), found.get(max(found, default=0), 32 << 20)
    return own, max(last, own)


def processors() -> tuple[int, ...]:
    """The processors that this process may run on; their number alone where the system does not say which."""
    affinity = getattr(os, "sched_getaffinity", None)
    return tuple(sorted(affinity(0))) if affinity else tuple(range(os.cpu_count() or 1))


def _cpu_name() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine() or "unknown"
