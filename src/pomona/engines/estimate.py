"""How much memory a run block by block takes, told before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pomona.engines.blocks import Chain, inside, parted
from pomona.engines.decide import Ground
from pomona.engines.memory import told
from pomona.engines.sequential import needs_of
from pomona.graph import Graph
from pomona.graph.nodes import tensor_names
from pomona.vocabulary import Batch, Digesting, InputError, Seen, Site, Statistic, Weight, Working
from pomona.vocabulary.layout import matrix_shape, product_shape

_OVERHEAD = 100_000_000  # the traced graph, buffers of the matrix kernels, what the allocator keeps
_SPARE = 1.1
_SCORED = 5  # bytes for each unit: its score, and whether it stays
_SCORING = Working(24, 0.0)  # what criteria take that say nothing else
_HELD = 3  # outputs of one pass in memory at once: what is read, what may be written to between blocks, what is made


@dataclass(frozen=True)
class Estimate:
    """Bytes at the most, by what they are for. `handed` is what a block gives in one pass, of which there are `passes`."""

    outside: int
    block: int
    statistics: int
    running: int
    deciding: int
    writing: int
    settling: int
    handed: int
    passes: int

    @property
    def fixed(self) -> int:
        """What no budget changes."""
        working = self.outside + self.block + max(self.statistics + max(self.running, self.deciding), self.writing)
        return int(_SPARE * max(working, self.settling)) + _OVERHEAD

    @property
    def least(self) -> int:
        """The least that will do."""
        return self.fixed + _HELD * self.handed

    def room(self, limit: int) -> int:
        """How many bytes of what blocks give may stay in memory; raises InputError where the limit is too low for any."""
        if limit < self.least:
            raise InputError(
                f"{told(limit)} of memory will not do: this run takes at least {told(self.least)} ({self}); raise --max-memory, "
                "or give shorter sequences with --length."
            )
        return limit - self.least

    def most(self, limit: int) -> int:
        """What the run takes at the most where it may take `limit`: room is not used that is not needed."""
        return self.least + min(self.room(limit), self.handed * self.passes)

    def sentence(self, limit: int) -> str:
        """What the user should know before the run starts."""
        kept = self.most(limit) - self.least
        rest = self.handed * self.passes - kept
        there = f"; of what blocks give, {told(kept)} stay in memory" + (f" and {told(rest)} go to disk" if rest else "")
        return f"At most {told(self.most(limit))} of memory, of {told(limit)} allowed: {self}{there if self.passes else ''}."

    def __str__(self) -> str:
        parts = {
            "outside the blocks": self.outside,
            "for a block": self.block,
            "for statistics": self.statistics,
            "to run it": self.running,
            "to decide": self.deciding,
            "to write it": self.writing,
            "to share out what stays": self.settling,
            "for the program": _OVERHEAD,
        }
        return ", ".join(f"{told(size)} {what}" for what, size in parts.items() if size)


def estimate(
    ground: Ground, chains: Sequence[Chain], graph: Graph, piece: Batch | None, passes: int, stored: int = 4
) -> Estimate:
    """What a run takes whose weights stream, in float32, from values of `stored` bytes; `piece` is what one pass is given."""
    weights, reads = graph.weights, _reads(graph)
    order = [block for chain in chains for block in chain.blocks]
    within, _ = parted(ground.sites, order)
    of_block = {block: [weights[name] for name in inside(weights, block)] for block in order}
    needs = needs_of(ground.recipe, ground.goal)
    tokens = _tokens(piece) if piece is not None and needs else 0
    every = [weight for found in of_block.values() for weight in found if weight.prunable]
    dense = "beside" in ground.recipe.needs  # a second copy of the block, and of all that is run and handed on
    width = Counter(matrix_shape(weight)[1] for weight in every).most_common(1)[0][0]
    return Estimate(
        outside=sum(4 * weight.size for weight in _before(weights, order)) if needs else 0,
        block=max(
            4 * (1 + dense) * sum(w.size for w in found) + stored * max(w.size for w in found) for found in of_block.values()
        ),
        statistics=max(sum(_states(needs, sites, reads)) for sites in within.values()),
        running=(1 + dense) * max(_running(found, tokens, width) for found in of_block.values()),
        deciding=max(_deciding(ground, sites, reads) for sites in within.values()),
        writing=max(stored * sum(w.size for w in found) for found in of_block.values()),
        settling=_settling(ground),
        handed=4 * (1 + dense) * tokens * width,
        passes=passes if tokens else 0,
    )


def _before(weights: Mapping[str, Weight], order: Sequence[str]) -> list[Weight]:
    """What lies outside of the blocks and is used before the last of them: weights come in the order of first use."""
    names = list(weights)
    last = max(names.index(name) for name in inside(weights, order[-1]))
    return [weights[name] for name in names[:last] if not any(name.startswith(f"{block}.") for block in order)]


def _running(weights: Iterable[Weight], tokens: int, width: int) -> int:
    """All that the matrices of a block read and write, and one of them in float64 with its square, as statistics take it."""
    shapes = [matrix_shape(weight) for weight in weights if weight.prunable]
    widest = max(columns for _, columns, _ in shapes)
    return tokens * (4 * (sum(rows for rows, _, _ in shapes) + 6 * width + 2 * widest) + 16 * widest)


def _deciding(ground: Ground, sites: Sequence[Site], reads: Mapping[str, Hashable]) -> int:
    """Scores of a block and who stays, then what a solver makes of it; besides, what the largest weight takes meanwhile.

    Scores are gone when solvers begin. These keep a root of every gram as long as the gram is there.
    """
    if not sites:
        return 0
    criterion, solver = ground.recipe.criterion, ground.recipe.solver
    units = sum(site.units for site in sites)
    scoring = _SCORED * units + _working(getattr(criterion, "working", _SCORING), criterion.needs, sites)
    if solver is None:
        return scoring
    solving = 2 * units + 4 * sum(map(_elements, sites)) + sum(_states(solver.needs, sites, reads))
    return max(scoring, solving + _working(getattr(solver, "working", Working()), solver.needs, sites))


def _working(one: Working, needs: Sequence[Statistic], sites: Sequence[Site]) -> int:
    """Bytes at the largest site."""
    gram = max((_state(need, site) for need in needs for site in sites), default=0)
    return one.weight * max(map(_elements, sites)) + int(one.gram * gram) + one.flat


def _elements(site: Site) -> int:
    return site.weight.size if site.weight else site.units


def _settling(ground: Ground) -> int:
    """What an allocation holds at once: scores and sorted keys of all sites, or, where it reads none, keys of unlike sites."""
    if all(ground.recipe.structure.feasible(site) is not None for site in ground.sites):
        return 0
    if isinstance(ground.recipe.allocation, Digesting) or getattr(ground.recipe.allocation, "blind", False):
        return 4 * sum({site.shape: site.units for site in ground.sites}.values()) + 12 * max(s.units for s in ground.sites)
    return 8 * sum(site.units for site in ground.sites) + 16 * max(site.units for site in ground.sites)


def _states(needs: Sequence[Statistic], sites: Sequence[Site], reads: Mapping[str, Hashable]) -> list[int]:
    """Bytes of all that is accumulated; weights that read one tensor share what can be shared."""
    found: dict[Hashable, int] = {}
    for need in needs:
        for site in sites:
            shared = reads.get(site.weight.tensor) if site.weight and hasattr(need, "alike") else None
            found[need, site.name if shared is None else shared] = _state(need, site)
    return list(found.values())


def _reads(graph: Graph) -> dict[str, Hashable]:
    """Linear weight -> what it reads in the program that was traced, where that is known."""
    if graph.exported is None:
        return {}
    names = tensor_names(graph.program)
    products = (node for node in graph.program.graph.nodes if node.target is torch.ops.aten.linear.default)
    return {names[node.args[1].name]: node.args[0] for node in products if node.args[1].name in names}


def _state(need: Statistic, site: Site) -> int:
    """Bytes that a statistic accumulates for a site: it is run once on tensors that have shapes only."""
    weight = site.weight
    if weight is None:
        return 8 * site.units
    groups, _, columns = product_shape(weight)
    read, value = torch.empty(2, *_least_read(weight), device="meta"), torch.empty(weight.shape, device="meta")
    which = torch.zeros(2, dtype=torch.int64, device="meta")
    seen = Seen(1, {weight.tensor: read}, weights={weight.tensor: value}, experts={weight.tensor: (read, which)})
    try:
        return sum(_size(made) for made in need.update(None, site, seen).values())
    except (RuntimeError, NotImplementedError):  # it looks at values, or at more than that: as if it were a gram matrix
        return 8 * groups * columns**2


def _least_read(weight: Weight) -> tuple[int, ...]:
    """What the smallest example that a weight reads is like: features, or as many positions as a kernel spans."""
    if weight.conv is None or weight.conv.transposed:
        return (matrix_shape(weight)[1],)
    spans = (d * (k - 1) + 1 for d, k in zip(weight.conv.dilation, weight.shape[2:], strict=True))
    return (weight.conv.groups * weight.shape[1], *spans)


def _tokens(piece: Batch) -> int:
    """Positions in one pass: rows times the longest other dimension of what goes in."""
    leaves = [leaf for leaf in tree_leaves((piece.args, dict(piece.kwargs))) if isinstance(leaf, Tensor) and leaf.dim() > 1]
    return max((leaf.shape[0] * max(leaf.shape[1:]) for leaf in leaves), default=1)


def _size(value: Tensor) -> int:
    return value.numel() * value.element_size()
