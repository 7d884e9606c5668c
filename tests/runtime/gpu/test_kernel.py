"""The Triton kernel without a GPU: interpreted, it is right; compiled, it reads as it should."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def told_by(script):
    command = [sys.executable, Path(__file__).with_name(script)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_interpreted_the_kernel_gives_the_product():
    told = told_by("by_interpreter.py")
    if "unable" in told:
        pytest.skip(f"this Triton's interpreter does not run with this numpy: {told['unable']}")
    # The interpreter cuts off what does not fit bfloat16 and has no matrix product in it: float16 stands in for it there.
    off = [case for case in told["cases"] if not case[-1] <= (0.006 if "bfloat16" in case[5] else 5e-4)]
    assert not off


def test_compiled_the_kernel_spills_nothing_and_counts_bits_in_hardware():
    for name, tall, architecture, stack, ops in told_by("by_compiler.py"):
        assert not stack, (name, tall, architecture)
        assert ops["popc.b32"] >= 2, (name, ops)  # the shifts and masks in the source are one instruction
        if name == "_few":
            assert any(op.startswith("mma.sync") for op in ops), ops
