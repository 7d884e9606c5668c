"""Compile the native kernels: `python native/build.py --to src/pomona/native/_kernels.so`.

Needs a C++17 compiler of the GCC family ($CXX, else c++, g++ or clang++). Only what has changed is compiled again.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
_X86 = {
    "avx512": "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vbmi2 -mavx512vnni -mfma -mbmi -mbmi2 -mpopcnt "
    "-mprefer-vector-width=512",
    "avx2": "-mavx2 -mfma -mbmi -mbmi2 -mpopcnt -mf16c",
    "portable": "",
}
ISAS = {"x86_64": _X86, "amd64": _X86, "aarch64": {"neon": "", "portable": ""}, "arm64": {"neon": "", "portable": ""}}
# Contraction would round differently from one instruction set to the next; fma is written where it is meant.
FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno "
    "-Wall -Wextra -Wno-unused-function -Wno-maybe-uninitialized -Wno-uninitialized"
)


class BuildError(RuntimeError):
    """There is no compiler, or it refused; the message has what it said."""


def compiler() -> str:
    """The C++ compiler to use. Raises BuildError where there is none."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name.split()[0]):
            return name
    raise BuildError("No C++ compiler found ($CXX, c++, g++, clang++); Pomona runs on torch alone without its kernels.")


def build(target: Path, objects: Path, extra: str = "", machine: str = "", jobs: int = 2) -> Path:
    """The shared library `target`, from objects kept in `objects`. `extra` flags go to compiler and linker alike."""
    family = ISAS.get((machine or platform.machine()).lower(), {"portable": ""})
    cxx = compiler().split()
    wanted = [(source, "", "") for source in sorted(HERE.glob("core/*.cpp"))]
    wanted += [(source, isa, flags) for isa, flags in family.items() for source in sorted(HERE.glob("kernels/*.cpp"))]
    objects.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        made = list(pool.map(lambda one: _object(cxx, objects, extra, *one), wanted))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or any(o.stat().st_mtime > target.stat().st_mtime for o in made) or _changed(objects, made):
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        _run([*cxx, "-shared", *extra.split(), "-o", str(partial), *map(str, made), "-pthread"])
        partial.replace(target)  # a process that has the old one open keeps it
        (objects / "linked").write_text("\n".join(sorted(o.name for o in made)))
    return target


def _object(cxx: list[str], objects: Path, extra: str, source: Path, isa: str, flags: str) -> Path:
    made = objects / f"{source.stem}{'-' + isa if isa else ''}.o"
    listed = made.with_suffix(".d")
    command = [*cxx, *FLAGS.split(), *flags.split(), *extra.split(), *([f"-DPOMONA_{isa.upper()}"] if isa else [])]
    command += ["-MMD", "-MF", str(listed), "-c", str(source), "-o", str(made)]
    stamp = made.with_suffix(".command")
    if not (_fresh(made, listed) and stamp.exists() and stamp.read_text() == " ".join(command)):
        _run(command)
        stamp.write_text(" ".join(command))
    return made


def _fresh(made: Path, listed: Path) -> bool:
    """Whether the object is younger than everything that it was made of."""
    if not (made.exists() and listed.exists()):
        return False
    sources = listed.read_text().replace("\\\n", " ").partition(":")[2].split()
    return all(Path(s).exists() and Path(s).stat().st_mtime <= made.stat().st_mtime for s in sources)


def _changed(objects: Path, made: list[Path]) -> bool:
    linked = objects / "linked"
    return not linked.exists() or linked.read_text() != "\n".join(sorted(o.name for o in made))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{' '.join(command)}\n{done.stderr}")
    if done.stderr:
        print(done.stderr, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; 1 with the compiler's words where it does not go."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True, help="the library to make")
    parser.add_argument("--objects", type=Path, default=HERE.parent / "build" / "native", help="where objects are kept")
    parser.add_argument("--flags", default="", help="further flags, such as '-fsanitize=address -g'")
    parser.add_argument(
        "--machine", default="", help="another family of processors, such as aarch64 (with CXX set to a cross compiler)"
    )
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(arguments)
    try:
        print(build(given.to, given.objects, given.flags, given.machine, given.jobs))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
