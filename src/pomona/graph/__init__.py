"""The model as a graph of coupled axes, inferred from its exported program."""

from pomona.graph.costs import Costs
from pomona.graph.graph import Graph, trace
from pomona.graph.shares import Shares, shares

__all__ = ["Costs", "Graph", "Shares", "shares", "trace"]
