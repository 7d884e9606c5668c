"""Block by block: the same as at once where no data is read, and truly one after the other where it is."""

from copy import deepcopy

import pytest
import torch

import language
from pomona import registry
from pomona.engines import oneshot, sequential
from pomona.engines.blocks import chains, seen_by
from pomona.engines.decide import Ground
from pomona.engines.prices import price
from pomona.graph import survey
from pomona.structures import narrowed
from pomona.vocabulary import Batch, Goal

LISTS = {
    "llama": [("model.layers", 3)],
    "gemma3": [("model.layers", 3)],
    "gpt2": [("transformer.h", 3)],
    "opt": [("model.decoder.layers", 3)],
    "bert": [("encoder.layer", 3)],
    "t5": [("encoder.block", 2), ("decoder.block", 2)],
    "bart": [("model.encoder.layers", 2), ("model.decoder.layers", 2)],
    "whisper": [("model.encoder.layers", 2), ("model.decoder.layers", 2)],
}


def ground_of(name, method, goal="sparsity=0.5"):
    model, data = language.model(name)
    graph = survey(model, (), {**data[0], **({} if name == "bert" else {"use_cache": False})})
    found = chains(model, graph)
    recipe = registry.recipe(method)
    recipe = recipe.but(structure=narrowed(recipe.structure, [chain.container for chain in found]))
    sites, wish = tuple(recipe.structure.sites(graph)), Goal.parse(goal)
    return (
        model,
        [Batch.of(d) for d in data],
        found,
        Ground(recipe, sites, price(wish, seen_by(graph, sites, found), sites, recipe.structure), wish),
    )


@pytest.mark.parametrize("name", LISTS)
def test_the_lists_of_blocks_are_found_in_the_order_in_which_they_run(name):
    _, _, found, _ = ground_of(name, "magnitude")
    assert [(chain.container, len(chain.blocks)) for chain in found] == LISTS[name]


@pytest.mark.parametrize("method", ["magnitude", "magnitude_uniform", "lamp", "erk", "random"])
def test_methods_that_read_no_data_cut_the_same_as_at_once(method):
    model, batches, found, ground = ground_of("llama", method)
    ours = sequential.run(model, ground, found, batches=batches).plan
    theirs = oneshot.run(model, ground, batches=batches).plan
    assert all(torch.equal(ours.keep(name), theirs.keep(name)) for name in theirs.sites)


def by_hand(model, batches, found, ground):
    """Wanda block after block: the whole model, cut so far, runs up to each weight; hooks take the norms."""
    model, masks = deepcopy(model), {}
    for block in (block for chain in found for block in chain.blocks):
        names = [site.name for site in ground.sites if site.name.startswith(f"{block}.")]
        squares = {name: 0.0 for name in names}

        def reading(name):
            def hook(module, args):
                squares[name] = squares[name] + visible(args[0], batch).double().square().sum(0)

            return hook

        handles = [model.get_submodule(name.removesuffix(".weight")).register_forward_pre_hook(reading(name)) for name in names]
        with torch.no_grad():
            for batch in batches:
                model(**batch.kwargs)
            for handle in handles:
                handle.remove()
            for name in names:
                weight, site = model.get_parameter(name), next(s for s in ground.sites if s.name == name)
                turned = weight.T if site.weight.in_dim == 0 else weight  # GPT-2 stores its matrices the other way round
                score = turned.abs() * squares[name].sqrt().float()
                worst = score.argsort(dim=1, stable=True)[:, : score.shape[1] // 2]
                keep = torch.ones_like(score, dtype=torch.bool).scatter_(1, worst, False)
                masks[name] = keep.T if site.weight.in_dim == 0 else keep
                weight.mul_(masks[name])
    return model, masks


def visible(x, batch):
    mask = batch.kwargs.get("attention_mask")
    hidden = mask is not None and x.dim() == 3 and mask.shape == x.shape[:2]
    return x[mask.bool()] if hidden else x.reshape(-1, x.shape[-1])


@pytest.mark.parametrize("name", LISTS)
def test_every_block_is_judged_by_what_the_cut_blocks_before_it_give(name):
    model, batches, found, ground = ground_of(name, "wanda")
    before = deepcopy(model.state_dict())
    outcome = sequential.run(model, ground, found, batches=batches)
    cut, masks = by_hand(model, batches, found, ground)
    at_once = oneshot.run(model, ground, batches=batches).plan
    assert all(torch.equal(outcome.plan.keep(site), keep) for site, keep in masks.items())
    assert all(torch.equal(a, b) for a, b in zip(outcome.model.parameters(), cut.parameters(), strict=True))
    assert any(not torch.equal(at_once.keep(site), keep) for site, keep in masks.items())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
