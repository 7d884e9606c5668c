"""`pomona inspect`: what a model costs, what in it can be pruned, what goes together, and what is frozen and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text
from rich.tree import Tree

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching

if TYPE_CHECKING:
    from pomona.vocabulary import Axis


def inspect(
    model: options.Model,
    input: options.Input = None,
    members: Annotated[bool, typer.Option("--members", help="List every tensor of every coupled group.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Show what MODEL costs and which of its axes can be pruned, with their coupled groups."""
    progress = watching()
    with words.new(None):
        opened = words.open_model(model, input, progress)
        with progress.stage("tracing"):
            graph = pomona.trace(opened.model, opened.args, opened.kwargs)
    costs = graph.costs()
    document = {
        "model": model,
        "params": int(costs.params),
        "macs": int(costs.macs),
        "activation_bytes": int(costs.activation_bytes),
        "families": dict(Counter(axis.family for axis in graph.axes.values() if axis.frozen is None)),
        "axes": [_described(axis) for axis in graph.axes.values()],
        "branches": [{"container": branch.container, "blocks": list(branch.blocks)} for branch in graph.branches],
    }
    return Answer(document, Group(_costs(document), Text(), _tree(document, members)))


def _described(axis: Axis) -> dict[str, Any]:
    members = [{"tensor": member.tensor, "role": member.role, "dim": member.dim} for member in axis.members]
    facts = {"name": axis.name, "size": axis.size, "family": axis.family, "exact": axis.exact, "frozen": axis.frozen}
    return facts | {"members": members}


def _costs(document: dict[str, Any]) -> Text:
    from pomona.report.units import count, size

    params, macs, activations = count(document["params"]), count(document["macs"]), size(document["activation_bytes"])
    return Text(f"{params} parameters, {macs} MACs, {activations} of activations", "bold")


def _tree(document: dict[str, Any], members: bool) -> Tree:
    tree = Tree(Text(document["model"], "bold"))
    free, frozen = [a for a in document["axes"] if not a["frozen"]], [a for a in document["axes"] if a["frozen"]]
    for family, number in document["families"].items():
        branch = tree.add(Text(f"{family}: {number} coupled group{'s' * (number != 1)} can be pruned", "green"))
        for axis in (a for a in free if a["family"] == family):
            _add(branch, axis, members)
    for run in document["branches"]:
        tree.add(Text(f"{run['container']}: {len(run['blocks'])} blocks can be left out", "green"))
    reasons = dict.fromkeys(axis["frozen"] for axis in frozen)
    for reason in reasons:
        names = [f"{axis['name']} ({axis['size']})" for axis in frozen if axis["frozen"] == reason]
        tree.add(Text(f"frozen: {reason}", "yellow")).add(Text(", ".join(names)))
    return tree


def _add(branch: Tree, axis: dict[str, Any], members: bool) -> None:
    approximate = "" if axis["exact"] else "  (a normaliser runs over it: pruning is approximate)"
    node = branch.add(Text(f"{axis['name']}  {axis['size']} units in {len(axis['members'])} tensors{approximate}"))
    for member in axis["members"] if members else ():
        dim = "" if member["dim"] is None else f" dim {member['dim']}"
        node.add(Text(f"{member['tensor']}  {member['role']}{dim}", "dim"))
