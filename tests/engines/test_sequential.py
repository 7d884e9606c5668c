"""Block by block: the same as at once where no data is read, and truly one after the other where it is."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import language
from pomona import registry
from pomona.allocations.everywhere import Global
from pomona.allocations.owl import Owl
from pomona.engines import oneshot, sequential
from pomona.engines.blocks import chains, parted
from pomona.engines.decide import Ground, counted
from pomona.engines.prices import price
from pomona.engines.sweep import Room
from pomona.graph import survey
from pomona.graph.untraced import untraced
from pomona.structures import narrowed, structure
from pomona.vocabulary import Batch, Goal, InputError
from stepwise import LISTS, ground_of, norms_of


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
        squares = norms_of(model, names, batches)
        with torch.no_grad():
            for name in names:
                weight, site = model.get_parameter(name), next(s for s in ground.sites if s.name == name)
                turned = weight.T if site.weight.in_dim == 0 else weight  # GPT-2 stores its matrices the other way round
                score = turned.abs() * squares[name].sqrt().float()
                worst = score.argsort(dim=1, stable=True)[:, : score.shape[1] // 2]
                keep = torch.ones_like(score, dtype=torch.bool).scatter_(1, worst, False)
                masks[name] = keep.T if site.weight.in_dim == 0 else keep
                weight.mul_(masks[name])
    return model, masks


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


def test_what_lies_outside_the_blocks_is_cut_last_on_what_the_cut_blocks_give():
    model, batches, found, ground = ground_of("llama", "wanda")
    graph = survey(model, (), {**batches[0].kwargs, "use_cache": False})
    recipe = ground.recipe.but(structure=narrowed(ground.recipe.structure, ["model.layers", "lm_head"]))
    sites = tuple(recipe.structure.sites(graph))
    wide = Ground(recipe, sites, price(ground.goal, graph, sites, recipe.structure), ground.goal)
    outcome = sequential.run(model, wide, found, batches=batches)
    entered = []
    handle = outcome.model.lm_head.register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    with torch.no_grad():
        for batch in batches:
            outcome.model(**batch.kwargs)
    handle.remove()
    norms = torch.cat([x.flatten(0, 1) for x in entered]).double().norm(dim=0).float()
    score = model.lm_head.weight.abs() * norms
    keep = torch.ones_like(score, dtype=torch.bool).scatter_(1, score.argsort(dim=1, stable=True)[:, :16], False)
    assert torch.equal(outcome.plan.keep("lm_head.weight"), keep)


def test_an_allocation_that_compares_blocks_is_settled_on_the_dense_model():
    model, batches, found, ground = ground_of("llama", "wanda")
    ground = replace(ground, recipe=ground.recipe.but(allocation=Global()))
    ours, dense = (engine(batches, model, ground, found) for engine in (_by_block, _at_once))
    counts = [{name: int(plan.keep(name).sum()) for name in plan.sites} for plan in (ours, dense)]
    assert counts[0] == counts[1] and len(set(counts[0].values())) > 3
    first = [name for name in dense.sites if "layers.0." in name]
    assert all(torch.equal(ours.keep(name), dense.keep(name)) for name in first if "q_proj" in name)
    assert any(not torch.equal(ours.keep(name), dense.keep(name)) for name in dense.sites)


def test_what_need_not_be_known_of_scores_is_forgotten_block_by_block(monkeypatch):
    model, batches, found, ground = ground_of("llama", "wanda")
    ground = replace(ground, recipe=ground.recipe.but(allocation=Owl(outlier=2.0)))
    held = []
    monkeypatch.setattr(sequential, "counted", lambda *args: held.append(args[3]) or counted(*args))
    ours, dense = (engine(batches, model, ground, found) for engine in (_by_block, _at_once))
    counts = [{name: int(plan.keep(name).sum()) for name in plan.sites} for plan in (ours, dense)]
    assert held == [{}] and counts[0] == counts[1] and len(set(counts[0].values())) > 2


def _by_block(batches, model, ground, found):
    return sequential.run(model, ground, found, batches=batches).plan


def _at_once(batches, model, ground, found):
    return oneshot.run(model, ground, batches=batches).plan


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_outputs_that_lie_on_disk_change_nothing(name, tmp_path):
    model, batches, found, ground = ground_of(name, "wanda")
    plan = sequential.run(model, ground, found, batches=batches, room=Room(3000, tmp_path)).plan
    expected = sequential.run(model, ground, found, batches=batches).plan
    assert any(tmp_path.iterdir()) and all(torch.equal(plan.keep(name), expected.keep(name)) for name in plan.sites)


def test_an_error_of_the_model_is_its_own_and_the_model_comes_back_whole():
    model, _, found, ground = ground_of("gpt2", "wanda")
    forwards = [vars(module).get("forward") for module in model.modules()]
    with pytest.raises(IndexError):
        sequential.run(model, ground, found, batches=[Batch(kwargs={"input_ids": torch.tensor([[999]])})])
    assert forwards == [vars(module).get("forward") for module in model.modules()]


def test_infinite_activations_name_the_block():
    model, batches, found, ground = ground_of("gpt2", "wanda")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.bias.fill_(torch.inf)
    with pytest.raises(InputError, match=r"transformer\.h\.1 gives NaN or infinite numbers for batch 1"):
        sequential.run(model, ground, found, batches=batches)


def test_a_block_that_runs_twice_is_refused():
    class Again(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))

        def forward(self, x):
            for _ in range(2):
                for layer in self.layers:
                    x = x + layer(x).relu()
            return x

    model, x = Again().eval(), torch.randn(2, 4)
    graph = survey(model, (x,))
    for named in ((), ("layers",)):
        with pytest.raises(InputError, match="once"):
            chains(model, graph, named)


def test_sites_that_reach_over_blocks_are_refused():
    model, _, found, _ = ground_of("llama", "magnitude")
    graph = survey(model, (), {"input_ids": language.ids(), "use_cache": False})
    sites = [site for site in structure("axes").sites(graph) if site.axis.family == "width"]
    with pytest.raises(InputError, match="reaches beyond one block"):
        parted(sites, found[0].blocks)


def test_what_a_block_never_calls_stays_dense_and_is_noted():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
            self.table = torch.nn.Parameter(torch.randn(4, 4))

        def forward(self, x, spare):
            return x + (self.spare(x) if spare else self.used(x) * self.table.sum(0))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(Odd() for _ in range(2))

        def forward(self, x, spare=False):
            for layer in self.layers:
                x = layer(x, spare)
            return x

    model, x = Net().eval(), torch.randn(3, 4)
    graph, recipe = untraced(model, "asked"), registry.recipe("wanda")
    found = chains(model, graph)
    sites, goal = tuple(recipe.structure.sites(graph)), Goal.parse("sparsity=0.5")
    ground = Ground(recipe, sites, price(goal, graph, sites, recipe.structure), goal)
    plan = sequential.run(model, ground, found, batches=[Batch((x,))]).plan
    assert {name: int(plan.keep(name).sum()) for name in plan.sites} == {
        **dict.fromkeys(("layers.0.used.weight", "layers.1.used.weight"), 8),
        **dict.fromkeys(("layers.0.spare.weight", "layers.1.spare.weight"), 16),
    }
    notes = plan.provenance["notes"]
    assert len([note for note in notes if note.endswith("on this data: spare.weight.")]) == 1
    assert len([note for note in notes if note.endswith("no product with them: table.")]) == 1


def test_nan_before_the_blocks_is_not_laid_on_the_data():
    model, batches, found, ground = ground_of("gpt2", "wanda")
    with torch.no_grad():
        model.transformer.wpe.weight.fill_(torch.nan)
    with pytest.raises(InputError, match=r"The input of transformer\.h\.0 is NaN or infinite for batch 1"):
        sequential.run(model, ground, found, batches=batches)


class Nested(torch.nn.Module):
    """Lists of lists of layers, as Funnel has them; `table` is what the layers leave for each other."""

    def __init__(self, layer):
        super().__init__()
        self.stages = torch.nn.ModuleList(torch.nn.ModuleList(layer() for _ in range(2)) for _ in range(2))

    def forward(self, x):
        table = {}
        for stage in self.stages:
            for layer in stage:
                x = layer(x, table)
        return x


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x, table):
        return x + self.down(self.up(x).relu())


class Sharing(Layer):
    def forward(self, x, table):
        table.setdefault("shared", x)
        return super().forward(x, table) + table["shared"]


def test_lists_in_lists_are_gone_through_layer_by_layer():
    model = Nested(Layer).eval()
    graph = survey(model, (torch.randn(2, 4),))
    expected = ("stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1")
    assert [(chain.container, chain.blocks) for chain in chains(model, graph)] == [("stages", expected)]


def test_parts_of_a_block_are_no_list_of_blocks():
    model = Nested(type("Mixed", (Layer,), {"__init__": mixed})).eval()
    graph = survey(model, (torch.randn(2, 4),))
    with pytest.raises(InputError, match="is no list of blocks that run one after the other, each once; did you mean stages"):
        chains(model, graph, ["stages.0.0"])


def mixed(self):
    Layer.__init__(self)
    self.down = torch.nn.Sequential(torch.nn.Linear(4, 4))


def test_blocks_that_hand_on_through_a_dict_are_refused():
    model, x = Nested(Sharing).eval(), torch.randn(2, 4)
    graph, recipe = survey(model, (x,)), registry.recipe("wanda")
    sites, goal = tuple(recipe.structure.sites(graph)), Goal.parse("sparsity=0.5")
    ground = Ground(recipe, sites, price(goal, graph, sites, recipe.structure), goal)
    with pytest.raises(InputError, match="into a dict that it is given"):
        sequential.run(model, ground, chains(model, graph), batches=[Batch((x,))])
