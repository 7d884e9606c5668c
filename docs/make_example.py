"""Makes the example of the command line in README.md: runs the command and puts what it prints under it.

`make docs` leaves it alone, since it holds times of the machine; `python docs/make_example.py` writes it anew. A slow test
runs the command again and compares everything in it but the times.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- example: made by docs/make_example.py -->", "<!-- end of example -->"
COMMAND = "pomona prune timm:resnet18 --method l1-filters --goal macs=0.5x --multiple 8 --threads 1"


def shown(*more: str) -> str:
    """What the command prints on this machine."""
    words = [*COMMAND.split()[1:], *more]
    code = f"import sys; sys.argv = ['pomona', *{words!r}]; from pomona.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def block() -> str:
    """What stands in the README between the markers."""
    return README.read_text(encoding="utf-8").partition(START)[2].partition(END)[0]


def main() -> None:
    """Write the example anew."""
    before, _, rest = README.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{START}\n```\n$ {COMMAND}\n{shown()}```\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
