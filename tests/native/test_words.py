"""The words that kernels are written in, one instruction set after another; NEON under an emulator where there is no Arm."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from pomona.native import library

WORDS = Path(__file__).with_name("words.cpp")
SPEC = importlib.util.spec_from_file_location("native_build", Path(__file__).parents[2] / "native" / "build.py")
BUILD = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(BUILD)
FLAGS = {isa: flags for family in BUILD.ISAS.values() for isa, flags in family.items()}
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"


def compared(folder, compiler, isa, static="", runner=()):
    """What the program said, which fails where a word differs."""
    made = folder / isa
    command = [
        compiler,
        "-std=c++17",
        "-O2",
        *FLAGS[isa].split(),
        *static.split(),
        f"-DPOMONA_{isa.upper()}",
        str(WORDS),
        "-o",
        str(made),
    ]
    subprocess.run(command, check=True)
    done = subprocess.run([*runner, str(made)], capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(sorted(set(done.stdout.splitlines())))
    return done.stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
@pytest.mark.parametrize("isa", library().isas)
def test_words_of_this_machine_are_the_portable_ones(isa, tmp_path):
    assert compared(tmp_path, "g++", isa).strip() == "38000 compared, 0 wrong"


@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(EMULATOR)), reason=f"no {CROSS} or {EMULATOR} here")
def test_words_of_neon_are_the_portable_ones(tmp_path):
    assert compared(tmp_path, CROSS, "neon", "-static", [EMULATOR]).strip() == "38000 compared, 0 wrong"
