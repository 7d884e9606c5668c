import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pomona.native import library

ROOT = Path(__file__).parents[2]
FUZZ = Path(__file__).with_name("fuzz_layers.py")


def fuzzed(seconds, seed, **environment):
    """How many damaged files were refused and how many ran; fails where anything else happened."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, str(FUZZ), str(seconds), str(seed)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_damaged_files_are_refused_or_run():
    found = fuzzed(3, 0)
    assert found["refused"] > 20 and found["ran"] > 5


@pytest.mark.slow
@pytest.mark.skipif(library().isa is None or shutil.which("g++") is None, reason="no native kernels or no g++ here")
def test_no_damaged_file_makes_a_kernel_leave_its_arrays(tmp_path):
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -g1 -O1"
    made = tmp_path / "sanitized.so"
    command = [sys.executable, "native/build.py", "--to", str(made), "--objects", str(tmp_path / "objects"), "--flags", flags]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CXX": "g++"})
    asan = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    sanitizing = {"LD_PRELOAD": asan, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1"}
    for isa in library().isas:
        found = fuzzed(20, 1, POMONA_NATIVE=str(made), POMONA_ISA=isa, **sanitizing)
        assert found["refused"] > 50 and found["ran"] > 10
