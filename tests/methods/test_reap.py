"""Experts by what they add where they are called (REAP, Lasby et al., 2025)."""

import pytest
import torch
import transformers
from torch import nn
from torch.testing import assert_close

import language
import pomona
from pomona.collect import collect
from pomona.criteria.random import Random
from pomona.criteria.reap import Reap
from pomona.probes.routed import Routed
from pomona.recipes.language_structured import reap
from pomona.statistics.expert_norms import ExpertNorms
from pomona.structures.axes import Axes
from pomona.vocabulary import Batch, InputError, View, Watch

EXPERTS, CHOSEN = 6, 2
_SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2}
_SIZES |= {"vocab_size": 64, "max_position_embeddings": 64, "num_experts_per_tok": CHOSEN}


def mixtral(seed=0):
    torch.manual_seed(seed)
    model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**_SIZES, num_local_experts=EXPERTS)).eval()
    for layer in model.model.layers:
        nn.init.normal_(layer.mlp.gate.weight, std=0.5)
        nn.init.normal_(layer.mlp.experts.gate_up_proj, std=0.3)
        nn.init.normal_(layer.mlp.experts.down_proj, std=0.3)
    return model


def qwen(seed=0):
    torch.manual_seed(seed)
    width = {"moe_intermediate_size": 8, "head_dim": 8, "num_experts": EXPERTS}
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**_SIZES, **width)).eval()


def gpt_oss(seed=0):
    torch.manual_seed(seed)
    return transformers.GptOssForCausalLM(transformers.GptOssConfig(**_SIZES, head_dim=8, num_local_experts=EXPERTS)).eval()


DATA = [{"input_ids": language.ids(seed=seed)} for seed in range(3)]


def gathered(model, data):
    sites = Axes(("expert",)).sites(pomona.trace(model, data[0]))
    stats = collect(model, sites, [ExpertNorms()], data)
    return {site.name: (site, stats[site.name]) for site in sites}


def by_hand(experts, x, numbers, scores, seen):
    """(sum of norms, tokens) of every expert, each computed as the layer that it is."""
    sums = torch.zeros(2, EXPERTS, dtype=torch.float64)
    for expert in range(EXPERTS):
        for token, choice in (numbers == expert).nonzero().tolist():
            if seen[token]:
                gate, up = (experts.gate_up_proj[expert] @ x[token]).chunk(2)
                y = experts.down_proj[expert] @ (nn.functional.silu(gate) * up) * scores[token, choice]
                sums[:, expert] += torch.tensor([float(y.double().norm()), 1.0])
    return sums


def test_the_sums_are_those_of_each_expert_computed_alone_padding_left_out():
    model, mask = mixtral(), torch.ones(2, 12, dtype=torch.long)
    mask[0, 9:] = 0
    batch = {"input_ids": language.ids(), "attention_mask": mask}
    calls = []
    for layer in model.model.layers:
        layer.mlp.experts.register_forward_pre_hook(lambda module, args: calls.append((module, *args)))
    found = gathered(model, [batch])
    calls.clear()
    with torch.no_grad():
        model(**batch)
        for (_, stats), (module, *args) in zip(found.values(), calls, strict=True):
            assert_close(stats[ExpertNorms()], by_hand(module, *args, mask.flatten().bool()), rtol=1e-5, atol=1e-6)
            assert stats[ExpertNorms()][1].sum() == CHOSEN * mask.sum()


def test_halves_add_up_to_the_whole():
    model = mixtral()
    for (site, whole), (_, one), (_, rest) in zip(
        *(gathered(model, data).values() for data in (DATA, DATA[:1], DATA[1:])), strict=True
    ):
        need = ExpertNorms()
        merged = need.merge({"sums": one[need]}, {"sums": rest[need]})
        assert_close(need.value(merged, site), whole[need])


def test_it_is_the_mean_where_an_expert_is_called_and_not_how_often_it_is():
    site, _ = next(iter(gathered(mixtral(), DATA).values()))
    sums = torch.tensor([[10.0, 6.0, 0.0, 3.0, 8.0, 9.0], [100.0, 2.0, 0.0, 3.0, 4.0, 3.0]], dtype=torch.float64)
    view = View(site, Axes(("expert",)), {}, torch.ones(EXPERTS, dtype=torch.bool), {ExpertNorms(): sums})
    assert_close(Reap().score(view).value, torch.tensor([0.1, 3.0, 0.0, 1.0, 2.0, 3.0]))


@pytest.mark.parametrize("make", [mixtral, qwen, gpt_oss])
def test_whole_experts_leave_and_the_router_chooses_among_the_rest(make):
    model = make()
    result = pomona.prune(model, DATA[0], method="reap", goal="experts=0.5", data=DATA, latency=False)
    assert result.report.proof.passed
    scores = {name: Reap().score(_view(site, stats)).value for name, (site, stats) in gathered(model, DATA).items()}
    first = next(iter(scores))  # what later blocks are given depends on what went before them
    assert result.plan.keep(first).tolist() == (scores[first] >= scores[first].sort().values[EXPERTS - 3]).tolist()
    assert result.model.model.layers[0].mlp.experts.down_proj.shape[0] == 3
    assert torch.isfinite(result.model(**DATA[1]).logits).all()


def _view(site, stats):
    return View(site, Axes(("expert",)), {}, torch.ones(site.units, dtype=torch.bool), stats)


def test_a_goal_in_parameters_leaves_as_many_experts_in_every_layer():
    result = pomona.prune(mixtral(), DATA[0], method="reap", goal="params=0.7x", data=DATA, latency=False)
    assert len({int(decision.keep.sum()) for decision in result.plan.decisions.values()}) == 1
    assert result.report.params.after <= 0.7 * result.report.params.before


def test_as_many_stay_as_the_router_chooses():
    result = pomona.prune(mixtral(), DATA[0], method="reap", goal="experts=0.05", data=DATA, latency=False)
    assert {int(decision.keep.sum()) for decision in result.plan.decisions.values()} == {CHOSEN}


def test_experts_that_whisper_leave_first_and_are_missed_less_than_any():
    error = {"reap": 0.0, "chance": 0.0}
    for seed in range(3):
        model = mixtral(seed)
        with torch.no_grad():
            for layer in model.model.layers:
                layer.mlp.experts.down_proj *= torch.tensor([1.0, 0.05, 1.0, 0.05, 1.0, 0.05])[torch.randperm(6)][:, None, None]
        for name, recipe in {"reap": reap, "chance": reap.but(criterion=Random())}.items():
            pruned = pomona.prune(model, DATA[0], method=recipe, goal="experts=0.5", data=DATA[:2], latency=False, seed=seed)
            error[name] += float((pruned.model(**DATA[2]).logits - model(**DATA[2]).logits).detach().square().mean())
    assert error["reap"] < error["chance"]


class Called(nn.Module):
    """Experts that nobody is told the numbers of."""

    def forward(self, x):
        return x


def test_experts_that_are_called_otherwise_are_refused():
    model = nn.Sequential(Called())
    with pytest.raises(InputError, match="not called with the numbers"):
        Routed().run(model, Batch((torch.randn(3, 4),)), None, Watch(blocks=frozenset({"0"})))
    model, data = language.model("llama")
    (site, *_) = Axes(("neuron",)).sites(pomona.trace(model, data[0]))
    with pytest.raises(InputError, match="no axis of experts"):
        ExpertNorms().watch(site)
