"""Rows to a page: what holds of all, one line a model, what is frozen and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]

TITLES = {
    "timm": "timm, the smallest variant of every model file",
    "encoders": "timm, encoders without a head, what they return released",
    "transformers": "transformers",
    "networks": "Hand-written networks",
}
COLUMNS = (
    "model",
    "class",
    "exported",
    "form",
    "params",
    "MACs",
    "two",
    "have two",
    "left",
    "MACs left",
    "exact",
    "error",
    "checks",
    "s",
)
CHECKS = ("other_batch", "other_length", "trains", "copies", "exports")
LEGEND = """
Half of the units of every prunable axis are removed at once, chosen at random, from a model with random weights that were
given a signal (constant parameters get noise, batch norms the statistics of the input). `pomona.replay` cuts, proves, counts.

- **form**: *eager*, the module itself with smaller tensors and its integers mended; *eager, code*, some of its modules got a
  class of the same name whose calls ask for the right sizes; *graph*, the rewritten program.
- **params**, **MACs**: share on at least one prunable axis; **two**: share of the MACs on two or more; **have two**: share of
  the MACs with two widths of the model's own. Depthwise convolutions have one, and so has what reads the input (the three
  colours of a stem) or writes the output (the classes of a head, the stream of an encoder without one).
- **left**, **MACs left**: what is left after the cut. **exact**: prunable axes over which no normaliser runs, of all.
- **error**: max abs(small - masked) / max abs(masked) in float64.
- **s**: seconds of processor time on one core from model to pruned, proven, counted model, the trace included.
- **checks** that failed, if any: the same answers for two examples at once, proven again on shorter sequences, finite
  gradients wherever the dense model has them, deep copy and strict state dict, `torch.export` again.
"""


def page(rows: Sequence[Row]) -> str:
    """The whole page as Markdown."""
    kinds = list(dict.fromkeys(row["name"].partition(":")[0] for row in rows))
    parts = ["# Coverage\n\nWritten by `python -m benchmarks.coverage`.\n" + LEGEND]
    for kind in kinds:
        these = [row for row in rows if row["name"].startswith(f"{kind}:")]
        parts.append(f"## {TITLES[kind]}\n\n{_summary(these)}\n\n{_table(these)}\n")
    parts.append(f"## What is frozen, and why\n\n{_frozen(rows)}\n")
    parts.append(f"## Why a program came back\n\n{_programs(rows)}\n")
    return "\n".join(parts)


def _summary(rows: Sequence[Row]) -> str:
    done = [row for row in rows if "failure" not in row]
    forms = Counter(_form(row) for row in done)

    def share(holds: Callable[[Row], bool]) -> str:
        return f"{sum(map(holds, done))} of {len(rows)}"

    wide, two = share(lambda r: r["share_macs"] > 0.9), share(lambda r: r["share_two"] > 0.8)
    fair = share(lambda r: r["share_two"] >= 0.8 * r.get("share_widths", 1.0))
    slowest, largest = max(map(_seconds, done), default=0.0), max((r["error"] for r in done), default=0.0)
    lines = [
        f"{share(lambda r: r['passed'])} pruned and proven: " + ", ".join(f"{n} {form}" for form, n in forms.most_common()),
        f"over 90 % of the MACs on prunable axes: {wide}; over 80 % on two: {two}; "
        f"over 80 % of those that have two widths: {fair}",
        f"all checks passed: {share(lambda r: not _failed(r))} (a program is made for one batch size)",
        f"slowest: {slowest:.0f} s; largest error: {largest:.0e}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _table(rows: Sequence[Row]) -> str:
    head = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"
    return head + "\n".join(f"| {' | '.join(_cells(row))} |" for row in rows)


def _cells(row: Row) -> Iterable[str]:
    name = row["name"].partition(":")[2]
    if "failure" in row:
        return [name, "", "", f"**failed**: {row['failure'][:200]}", *[""] * (len(COLUMNS) - 4)]
    (params, fewer), (macs, less) = row["params"], row["macs"]
    shares = [_percent(row[f"share_{what}"]) if f"share_{what}" in row else "" for what in ("params", "macs", "two", "widths")]
    left = [_percent(fewer / params), _percent(less / macs) if macs else "-"]
    exact = f"{row['exact']} of {row['exact'] + row['approximate']}"
    checked = [f"{row['error']:.0e}", ", ".join(_failed(row)), f"{_seconds(row):.1f}"]
    return [name, row["class"], "yes", _form(row), *shares, *left, exact, *checked]


def _form(row: Row) -> str:
    adapted = row["form"] == "eager" and any(note.startswith("The code of") for note in row["notes"])
    return "eager, code" if adapted else str(row["form"])


def _failed(row: Row) -> list[str]:
    return [check for check in CHECKS if row.get(check) not in (True, None)]


def _seconds(row: Row) -> float:
    return float(row["cpu_seconds"])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _frozen(rows: Sequence[Row]) -> str:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for reason in row.get("frozen", {}):
            reasons.setdefault(reason, []).append(row["name"].partition(":")[2])
    order = sorted(reasons, key=lambda reason: -len(reasons[reason]))
    return "\n".join(f"- {reason}: {len(reasons[reason])} models ({_some(reasons[reason])})" for reason in order)


def _some(names: Sequence[str], count: int = 8) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _programs(rows: Sequence[Row]) -> str:
    lines = [f"- {r['name']}: {'; '.join(r['notes'])}" for r in rows if r.get("form") == "graph"]
    return "\n".join(lines) or "None did."
