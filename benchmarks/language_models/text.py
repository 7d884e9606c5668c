"""The text: its front half calibrates, its back half is measured on, and a checksum says which text it was."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from torch import Tensor

from pomona.data.documents import documents
from pomona.data.text import crops, encode, windows
from pomona.vocabulary import InputError

PACKAGE = "usr/share/doc/anarchism/html"
DEFAULT = Path(os.environ.get("POMONA_CACHE", Path.home() / ".cache" / "pomona")) / "anarchism"
ONE_LINER = "apt-get download anarchism && dpkg -x anarchism_*.deb ~/.cache/pomona/anarchism"
_SHORTEST = 200  # characters of a paragraph that counts: menus, headings and captions do not


@dataclass(frozen=True)
class Text:
    """Two disjoint halves of one text, paragraphs joined by an empty line."""

    calibration: str
    held_out: str

    @property
    def checksum(self) -> str:
        """Of both halves."""
        return hashlib.sha256(f"{self.calibration}\0{self.held_out}".encode()).hexdigest()[:16]

    def drawn(self, tokenizer: Any, count: int, length: int, seed: int) -> Tensor:
        """int64 (count, length): windows to calibrate on, drawn as the SparseGPT and Wanda protocol draws them."""
        return crops([self.calibration], tokenizer, count, length, seed)

    def held(self, tokenizer: Any, count: int, length: int) -> Tensor:
        """int64 (count, length): windows to measure on, the same for every seed, from all over the back half."""
        found = windows(encode(self.held_out, tokenizer), "The back half of the text", length)
        if len(found) < count:
            raise InputError(
                f"The back half of the text fills {len(found)} windows of {length} tokens and {count} are asked for."
            )
        return found[:: len(found) // count][:count]


def read(path: Path) -> Text:
    """The text under `path`: the unpacked Debian package, or whatever `documents` reads; raises InputError for none."""
    if not path.exists():
        raise InputError(f"There is no text at {path}; get it with: {ONE_LINER}")
    pages = sorted((path / PACKAGE).glob("sec*.html*"))
    found = [p for page in pages for p in _paragraphs(page)] if pages else "\n\n".join(documents(path, None)).split("\n\n")
    long = [p for p in found if len(p) >= _SHORTEST]
    if len(long) < 2:
        raise InputError(f"{path} holds no two paragraphs of at least {_SHORTEST} characters; give a longer text.")
    half = len(long) // 2
    return Text("\n\n".join(long[:half]), "\n\n".join(long[half:]))


def _paragraphs(page: Path) -> list[str]:
    data = gzip.decompress(page.read_bytes()) if page.suffix == ".gz" else page.read_bytes()
    marked = re.findall(r"(?s)<p\b[^>]*>(.*?)</p>", data.decode("utf-8", errors="replace"))
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", p)).split()) for p in marked]
