"""What a run will take is told by parts that grow with what they stand for."""

from dataclasses import replace

import pytest
import torch

import language
from pomona import registry
from pomona.engines.blocks import chains, seen_by
from pomona.engines.decide import Ground
from pomona.engines.estimate import estimate
from pomona.engines.prices import price
from pomona.graph import survey
from pomona.structures import narrowed
from pomona.vocabulary import Batch, Goal, InputError


@pytest.fixture(scope="module")
def told():
    model, data = language.model("llama")
    graph = survey(model, (), {**data[0], "use_cache": False})
    found = chains(model, graph)

    def of(method, rows=2, length=12, passes=3):
        recipe, wish = registry.recipe(method), Goal.parse("sparsity=0.5")
        recipe = recipe.but(structure=narrowed(recipe.structure, [chain.container for chain in found]))
        sites = tuple(recipe.structure.sites(graph))
        ground = Ground(recipe, sites, price(wish, seen_by(graph, sites, found), sites, recipe.structure), wish)
        piece = Batch(kwargs={"input_ids": torch.zeros(rows, length, dtype=torch.long)})
        return estimate(ground, found, graph, piece, passes)

    return of


def test_known_parts_are_counted_exactly(told):
    wanda = told("wanda")
    attention, mlp, norms = 32 * 32 * 2 + 32 * 16 * 2, 3 * 32 * 48, 2 * 32
    assert wanda.block == 4 * (attention + mlp + norms) + 4 * 32 * 48
    assert wanda.outside == 4 * 64 * 32
    assert wanda.statistics == 8 * (3 * 32 + 48)  # what reads one tensor shares them
    assert wanda.handed == 4 * 2 * 12 * 32 and wanda.passes == 3
    grams = 8 * (3 * 32**2 + 48**2)  # queries, keys and values share one, gates and the way up another
    assert told("sparsegpt").statistics == wanda.statistics + grams  # it proposes as Wanda does
    living, largest = 2 * (attention + mlp) + 4 * (attention + mlp), 32 * 48
    own = registry.recipe("sparsegpt").solver.working
    solving = living + grams + own.weight * largest + int(own.gram * 8 * 48**2)
    assert told("sparsegpt").deciding == max(solving, 5 * (attention + mlp) + 12 * largest)


def test_longer_sequences_take_more_and_data_free_methods_run_nothing(told):
    short, long = told("wanda"), told("wanda", length=24)
    assert long.running == 2 * short.running and long.handed == 2 * short.handed and long.block == short.block
    magnitude = told("magnitude_uniform")
    assert magnitude.running == magnitude.handed == magnitude.passes == magnitude.outside == 0
    assert told("magnitude").settling > magnitude.settling
    assert told("owl").settling == told("wanda").settling  # shares of outliers, and no scores


def test_a_limit_is_met_or_refused_with_the_least_that_will_do(told):
    wanda = told("wanda", passes=5)
    assert wanda.most(wanda.least) == wanda.least and wanda.most(10**12) == wanda.least + 5 * wanda.handed
    assert wanda.room(wanda.least) == 0 and "go to disk" in wanda.sentence(wanda.least)
    assert "go to disk" not in wanda.sentence(wanda.least + 5 * wanda.handed)
    with pytest.raises(InputError, match=rf"takes at least {wanda.least / 1e6:.0f} MB"):
        wanda.room(wanda.least - 1)
    assert replace(wanda, block=wanda.block + 10**9).least > wanda.least + 10**9
