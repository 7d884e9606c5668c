"""What calibration never reached is said, and what a cut loses is measured."""

import pytest
import torch
import transformers
from torch import nn

import language
import pomona
from pomona.collect import collect
from pomona.engines.coverage import unreached
from pomona.engines.losses import lost
from pomona.statistics.input_gram import InputGram
from pomona.statistics.input_norm import InputNorm
from pomona.structures.weights import Weights
from pomona.vocabulary import Decision, View


def silent(net, x, method, **wish):
    result = pomona.prune(net, x, method=method, goal="sparsity=0.5", data=[x], latency=False, **wish)
    return [note for note in result.report.notes if note.startswith(("Zero in all", "No token"))], result


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_inputs_that_were_never_anything_but_zero_are_counted_and_named(method):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    with torch.no_grad():
        net[0].bias[:2] = -1e3  # two neurons never fire
    x = torch.randn(16, 8)
    x[:, 5] = 0
    (note,), _ = silent(net, x, method)
    assert note.endswith("judged by nothing: 2 of 6 inputs of 2, 1 of 8 inputs of 0.")
    x[0, 5] = 1e-3
    with torch.no_grad():
        net[0].bias[:2] = 0
    assert silent(net, x, method)[0] == []


@pytest.mark.parametrize("need", [InputNorm(), InputGram()])
@pytest.mark.parametrize(
    ("layer", "dead"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), [1]),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2, stride=2), [1, 2]),
        (nn.ConvTranspose2d(4, 6, 3), [3]),
        (nn.Linear(4, 6), [0, 3]),
    ],
)
def test_channels_of_any_layer_are_told(need, layer, dead):
    shape = (2, 4) if isinstance(layer, nn.Linear) else (2, 4, 5, 5)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x[:, dead] = 0
    (site,) = Weights().sites(pomona.trace(nn.Sequential(layer), x))
    value = collect(nn.Sequential(layer), [site], [need], [x])[site.name][need]
    assert need.unreached(value, site).nonzero().flatten().tolist() == dead


def test_experts_that_no_token_was_sent_to_are_told_by_reap():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64}
    config = transformers.MixtralConfig(**sizes, num_hidden_layers=2, num_local_experts=6, num_experts_per_tok=2)
    model = transformers.MixtralForCausalLM(config).eval()
    with torch.no_grad():
        router = model.model.layers[0].mlp.gate.weight
        model.model.layers[0].post_attention_layernorm.weight.fill_(1.0)
        router[:] = 0  # ties go to the first, always
        router[0], router[1] = 1.0, -1.0
        router[2] = 0.5
    data = [{"input_ids": language.ids(seed=seed)} for seed in range(2)]
    result = pomona.prune(model, data[0], method="reap", goal="experts=0.5", data=data, latency=False)
    (note,) = [note for note in result.report.notes if note.startswith("No token")]
    assert "experts of model.layers.0.mlp.experts" in note


def test_units_that_were_cut_before_are_no_gap_in_the_data():
    net, x = nn.Sequential(nn.Linear(4, 3)), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    (site,) = Weights().sites(pomona.trace(net, x))
    stats = collect(net, [site], [InputNorm()], [x])[site.name]
    alive = torch.ones(3, 4, dtype=torch.bool)
    (note,) = unreached([View(site, Weights(), {}, alive, stats)])
    assert note.endswith("1 of 4 inputs of 0.")
    alive[0, 0] = False
    assert unreached([View(site, Weights(), {}, alive, stats)]) == ()


def test_what_is_lost_is_the_energy_of_the_difference_of_the_outputs():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(6, 5, bias=False)), torch.randn(40, 6)
    (site,) = Weights().sites(pomona.trace(net, x))
    weight = net[0].weight.detach()
    stats = collect(net, [site], [InputGram()], [x])[site.name]
    view = View(site, Weights(), {site.name: weight}, torch.ones(5, 6, dtype=torch.bool), stats)
    keep, solved = torch.rand(5, 6) > 0.5, weight * 1.25
    expected = ((x @ weight.T - x @ (solved * keep).T).square().sum() / (x @ weight.T).square().sum()).item()
    assert lost(view, Decision(keep, {site.name: solved})) == pytest.approx(expected, rel=1e-5)
    assert lost(view, Decision(torch.ones_like(keep))) == 0
    assert lost(View(site, Weights(), {site.name: weight}, keep), Decision(keep)) is None


def test_a_run_tells_what_every_layer_and_every_block_lost():
    model, data = language.model("llama")
    report = pomona.prune(model, data[0], method="sparsegpt", goal="sparsity=0.5", data=data, latency=False).report
    assert [block.name for block in report.blocks] == [f"model.layers.{n}" for n in range(3)]
    assert all(0 < block.error < 1 for block in report.blocks)
    assert len(report.sites) == 21 and all(0 < site.error < 1 for site in report.sites)
    at_once = pomona.prune(model, data[0], method="sparsegpt", goal="sparsity=0.5", data=data, sequential=False, latency=False)
    assert at_once.report.blocks == [] and all(0 < site.error < 1 for site in at_once.report.sites)
    plain = pomona.prune(model, data[0], method="wanda", goal="sparsity=0.5", data=data, latency=False).report
    assert all(site.error is None for site in plain.sites) and all(block.error > 0 for block in plain.blocks)
