"""Laws of every structure, found through the registry; a structure without an example here fails."""

from itertools import combinations

import pytest
import torch

from papergraph import graph
from pomona import registry
from pomona.structures.axes import Axes
from pomona.structures.block import Block
from pomona.structures.kernels import Kernels
from pomona.structures.layers import Layers
from pomona.structures.n_m import NM
from pomona.structures.narrow import narrowed
from pomona.structures.union import Union
from pomona.structures.weights import Weights
from pomona.vocabulary import InputError, Scores, Structure

EXAMPLES = [
    Weights(),
    Weights(biases=True, embeddings=True),
    NM(2, 4),
    NM(1, 2),
    Block(4, 1),
    Block(5, 3),
    Kernels(),
    Axes(),
    Axes(("channel", "width")),
    Layers(),
    Union((Axes(), Layers())),
    Union((NM(only=("fc",)), Weights(only=("conv*",)))),
]
CASES = [(s, site) for s in EXAMPLES for site in s.sites(graph())]
FREE = [(s, site) for s, site in CASES if s.feasible(site) is None]  # n:m: a permutation moves units between groups
each = pytest.mark.parametrize(("structure", "site"), CASES, ids=lambda x: getattr(x, "name", str(x)))


def drawn(site, seed=0):
    return torch.randn(site.shape, generator=torch.Generator().manual_seed(seed))


def counts(structure, site):
    only = structure.feasible(site)
    return [only, site.units] if only is not None else sorted({0, 1, site.units // 3, site.units - 1, site.units})


def test_every_structure_has_an_example():
    assert {type(e).__name__ for e in EXAMPLES} == set(registry.parts("structures"))
    assert all(isinstance(e, Structure) for e in EXAMPLES)


@each
def test_select_keeps_exactly_the_count(structure, site):
    for keep in counts(structure, site):
        mask = structure.select(site, Scores(drawn(site)), torch.tensor(keep))
        assert mask.dtype == torch.bool and mask.shape == site.shape and int(mask.sum()) == keep


@each
def test_ties_go_to_the_lower_index_and_are_counted_exactly(structure, site):
    for keep in counts(structure, site):
        mask = structure.select(site, Scores(torch.zeros(site.shape)), torch.tensor(keep))
        assert int(mask.sum()) == keep
        if structure.feasible(site) is None:
            assert mask.flatten()[:keep].all()


@each
def test_no_swap_of_a_kept_and_a_dead_unit_is_feasible_and_better(structure, site):
    scores, keep = drawn(site), counts(structure, site)[-2]
    mask = structure.select(site, Scores(scores), torch.tensor(keep))
    if structure.feasible(site) is None:
        assert not (0 < keep < site.units) or scores[mask].min() >= scores[~mask].max()
    else:  # the same mask must come out when scores are pushed further apart: it was the best of its group
        assert torch.equal(structure.select(site, Scores(scores + mask), torch.tensor(keep)), mask)


@pytest.mark.parametrize(("structure", "site"), FREE, ids=lambda x: getattr(x, "name", str(x)))
def test_permuting_units_permutes_the_choice(structure, site):
    order = torch.randperm(site.units, generator=torch.Generator().manual_seed(3))
    scores, keep = drawn(site).flatten(), torch.tensor(site.units // 2)
    straight = structure.select(site, Scores(scores.view(site.shape)), keep).flatten()
    shuffled = structure.select(site, Scores(scores[order].view(site.shape)), keep).flatten()
    assert torch.equal(shuffled, straight[order])


@each
def test_an_order_is_obeyed(structure, site):
    order = drawn(site).flatten().argsort().argsort().view(site.shape)
    keep = torch.tensor(counts(structure, site)[-2])
    by_order = structure.select(site, Scores(torch.zeros(site.shape), order), keep)
    assert torch.equal(by_order, structure.select(site, Scores(order.float()), keep))


@each
def test_reducing_an_expanded_mask_gives_the_mask_back(structure, site):
    keep = structure.select(site, Scores(drawn(site)), torch.tensor(counts(structure, site)[-2]))
    masks = structure.expand(site, keep)
    assert set(masks) == {m.tensor for m in site.members if not m.buffer}
    shapes = {m.tensor: m.shape for m in site.members}
    full = {name: mask.expand(shapes[name]).float() for name, mask in masks.items()}
    for how in ("mean", "max"):
        assert torch.equal(structure.reduce(site, full, how=how).round(decimals=5).bool(), keep)


@each
def test_sums_lose_nothing(structure, site):
    ones = {m.tensor: torch.ones(m.shape) for m in site.members if not m.buffer}
    taken = [m for m in site.members if m.role in ("self", "out")]
    assert structure.reduce(site, ones).sum() == sum(ones[m.tensor].numel() for m in taken)


@pytest.mark.parametrize("structure", [Weights(), NM(1, 2), NM(2, 4), Block(2, 1), Block(1, 3)], ids=str)
def test_on_tiny_grids_select_is_the_best_of_all_feasible_masks(structure):
    from papergraph import PaperGraph, linear

    site = structure.sites(PaperGraph({"w": linear("w", 2, 4)}))[0]
    keep = structure.feasible(site) or 2
    scores = drawn(site, seed=5)
    best = max(
        float(scores.flatten()[list(some)].sum())
        for some in combinations(range(site.units), keep)
        if _feasible(structure, site, some)
    )
    chosen = structure.select(site, Scores(scores), torch.tensor(keep))
    assert float(scores[chosen].sum()) == pytest.approx(best)


def _feasible(structure, site, some):
    if structure.feasible(site) is None:
        return True
    mask = torch.zeros(site.units)
    mask[list(some)] = 1
    return bool((mask.view(-1, structure.m).sum(1) == structure.n).all())


@pytest.mark.parametrize("structure", EXAMPLES, ids=str)
def test_every_structure_can_be_narrowed_and_keeps_to_it(structure):
    # The narrowed structure makes the sites that it was not told to keep, knows them again, and no others.
    whole = {name: site for site in structure.sites(graph()) for name in [site.name]}
    first = next(iter(whole.values()))
    if first.kind == "branch":
        within = narrowed(structure, keep=[first.blocks[0]])
        assert first.blocks[0] not in {block for site in within.sites(graph()) for block in site.blocks}
        return
    if len(whole) == 1:
        with pytest.raises(InputError, match="Nothing is left"):
            narrowed(structure, keep=[first.name]).sites(graph())
        return
    within = narrowed(structure, keep=[first.name])
    assert [site.name for site in within.sites(graph())] == [name for name in whole if name != first.name]
    assert not within.owns(first) and all(within.owns(site) for site in within.sites(graph()))
    assert narrowed(structure) == structure


@pytest.mark.parametrize("structure", EXAMPLES, ids=str)
def test_what_is_pruned_exactly_has_no_normaliser(structure):
    assert all(site.axis is None or site.axis.exact for site in narrowed(structure, exact=True).sites(graph()))
