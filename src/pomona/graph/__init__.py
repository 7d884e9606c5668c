"""The model as a graph of coupled axes, inferred from its exported program."""

from pomona.graph.costs import Costs
from pomona.graph.graph import Graph, trace
from pomona.graph.infer import Release
from pomona.graph.shares import Shares, shares
from pomona.graph.untraced import survey

__all__ = ["Costs", "Graph", "Release", "Shares", "shares", "survey", "trace"]
