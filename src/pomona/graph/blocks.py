"""Blocks taken out of their containers, with what counts them mended."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from pomona.graph.masked import dead_blocks
from pomona.vocabulary import Plan


def renamed(name: str, plan: Plan) -> str | None:
    """The name that a tensor or module of the dense model has in the small one; None where its block is gone.

    >>> renamed("layers.2.weight", Plan({}, {}))
    'layers.2.weight'
    """
    gone = dead_blocks(plan)
    if any(name == block or name.startswith(f"{block}.") for block in gone):
        return None
    steps = name.split(".")
    for depth in range(1, len(steps)):
        container = name.split(".")[:depth]
        if steps[depth].isdigit():
            before = [b for b in gone if b.split(".")[:-1] == container and b.split(".")[-1].isdigit()]
            old = int(name.split(".")[depth])
            steps[depth] = str(old - sum(int(b.split(".")[-1]) < old for b in before))
    return ".".join(steps)


def drop_blocks(model: nn.Module, plan: Plan) -> None:
    """Take dead blocks out of their containers, in place, and renumber those that follow.

    Integers by which blocks know their own position (`layer_idx`) follow. A container whose own code calls its blocks by
    name gets identities in their stead.
    """
    by_container: dict[str, set[str]] = {}
    for block in dead_blocks(plan):
        parent, _, key = block.rpartition(".")
        by_container.setdefault(parent, set()).add(key)
    for path, dead in sorted(by_container.items(), reverse=True):  # inner containers first: their names still hold
        _drop(model.get_submodule(path), dead)


def is_list(container: nn.Module) -> bool:
    """Whether blocks can be taken out: a sequence, or one whose children have numbers for names."""
    return isinstance(container, nn.Sequential) or all(key.isdigit() for key in container._modules)


def _drop(container: nn.Module, dead: set[str]) -> None:
    if not is_list(container):
        container._modules.update({key: nn.Identity() for key in dead})
        return
    children = dict(container._modules)
    numbered = all(key.isdigit() for key in children)
    positions = _positions({int(key): child for key, child in children.items() if child is not None}) if numbered else ()
    left = [(key, child) for key, child in children.items() if key not in dead]
    container._modules.clear()
    for number, (key, child) in enumerate(left):
        container._modules[str(number) if numbered else key] = child
        for inside, attribute in positions:
            assert child is not None
            setattr(child.get_submodule(inside), attribute, number)


def _positions(blocks: dict[int, nn.Module]) -> list[tuple[str, str]]:
    """(module within a block, attribute) that holds the block's own number, in every block."""
    if len(blocks) < 2:
        return []
    candidates = [set(_equal_to(block, number)) for number, block in blocks.items()]
    return sorted(set.intersection(*candidates))


def _equal_to(block: nn.Module, number: int) -> Iterator[tuple[str, str]]:
    for path, module in block.named_modules():
        for attribute, value in vars(module).items():
            if type(value) is int and value == number:
                yield path, attribute
