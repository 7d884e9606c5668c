"""Run by tests in a process of its own: the kernels compiled for GPUs that need not be here.

Prints, as JSON, of each kernel its bytes on the stack and its PTX instructions by name.
"""

import json
import re
import subprocess
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pomona.runtime.gpu import kernel

NAMES = ("x", "bias", "bits", "living", "starts", "y", "rows", "batch", "columns", "spans", "each")
ALIGNED = (0, 1, 2, 3, 4, 5, 6, 8)  # pointers, rows and columns: multiples of 16, as in most models
ONES = ("rows", "spans", "each")  # Triton makes a constant of every 1
CASES: tuple[tuple[str, int, int, int, str, bool, tuple[str, ...]], ...] = (
    ("_one", 8, 2, 90, "bf16", True, ()),
    ("_one", 4, 1, 80, "fp16", True, ("batch",)),
    ("_one", 16, 4, 90, "bf16", False, ("batch", *ONES)),
    ("_few", 16, 1, 90, "bf16", True, ()),
    ("_few", 32, 2, 80, "fp16", False, ONES),
)


def main() -> None:
    warnings.simplefilter("ignore")
    found = []
    for name, tall, warps, architecture, kind, whole, ones in CASES:
        types = [f"*{kind}", f"*{kind}", "*i32", f"*{kind}", "*i32", f"*{kind}" if whole else "*fp32", *["i32"] * 5]
        constant = {"TALL": tall, "BIAS": whole} | dict.fromkeys(ones, 1) | ({} if whole else {"bias": None})
        signature = dict(zip(NAMES, types, strict=True)) | dict.fromkeys(constant, "constexpr")
        hints = {(p,): [["tt.divisibility", 16]] for p in ALIGNED if NAMES[p] not in constant}
        source = ASTSource(getattr(kernel, name), signature, constant, hints)
        made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": warps})
        ops = Counter(re.findall(r"^\s+(?:@!?%p\d+ )?([a-z]+\.[\w.:]+)", made.asm["ptx"], re.MULTILINE))
        found.append([name, tall, architecture, stack(made.asm["cubin"]), ops])
    print(json.dumps(found))


def stack(cubin: bytes) -> int | None:
    """Bytes that spilled registers take; None where this Triton brings no tool that tells."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.is_file():
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        told = subprocess.run([tool, "--dump-resource-usage", path], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", told)[1])


if __name__ == "__main__":
    main()
