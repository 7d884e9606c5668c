"""Processes started side by side, as a launcher does: each knows its rank and where the others are."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass
class Ended:
    code: int
    out: str
    err: str


def launch(command: list[str], number: int = 2, timeout: float = 240, cwd: Path = ROOT) -> list[Ended]:
    """Run `python *command` in so many processes; how each ended, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env=os.environ | where | path | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]
    try:
        told = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    return [Ended(process.returncode, *spoken) for process, spoken in zip(started, told, strict=True)]
