"""Small language models with all that a run block by block needs, and what their weights read, by plain hooks."""

import torch

import language
from pomona import registry
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


def norms_of(model, names, batches):
    """Squares of what each weight reads, summed over the tokens of all batches that are no padding."""
    squares, now = {name: 0.0 for name in names}, []

    def reading(name):
        def hook(module, args):
            squares[name] = squares[name] + visible(args[0], now[0]).double().square().sum(0)

        return hook

    handles = [model.get_submodule(name.removesuffix(".weight")).register_forward_pre_hook(reading(name)) for name in names]
    with torch.no_grad():
        for batch in batches:
            now[:] = [batch]
            model(**batch.kwargs)
    for handle in handles:
        handle.remove()
    return squares


def visible(x, batch):
    mask = batch.kwargs.get("attention_mask")
    hidden = mask is not None and x.dim() == 3 and mask.shape == x.shape[:2]
    return x[mask.bool()] if hidden else x.reshape(-1, x.shape[-1])
