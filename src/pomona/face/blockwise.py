"""Whether a run goes block by block, and through which blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from pomona.engines.blocks import Chain, chains, parted
from pomona.engines.sequential import needs_of, why_not
from pomona.face.wish import sites_of
from pomona.graph import Graph
from pomona.probes.forward import Forward
from pomona.structures import narrowed
from pomona.vocabulary import Goal, InputError, Recipe


@dataclass(frozen=True)
class Way:
    """The chains of blocks to go through, and the recipe with its structure bound to them."""

    chains: tuple[Chain, ...]
    recipe: Recipe

    @property
    def blocks(self) -> list[str]:
        """All blocks, in order."""
        return [block for chain in self.chains for block in chain.blocks]

    @property
    def told(self) -> str:
        """What the user should read."""
        lists = " and ".join(f"the {len(chain.blocks)} blocks of {chain.container}" for chain in self.chains)
        return f"Pruned block by block, {lists}: each is judged by what the pruned ones before it give."


@dataclass(frozen=True)
class Course:
    """What the user says about it: block by block or not, the layers of a block one by one or together, the lists of blocks."""

    sequential: bool | None = None
    true_sequential: bool = False
    blocks: Sequence[str] = ()


def way(model: nn.Module, graph: Graph, recipe: Recipe, goal: Goal | None, course: Course) -> Way | None:
    """The way through the blocks, or None for the whole model at once.

    Left to itself (`sequential` is None), a recipe that reads activations goes through the blocks that a module list holds. What
    lies outside of them stays whole, unless the structure names it. Raises InputError where blocks are asked for and there are
    none, or where the recipe cannot go through them; and where it can go no other way, but this one is barred.
    """
    if course.sequential is False:
        if course.blocks:
            raise InputError("Blocks were named and sequential is off; leave one of them out.")
        if "beside" in recipe.needs:
            raise InputError(
                "This recipe compares blocks with those of the dense model; leave out --no-sequential (sequential=)."
            )
        if course.true_sequential:
            raise InputError("A run is true sequential or not sequential at all; leave one of the two out.")
        return None
    wish = goal or Goal("sparsity", 0.5)
    if course.sequential or course.true_sequential or course.blocks or "beside" in recipe.needs:
        if (why := why_not(recipe, wish)) is not None:
            raise InputError(f"This recipe cannot go block by block: {why}; use --no-sequential (sequential=False).")
        found = _bound(recipe, graph, chains(model, graph, course.blocks))
        if course.true_sequential and not _layerwise(found.recipe, graph, wish):
            raise InputError("--true-sequential (true_sequential=) is for weights that are judged by what they read.")
        return found
    if why_not(recipe, wish) is not None or not needs_of(recipe, wish) or not _lists(model):
        return None
    try:
        return _bound(recipe, graph, chains(model, graph))
    except InputError:  # whole blocks, the residual stream, experts of one list: the engine for the whole model does those
        return None


def _layerwise(recipe: Recipe, graph: Graph, goal: Goal) -> bool:
    """Whether sites are single weights and all that is gathered is what they read."""
    reading = all(isinstance(need.probe, Forward) for need in needs_of(recipe, goal))
    return reading and all(site.weight is not None for site in sites_of(recipe.structure, graph))


def _lists(model: nn.Module) -> bool:
    return any(isinstance(module, nn.ModuleList) and len(module) > 1 for module in model.modules())


def _bound(recipe: Recipe, graph: Graph, found: tuple[Chain, ...]) -> Way:
    """With sites in the blocks only, unless the structure says itself where."""
    if not getattr(recipe.structure, "only", ()):
        recipe = recipe.but(structure=narrowed(recipe.structure, [chain.container for chain in found]))
    parted(sites_of(recipe.structure, graph), [block for chain in found for block in chain.blocks])
    return Way(found, recipe)
