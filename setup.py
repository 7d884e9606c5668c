"""Builds the native kernels beside the Python code; where that fails, Pomona installs without them and says so."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "native"))
from build import BuildError, build  # noqa: E402


class Kernels(build_ext):
    """One library without Python in it: it serves every Python, so its name carries no version."""

    def get_ext_filename(self, fullname: str) -> str:
        """Where setuptools looks for what was built."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        """Compile with native/build.py; a machine without a compiler is no error."""
        try:
            build(Path(self.get_ext_fullpath(ext.name)), ROOT / "build" / "native")
        except BuildError as error:
            print(f"Pomona's native kernels were not built; it will run on torch alone.\n{error}", file=sys.stderr)


setup(ext_modules=[Extension("pomona.native._kernels", sources=[], optional=True)], cmdclass={"build_ext": Kernels})
