"""Makes the pages that the registry decides: the table of methods in README.md, and docs/methods.md with one card each.

`make docs` writes them; a test fails when they are out of date. Nothing on them is typed by hand.
"""

from __future__ import annotations

from pathlib import Path

import pomona
from pomona.cli.methods import COLUMNS, WHEN, card, row

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- methods: made by docs/make_methods.py -->", "<!-- end of methods -->"


def pages() -> dict[Path, str]:
    """Every made page with the text that it should have."""
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    return {readme: f"{before}{START}\n{table()}{END}{after}", ROOT / "docs" / "methods.md": cards()}


def table() -> str:
    """The methods as a Markdown table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS)]
    lines += [[cell.replace("|", "\\|") for cell in row(name, recipe).values()] for name, recipe in pomona.methods().items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cards() -> str:
    """One section a method: sentence, parts, papers, and the text form that `--method` reads."""
    intro = "# Methods\n\nMade from the registry by `make docs`; `pomona methods NAME` shows the same.\n"
    return intro + "".join(section(name) for name in pomona.methods())


def section(name: str) -> str:
    """One card as Markdown."""
    shown = card(name, pomona.methods()[name])
    facts = f"Needs {shown['needs']}; works {WHEN[shown['when']]}."
    parts = "".join(f"- {part['word']}: `{part['part']}`. {part['about']}\n" for part in shown["parts"])
    papers = "".join(f"\n*{paper}*\n" for paper in shown["papers"])
    return f"\n## {name}\n\n{shown['summary']}\n\n{facts}\n\n{shown['sentence']}\n\n{parts}\n```\n{shown['text']}\n```\n{papers}"


def main() -> None:
    """Write every page that has changed."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
