"""The model as a graph of coupled axes, inferred from its exported program."""

from pomona.graph.costs import Costs
from pomona.graph.graph import Graph, trace

__all__ = ["Costs", "Graph", "trace"]
