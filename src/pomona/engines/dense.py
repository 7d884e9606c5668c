"""What a run block by block leaves dense although nobody asked for that: matrices of which nobody can tell what they read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from torch import nn

from pomona.engines.blocks import inside
from pomona.engines.capture import ready
from pomona.engines.sweep import Turn
from pomona.probes.recording import recording
from pomona.structures.chosen import wanted
from pomona.structures.elements import element_site
from pomona.training.batches import seeded
from pomona.vocabulary import InputError, Site, Statistic, Structure, Watch, Weight

_LISTED = 8  # names that a note gives
_LITTLE = 0.01  # of the weights of the blocks: less is no matrix worth a word (the decays of a state space)


def unread(turn: Turn, sites: Sequence[Site], needs: Sequence[Statistic]) -> list[str]:
    """The sites, by name, of which one recorded pass of the block's first call does not tell what their weights read."""
    watches = {site.name: Watch.joined(need.watch(site) for need in needs) for site in sites}
    whole = Watch.joined(watches.values())

    def found() -> list[str]:
        with seeded(turn.seed, 1), ready(turn.shell):
            first = next(iter(turn.calls or ()), None)
            if first is None:
                return []
            with recording(turn.shell, Watch(inputs=whole.inputs, experts=whole.experts)) as record:
                turn.shell(*first.args, **first.kwargs)
        silent = _silent(record.calls, whole.inputs) | _silent(record.routed, whole.experts)
        return [name for name, watch in watches.items() if silent & (watch.inputs | watch.experts)]

    return turn.processes.of_first(found)


def overlooked(model: nn.Module, blocks: Sequence[str], sites: Sequence[Site], structure: Structure) -> list[str]:
    """The matrices of the blocks that are no sites since the trace saw no product with them; none where units are not weights.

    Not those that the user's bounds leave out, nor tables; nothing where all of it is next to nothing.
    """
    if any(site.kind != "element" for site in sites):
        return []
    only, keep = getattr(structure, "only", ()), getattr(structure, "keep", ())
    there = {member.tensor for site in sites for member in site.members}
    found = []
    for name in (name for block in blocks for name in inside(dict(model.named_parameters()), block)):
        owner, shape = model.get_submodule(name.rpartition(".")[0]), tuple(model.get_parameter(name).shape)
        alike = Weight(name, "linear", shape, module=type(owner).__name__)
        matrix = sum(length > 1 for length in shape) > 1 and not isinstance(owner, (nn.Embedding, nn.EmbeddingBag))
        if matrix and name not in there and wanted(element_site(alike), only, keep):
            found.append(name)
    return found if _share(model, blocks, found) >= _LITTLE else []


def noted(model: nn.Module, blocks: Sequence[str], names: Collection[str], why: str) -> list[str]:
    """One note on these tensors of the blocks, by their names within a block, alike in all; none where there are none."""
    if not names:
        return []
    within = {name.removeprefix(f"{block}.") for block in blocks for name in names if name.startswith(f"{block}.")}
    listed = ", ".join(sorted(within)[:_LISTED]) + (f" and {len(within) - _LISTED} more" if len(within) > _LISTED else "")
    return [f"These stay dense, {_share(model, blocks, names):.1%} of the weights of the blocks, since {why}: {listed}."]


def _share(model: nn.Module, blocks: Sequence[str], names: Collection[str]) -> float:
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return sum(sizes[name] for name in names) / max(1, sum(sizes[name] for block in blocks for name in inside(sizes, block)))


def _silent(reads: Callable[[str], object], names: Collection[str]) -> set[str]:
    found = set()
    for name in names:
        try:
            reads(name)
        except InputError:  # its words tell the user to skip the weight, which is what is done
            found.add(name)
    return found
