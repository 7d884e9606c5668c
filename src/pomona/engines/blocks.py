"""The blocks that a model runs one after the other: its repeated module lists, found without knowing any architecture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from torch import nn

from pomona.graph import Graph as Traced
from pomona.vocabulary import Graph, InputError, Site, Weight


class NotByBlocks(InputError):
    """The model cannot go block by block: `why`; what to do instead depends on who asked for that."""

    def __init__(self, why: str, instead: str = "use --no-sequential (sequential=False)") -> None:
        super().__init__(f"{why}; {instead}.")
        self.why = why


@dataclass(frozen=True)
class Chain:
    """Sibling blocks that hand on hidden states, in the order in which they run: `container` is `model.layers`, say."""

    container: str
    blocks: tuple[str, ...]


def chains(model: nn.Module, graph: Graph, named: Sequence[str] = ()) -> tuple[Chain, ...]:
    """The lists of blocks of a model in the order in which they first run; those that are `named` where any are.

    A list of blocks is an outermost `nn.ModuleList` whose entries all hold matrices and run once, or what the trace found to be
    a run of blocks that hand on what they were given plus something. Raises InputError where there is none, or where a name
    is no container.
    """
    found = [_named(model, graph, name) for name in named] if named else _found(model, graph)
    if not found:
        raise NotByBlocks(
            f"{type(model).__name__} has no list of blocks that run one after the other, each once",
            "name it with --blocks model.layers (blocks= in Python), or prune the whole model at once with --no-sequential "
            "(sequential=False)",
        )
    place = {name: number for number, name in enumerate(graph.weights)}  # in the order of first use
    first = {chain: min(place[w] for block in chain.blocks for w in inside(graph.weights, block)) for chain in found}
    return tuple(sorted(found, key=lambda chain: first[chain]))


def seen_by(graph: Traced, sites: Sequence[Site], chains: Sequence[Chain]) -> Traced:
    """The graph as `sparsity` should count it: the weights of the blocks, and whatever else is pruned.

    The papers count so: a head that nobody prunes must not make the blocks pay for it.
    """
    asked = {member.tensor for site in sites for member in site.members}
    blocks = [block for chain in chains for block in chain.blocks]
    there = {name for block in blocks for name in inside(graph.weights, block)} | asked
    return replace(graph, weights={name: weight for name, weight in graph.weights.items() if name in there})


def inside(names: Collection[str], block: str) -> list[str]:
    """Those of the names that lie in the module `block`."""
    return [name for name in names if name.startswith(f"{block}.")]


def parted(sites: Sequence[Site], blocks: Sequence[str]) -> tuple[dict[str, list[Site]], list[Site]]:
    """(block -> the sites that act in it alone, the sites that act in no block).

    Raises InputError on a site that reaches over several blocks: it cannot be decided in one of them.
    """
    within: dict[str, list[Site]] = {block: [] for block in blocks}
    outside = []
    for site in sites:
        tensors = [member.tensor for member in site.members]
        touched = [block for block in blocks if inside(tensors, block)]
        if not touched:
            outside.append(site)
        elif len(touched) == 1 and len(inside(tensors, touched[0])) == len(tensors) and site.kind != "branch":
            within[touched[0]].append(site)
        else:
            raise NotByBlocks(
                f"{site.name} reaches beyond one block ({', '.join(touched[:2])}), so it cannot be decided block by block",
                "use --no-sequential (sequential=False), or prune what lies within blocks",
            )
    return within, outside


def _found(model: nn.Module, graph: Graph) -> list[Chain]:
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    found: list[Chain] = []
    for name in lists:
        blocks = _children(model, name)
        if not _within(name, found) and len(blocks) > 0 and all(_runs_once(graph.weights, block) for block in blocks):
            found.append(Chain(name, blocks))
    # Lists whose blocks are of one kind are what a network repeats; a list of unlike parts (heads, stems) beside them is not.
    found = [chain for chain in found if len(chain.blocks) > 1] or found
    if found:
        return found
    return [Chain(branch.container, branch.blocks) for branch in graph.branches if len(branch.blocks) > 1]


def _within(name: str, found: Sequence[Chain]) -> bool:
    return any(name.startswith(f"{chain.container}.") for chain in found)


def _children(model: nn.Module, container: str) -> tuple[str, ...]:
    """The children of a module; where it lists lists, which nobody calls, those of these."""
    prefix, owner = f"{container}." if container else "", model.get_submodule(container)
    found: list[str] = []
    for child, module in owner.named_children():
        nested = isinstance(owner, nn.ModuleList) and isinstance(module, nn.ModuleList)
        found += _children(model, prefix + child) if nested else [prefix + child]
    return tuple(found)


def _runs_once(weights: Mapping[str, Weight], block: str) -> bool:
    """Whether it holds matrices, not all of which are read again and again in one forward pass (as ALBERT does)."""
    calls = [weights[name].calls for name in inside(weights, block) if weights[name].prunable]
    return min(calls, default=0) == 1


def _named(model: nn.Module, graph: Graph, name: str) -> Chain:
    modules = dict(model.named_modules())
    if name not in modules:
        close = get_close_matches(name, list(modules), 1)
        raise InputError(f"The model has no module '{name}'{f'; did you mean {close[0]}' if close else ''}.")
    blocks = tuple(block for block in _children(model, name) if _runs_once(graph.weights, block))
    if not blocks or not _listed(modules[name], [modules[block] for block in blocks]):
        raise InputError(f"{name} is no list of blocks that run one after the other, each once; {_near(model, graph, name)}.")
    return Chain(name, blocks)


def _listed(container: nn.Module, blocks: Sequence[nn.Module]) -> bool:
    """Whether these are the entries of a list, or alike; attention and what follows it are the parts of one block."""
    called = not any(isinstance(block, nn.ModuleList) for block in blocks)
    return called and (isinstance(container, (nn.ModuleList, nn.Sequential)) or len({type(block) for block in blocks}) == 1)


def _near(model: nn.Module, graph: Graph, name: str) -> str:
    lists = [chain.container for chain in _found(model, graph)]
    close = [one for one in lists if one.startswith(f"{name}.") or name.startswith(f"{one}.")]
    return f"did you mean {close[0]}" if close else f"name one like {lists[0] if lists else 'model.layers'}"
