"""LLM-Pruner: the loss change of coupled groups (Ma et al., 2023)."""

import pytest
import torch
from torch.testing import assert_close

import language
import pomona
import tinylm
from budgets import flat, scored, wish
from handmade import linear_site
from pomona.allocations.spared_ends import SparedEnds
from pomona.collect import collect
from pomona.criteria.grouped import Grouped
from pomona.criteria.loss_change import LossChange
from pomona.criteria.random import Random
from pomona.recipes.language_taylor import llm_pruner, llm_pruner_mixed
from pomona.structures.weights import Weights
from pomona.vocabulary import Gathered, InputError, View


def told(data):
    return [{**batch, "labels": batch["input_ids"]} for batch in data]


def of_one_weight(criterion, weight, *stats):
    site = linear_site("w", tuple(weight.shape))
    gathered = Gathered(dict(zip(criterion.needs, stats, strict=True)))
    return criterion.score(View(site, Weights(), {"w": weight}, torch.ones(weight.shape, dtype=torch.bool), gathered)).value


def test_both_orders_by_hand():
    w, g, f = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 3.0]]), torch.tensor([[1.0, 4.0]])
    assert_close(of_one_weight(LossChange(), w, g), torch.tensor([[1.0, 3.0]]))
    assert_close(of_one_weight(LossChange("second"), w, f), torch.tensor([[4.0, 4.0]]))
    # 1 - 4 / 2 and -3 - 4 / 2: what the loss falls by when the weight goes.
    assert_close(of_one_weight(LossChange("mixed"), w, g, f), torch.tensor([[1.0, 5.0]]))
    with pytest.raises(InputError, match="first, second, mixed"):
        LossChange("third")


def by_hand(model, data, criterion):
    """The gradient of the mean loss and the mean of the squared gradients of examples, by autograd."""
    examples = [{k: v[i : i + 1] for k, v in batch.items()} for batch in told(data) for i in range(len(batch["input_ids"]))]
    first, second = {}, {}
    for one in examples:
        model.zero_grad()
        model(**one).loss.backward()
        for name, p in model.named_parameters():
            first[name] = first.get(name, 0) + p.grad / len(examples)
            second[name] = second.get(name, 0) + p.grad**2 / len(examples)
    model.zero_grad()

    def change(name):
        w = model.get_parameter(name).detach()
        return w * first[name] - (w**2 * second[name] / 2 if criterion.order == "mixed" else 0)

    return change


@pytest.mark.parametrize("recipe", [llm_pruner, llm_pruner_mixed], ids=["first", "mixed"])
@pytest.mark.parametrize("vector", [False, True])
def test_a_kv_group_is_worth_what_its_queries_keys_values_and_output_columns_are_worth(recipe, vector):
    model, data = language.model("llama", batches=2)
    model = model.double()
    graph = pomona.trace(model, data[0])
    (site,) = [s for s in recipe.structure.sites(graph) if s.name.startswith("model.layers.1") and "kv-group" in s.name]
    inner = LossChange(recipe.criterion.criterion.order, vector)
    criterion = Grouped(inner, combine="sum", roles=("out", "in", "scale"))
    stats = collect(model, [site], criterion.needs, told(data))[site.name]
    values = {m.tensor: model.get_parameter(m.tensor).detach() for m in site.members}
    found = criterion.score(View(site, recipe.structure, values, torch.ones(2, dtype=torch.bool), stats)).value
    change, at = by_hand(model, data, inner), "model.layers.1.self_attn."
    rows = {"q_proj": 16, "k_proj": 8, "v_proj": 8}  # of each of two groups: two queries, a key and a value, all 8 wide
    slices = [change(f"{at}{name}.weight").view(2, size, 32) for name, size in rows.items()]
    slices.append(change(f"{at}o_proj.weight").view(32, 2, 16).movedim(1, 0))
    worth = [s.sum((1, 2)).abs() if vector else s.abs().sum((1, 2)) for s in slices]
    assert_close(found, sum(worth).float(), rtol=1e-4, atol=1e-7)


def test_the_ends_of_a_stack_stay_whole_and_the_others_bear_it():
    sites = flat(**{f"layers.{n}.{part}": 10 for n in range(16) for part in ("a", "b")}, tail=10)
    found = SparedEnds().allocate(sites, scored(**{n: torch.rand(1, 10) for n in sites}), wish(sites, 0.8))
    whole = [name for name, keep in found.items() if int(keep) == 10]
    assert whole == ["layers.0.a", "layers.0.b", "layers.1.a", "layers.1.b", "layers.15.a", "layers.15.b"]
    assert sum(int(k) for k in found.values()) == pytest.approx(0.8 * 330, abs=1)
    assert SparedEnds().spared(flat(**{f"h.{n}.a": 4 for n in range(3)})) == []
    with pytest.raises(InputError, match="the least that may stay"):
        SparedEnds(first=0.4, last=0.4).allocate(sites, {}, wish(sites, 0.5))
    with pytest.raises(InputError, match="together below 1"):
        SparedEnds(first=0.6, last=0.4)


def test_neurons_that_the_loss_does_not_notice_leave_however_large_they_are():
    model, data = language.model("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight[::2] *= 3
            layer.mlp.up_proj.weight[::2] *= 3
            layer.mlp.down_proj.weight[:, ::2] *= 1e-4
    result = pomona.prune(
        model, data[0], method="llm-pruner", structure="neurons", goal="units=0.5x", data=told(data), latency=False
    )
    assert result.report.proof.passed
    assert all(d.keep.tolist() == [False, True] * 24 for d in result.plan.decisions.values())


@pytest.mark.slow
def test_heads_leave_by_whole_kv_groups_and_adapters_win_back_some_of_the_loss():
    pytest.importorskip("peft")
    model, data = tinylm.trained(), tinylm.text(6, seed=7)
    losses = []
    for recover in ("none", "lora:30steps,rank=4,lr=5e-3"):
        result = pomona.prune(
            model,
            data[0],
            method="llm-pruner",
            goal="params=0.7x",
            data=data,
            latency=False,
            recover=recover,
        )
        assert result.report.proof.passed
        layers = [layer.self_attn for layer in result.model.model.layers]
        assert all(a.q_proj.out_features == 2 * a.k_proj.out_features for a in layers)
        losses.append(tinylm.loss(result.model, tinylm.text(4, seed=99)))
    assert losses[1] < losses[0]


@pytest.mark.slow
def test_the_loss_grows_less_than_by_chance():
    model, data = tinylm.trained(), tinylm.text(4, seed=7)
    recipes = [llm_pruner] + [llm_pruner.but(criterion=Random())] * 3
    found = [
        pomona.prune(model, data[0], method=recipe, goal="params=0.85x", data=data, latency=False, seed=seed).model
        for seed, recipe in enumerate(recipes)
    ]
    losses = [tinylm.loss(small, tinylm.text(4, seed=99)) for small in found]
    assert losses[0] < sum(losses[1:]) / 3
