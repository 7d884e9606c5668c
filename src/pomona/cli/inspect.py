"""`pomona inspect`: what a model costs, what in it can be pruned, what goes together, and what is frozen and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching

if TYPE_CHECKING:
    from pomona.vocabulary import Axis

Row = dict[str, Any]


def inspect(
    model: options.Model,
    input: options.Input = None,
    members: Annotated[bool, typer.Option("--members", help="List every axis with every tensor of its coupled group.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Show what MODEL costs and which of its axes can be pruned, with their coupled groups."""
    from dataclasses import asdict

    from pomona.vocabulary import plural

    progress = watching()
    with words.new(None):
        opened = words.open_model(model, input, progress)
        with progress.stage("tracing"):
            graph = pomona.trace(opened.model, opened.args, opened.kwargs)
    costs, free = graph.costs(), [axis for axis in graph.axes.values() if axis.frozen is None]
    families = {family: [axis.name for axis in free if axis.family == family] for family in dict.fromkeys(a.family for a in free)}
    document = {
        "model": model,
        "params": int(costs.params),
        "macs": int(costs.macs),
        "activation_bytes": int(costs.activation_bytes),
        "peak_bytes": int(costs.peak_bytes),
        "prunable": asdict(graph.shares()),
        "families": [
            {"family": family, "goal": plural(family), "axes": len(names), "macs": graph.shares(names).macs}
            for family, names in families.items()
        ],
        "axes": [_described(axis) for axis in graph.axes.values()],
        "branches": [{"container": branch.container, "blocks": list(branch.blocks)} for branch in graph.branches],
        "unknown": [{"op": op, "where": where} for op, where in graph.unknown],
    }
    shown = [_members(document)] if members else [_table(document)]
    return Answer(document, Group(_costs(document), Text(), *shown, *_rest(document)))


def _described(axis: Axis) -> Row:
    members = [{"tensor": member.tensor, "role": member.role, "dim": member.dim} for member in axis.members]
    facts = {"name": axis.name, "size": axis.size, "family": axis.family, "exact": axis.exact}
    return facts | {"normalisers": list(axis.normalisers), "frozen": axis.frozen, "members": members}


def _costs(document: Row) -> RenderableType:
    from pomona.report.units import count, share, size

    params, macs, activations = count(document["params"]), count(document["macs"]), size(document["activation_bytes"])
    peak = size(document["peak_bytes"])
    part = {name: share(value) for name, value in document["prunable"].items()}
    return Group(
        Text(f"{params} parameters, {macs} MACs, {activations} of activations, {peak} at once", "bold"),
        Text(
            f"Can be pruned: {part['params']} of the parameters, {part['macs']} of the MACs; "
            f"{part['macs_two_factors']} along two of their factors, which {part['macs_two_widths']} have, "
            f"{part['macs_exact']} exactly."
        ),
    )


def _table(document: Row) -> Table:
    """A row for axes whose names differ in numbers only, under a row for their family."""
    from pomona.report.caveats import listed
    from pomona.report.units import share

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for heading in ("axes", "units", "tensors", "MACs", ""):
        table.add_column(heading, justify="left" if heading in ("axes", "") else "right")
    for family in document["families"]:
        table.add_row(Text(family["goal"], "bold green"), "", "", share(family["macs"]), "")
        for name, axes in _alike(a for a in document["axes"] if a["family"] == family["family"] and not a["frozen"]).items():
            over = list(dict.fromkeys(place for axis in axes for place in axis["normalisers"]))
            many = Text(f"  {name}") + Text(f"  × {len(axes)}" if len(axes) > 1 else "", "dim")
            sizes, tensors = _span(a["size"] for a in axes), _span(len(a["members"]) for a in axes)
            table.add_row(many, sizes, tensors, "", Text(f"approximate: {listed(over, 2)}" if over else "exact", "dim"))
    return table


def _alike(axes: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for axis in axes:
        groups.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", axis["name"]), []).append(axis)
    return {group[0]["name"] if len(group) == 1 else name: group for name, group in groups.items()}


def _span(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return str(found[0]) if len(found) == 1 else f"{found[0]}–{found[-1]}"


def _members(document: Row) -> Tree:
    tree = Tree(Text(document["model"], "bold"))
    for family in document["families"]:
        branch = tree.add(Text(f"{family['goal']}: {family['axes']} coupled groups", "green"))
        for axis in (a for a in document["axes"] if a["family"] == family["family"] and not a["frozen"]):
            over = f"  (approximate: {', '.join(axis['normalisers'])})" if axis["normalisers"] else ""
            node = branch.add(Text(f"{axis['name']}  {axis['size']} units in {len(axis['members'])} tensors{over}"))
            for member in axis["members"]:
                dim = "" if member["dim"] is None else f" dim {member['dim']}"
                node.add(Text(f"{member['tensor']}  {member['role']}{dim}", "dim"))
    return tree


def _rest(document: Row) -> list[Text]:
    """Blocks that can go, what is frozen and why, ops that nobody knows."""
    blocks = [
        Text(f"{run['container'] or run['blocks'][0]}: {len(run['blocks'])} blocks can be left out", "green")
        for run in document["branches"]
    ]
    frozen = [axis for axis in document["axes"] if axis["frozen"]]
    why = [
        Text(f"frozen: {reason}: ", "yellow") + Text(_named([a for a in frozen if a["frozen"] == reason]))
        for reason in dict.fromkeys(axis["frozen"] for axis in frozen)
    ]
    unknown = [Text(f"no rule for {entry['op']}: {entry['where']}", "red") for entry in document["unknown"]]
    return [line for part in (blocks, why, unknown) if part for line in (Text(), *part)]


def _named(axes: Sequence[Row]) -> str:
    return ", ".join(f"{name} ({_span(a['size'] for a in group)})" for name, group in _alike(axes).items())
