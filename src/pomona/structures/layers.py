"""Layers: residual blocks that can be left out, because what enters them also goes round them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pomona.structures.chosen import Emptied, goes_by, known
from pomona.structures.top import best
from pomona.vocabulary import BLOCKS, Branch, Graph, InputError, Member, Scores, Site


@dataclass(frozen=True)
class Layers:
    """Units are sibling blocks that map a tensor to one of the same shape; a dead one is skipped, not zeroed.

    Members are the parameters of each block; a unit's values are those of all parameters under its name. `only` and `keep`
    are names of blocks or glob patterns over them.
    """

    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    spellings: ClassVar[tuple[str, ...]] = ("layers",)

    @classmethod
    def read(cls, text: str) -> Layers | None:
        """`layers` or `blocks`."""
        return cls() if text in (*BLOCKS, "layer") else None

    def __str__(self) -> str:
        return "layers"

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        return site.kind == "branch"

    def sites(self, graph: Graph) -> Sequence[Site]:
        """One site a run of sibling blocks; of every run all may go, but one block of the model stays.

        Raises InputError where there is no block that could go.
        """
        known(graph, *self.only, *self.keep)
        runs = self._wanted(graph.branches)
        last = None if any(branch.rest for branch in runs) else max(runs, key=lambda b: len(b.blocks), default=None)
        if not runs or (last is not None and sum(len(branch.blocks) for branch in runs) == 1):
            raise InputError("The model has no run of blocks that could be left out; prune channels, neurons or weights instead.")
        often = Counter(branch.container for branch in runs)
        return [_site(graph, branch, often[branch.container] == 1, least=int(branch is last)) for branch in runs]

    def _wanted(self, branches: Sequence[Branch]) -> list[Branch]:
        """The runs without the blocks that the patterns leave out; those stay, so all others of a run may go."""
        found = []
        for branch in branches:
            blocks = tuple(b for b in branch.blocks if not self.only or goes_by((b, *BLOCKS), self.only))
            blocks = tuple(b for b in blocks if not goes_by((b, *BLOCKS), self.keep))
            if blocks:
                found.append(replace(branch, blocks=blocks, rest=branch.rest or blocks != branch.blocks))
        if branches and not found:
            raise Emptied(f"No block is left to prune with only={self.only} and keep={self.keep}; loosen the patterns.")
        return found

    def reduce(
        self, site: Site, elements: Mapping[str, Tensor], how: str = "sum", roles: Sequence[str] = ("self", "out")
    ) -> Tensor:
        """The sum, mean or maximum over all given parameters of each block; 0 for a block without any."""
        members = [m for m in site.members if m.role in roles and m.tensor in elements]
        if not members:
            raise InputError(f"No values were given for the parameters of {site.name} in the roles {tuple(roles)}.")
        block = torch.tensor([_block(m.tensor, site.blocks) for m in members])
        if how == "max":
            values = torch.stack([elements[m.tensor].max().float() for m in members])
            return values.new_zeros(site.shape).scatter_reduce(0, block.to(values.device), values, "amax", include_self=False)
        values = torch.stack([elements[m.tensor].float().sum() for m in members])
        block = block.to(values.device)
        total = values.new_zeros(site.shape).index_add(0, block, values)
        if how == "mean":
            counts = values.new_tensor([elements[m.tensor].numel() for m in members])
            total = total / values.new_zeros(site.shape).index_add(0, block, counts).clamp(min=1)
        return total

    def select(self, site: Site, scores: Scores, keep: Tensor) -> Tensor:
        """Exactly `keep` blocks."""
        return best(scores, keep)

    def expand(self, site: Site, keep: Tensor) -> Mapping[str, Tensor]:
        """One bool for each parameter: whether its block lives."""
        return {m.tensor: keep[_block(m.tensor, site.blocks)] for m in site.members}

    def feasible(self, site: Site) -> int | None:
        """Every count will do."""
        return None

    def window(self, site: Site) -> int:
        """Each block is chosen by itself."""
        return 1


def _site(graph: Graph, branch: Branch, alone: bool, least: int) -> Site:
    blocks = branch.blocks
    run = blocks[0] if len(blocks) == 1 else f"{blocks[0]}..{blocks[-1]}"
    name = branch.container if alone and branch.container else run
    members = tuple(Member(w.tensor, "self", shape=w.shape) for w in graph.weights.values() if _block(w.tensor, blocks) >= 0)
    return Site(name, "branch", (len(blocks),), members, blocks=blocks, least=least)


def _block(tensor: str, blocks: Sequence[str]) -> int:
    return next((i for i, block in enumerate(blocks) if tensor.startswith(f"{block}.")), -1)
