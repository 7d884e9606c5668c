"""DeepSparse 1.8 in a Python of its own, whose packages are too old for ours, timed turn by turn with the others."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any


class DeepSparse:
    """A worker process; it sleeps while others are timed. Raises RuntimeError with its words where it ends."""

    def __init__(self, python: Path, threads: int, evict: int) -> None:
        off = {"NM_DISABLE_ANALYTICS": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": str(threads)}
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | off
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("beside_worker.py")), str(threads), str(evict)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone,
        )  # fmt: skip
        self.version: str = self._ask({})["version"]

    def load(self, path: Path, shape: tuple[int, ...]) -> str:
        """A name for this ONNX file, which is run on ones of this shape."""
        return str(self._ask({"load": str(path), "shape": list(shape)})["name"])

    def sampler(self, name: str, tiny: str | None, cpu: bool) -> Callable[[], float]:
        """Seconds of a call by the worker's own clock; cold where there is a `tiny` one to run beforehand."""
        return lambda: float(self._ask({"time": name, "cold": tiny is not None, "tiny": tiny, "cpu": cpu})["seconds"])

    def close(self) -> None:
        """End the worker."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(30)

    def _ask(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):  # the engine prints a banner of its own
                answer: dict[str, Any] = json.loads(line)
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer
        raise RuntimeError(f"DeepSparse ended with code {self._process.wait()}.")
