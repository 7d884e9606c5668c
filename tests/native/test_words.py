"""The words that kernels are written in, one instruction set after another; NEON under an emulator where there is no Arm."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from pomona.native import library

WORDS = Path(__file__).with_name("words.cpp")
FLAGS = {
    "avx512": "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vbmi2 -mavx512vnni -mfma -mbmi -mbmi2 -mpopcnt",
    "avx2": "-mavx2 -mfma -mbmi -mbmi2 -mpopcnt",
}
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"


def compared(folder, compiler, isa, flags="", runner=()):
    """What the program said, which fails where a word differs."""
    made = folder / isa
    command = [compiler, "-std=c++17", "-O2", *flags.split(), f"-DPOMONA_{isa.upper()}", str(WORDS), "-o", str(made)]
    subprocess.run(command, check=True)
    done = subprocess.run([*runner, str(made)], capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(sorted(set(done.stdout.splitlines())))
    return done.stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon", "portable"])
def test_words_of_this_machine_are_the_portable_ones(isa, tmp_path):
    if isa not in library().isas:
        pytest.skip(f"no {isa} here")
    assert compared(tmp_path, "g++", isa, FLAGS.get(isa, "")).strip() == "38000 compared, 0 wrong"


@pytest.mark.skipif(platform.machine() == "aarch64", reason="runs without an emulator")
@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(EMULATOR)), reason=f"no {CROSS} or {EMULATOR} here")
def test_words_of_neon_are_the_portable_ones(tmp_path):
    assert compared(tmp_path, CROSS, "neon", "-static", [EMULATOR]).strip() == "38000 compared, 0 wrong"
