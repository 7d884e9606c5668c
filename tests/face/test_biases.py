"""Methods that write into biases, on models that have none."""

import subprocess
import sys

import pytest
import torch
import transformers
from torch import nn
from torch.testing import assert_close

import language
import pomona
import zoo
from pomona.allocations.uniform import Uniform
from pomona.graph.biases import Biases
from pomona.recipes.language_structured import flap
from pomona.solvers.mean_bias import MeanBias
from pomona.structures.axes import Axes
from pomona.vocabulary import Plan, ProofError

NEURONS = flap.but(structure=Axes(("neuron",)), allocation=Uniform())


class Plain(nn.Module):
    """Half of its features are constants; who reads them has no bias."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.make, self.read = nn.Linear(6, 16), nn.Linear(16, 4, bias=False)
        with torch.no_grad():
            self.make.weight[::2] = 0
            self.make.bias[::2].uniform_(0.5, 1.0)

    def forward(self, x):
        return self.read(self.make(x).relu())


class Deaf(nn.Linear):
    """A layer that looks at no bias."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight)


def pruned(model=None, batches=3, **wish):
    made, data = language.model("llama", batches)
    wish = {"method": "flap", "goal": "params=0.85x", "latency": False} | wish
    return made, data, pomona.prune(model or made, data[0], data=data, **wish)


def test_constant_features_leave_a_reader_that_was_given_a_bias_and_nothing_changes():
    model, x = Plain().eval(), torch.randn(64, 6)
    result = pomona.prune(model, x, method=NEURONS, goal="units=0.5x", data=[x], latency=False)
    assert result.model.make.out_features == 8 and result.model.read.bias is not None
    other = torch.randn(64, 6)
    assert_close(result.model(other), model(other), atol=1e-5, rtol=1e-5)
    bare = pomona.prune(model, x, method=NEURONS.but(solver=None), goal="units=0.5x", data=[x], latency=False)
    assert float((bare.model(other) - model(other)).detach().abs().max()) > 0.1


def test_a_llama_gets_the_biases_that_its_configuration_can_say():
    model, _, result = pruned()
    assert result.report.proof.passed and result.model.config.attention_bias and result.model.config.mlp_bias
    assert all(layer.mlp.down_proj.bias.any() and layer.mlp.up_proj.bias is not None for layer in result.model.model.layers)
    (note,) = (note for note in result.plan.provenance["notes"] if "bias" in note)
    assert note.startswith("6 weights that read") and "attention_bias, mlp_bias" in note and "672 parameters more" in note
    assert not model.config.mlp_bias and model.model.layers[0].mlp.down_proj.bias is None


def test_a_goal_in_parameters_is_of_the_model_as_given_and_biases_count():
    model, _, result = pruned()
    before = sum(p.numel() for p in model.parameters())
    assert result.report.params.before == before
    assert result.report.params.after == sum(p.numel() for p in result.model.parameters()) <= 0.85 * before


@torch.no_grad()
def first_outputs(model, data):
    """What the neurons of the first block give, over all tokens: (tokens, width)."""
    seen = []
    handle = model.model.layers[0].mlp.down_proj.register_forward_hook(lambda _, __, out: seen.append(out.flatten(0, 1)))
    for batch in data:
        model(**batch)
    handle.remove()
    return torch.cat(seen)


def test_latency_is_held_against_the_model_as_it_was_given(monkeypatch):
    timed = []
    monkeypatch.setattr("pomona.face.carry_out.measure_latency", lambda before, after, *_, **__: timed.append(before))
    model, _, _ = pruned(latency=True)
    assert sum(p.numel() for p in timed[0].parameters()) == sum(p.numel() for p in model.parameters())


def test_with_the_biases_the_outputs_of_readers_keep_their_mean():
    model, data, result = pruned(method=NEURONS, goal="units=0.5x")
    dense = first_outputs(model, data).mean(0)
    assert_close(first_outputs(result.model, data).mean(0), dense, atol=1e-5, rtol=1e-4)
    _, _, bare = pruned(method=NEURONS.but(solver=MeanBias(adds_biases=False)), goal="units=0.5x")
    assert float((first_outputs(bare.model, data).mean(0) - dense).norm()) > 0.1


@torch.no_grad()
def test_convolutions_before_a_normalisation_are_given_one_as_well():
    model, (x,) = zoo.resnet(batch=8)
    channels, lost = flap.but(structure=Axes(("channel",))), []
    for recipe in (channels, channels.but(solver=MeanBias(adds_biases=False))):
        result = pomona.prune(model, x, method=recipe, goal="macs=0.6x", data=[x], latency=False)
        lost.append(float((result.model(x) - model(x)).square().mean()))
    assert lost[0] < 0.5 * lost[1]


def test_a_solver_that_adds_none_leaves_readers_and_says_so():
    _, _, result = pruned(method=flap.but(solver=MeanBias(adds_biases=False)))
    assert result.model.model.layers[0].mlp.down_proj.bias is None and "biases" not in result.plan.provenance
    assert any("have no bias" in note for note in result.plan.provenance["notes"])


def test_a_layer_whose_code_looks_at_no_bias_is_left():
    model, x = Plain().eval(), torch.randn(64, 6)
    model.read = Deaf(16, 4, bias=False)
    result = pomona.prune(model, x, method=NEURONS, goal="units=0.5x", data=[x], latency=False)
    assert result.model.read.bias is None and any("have no bias" in note for note in result.plan.provenance["notes"])


def test_flags_that_make_another_function_stay_down(monkeypatch):
    class Louder(Plain):
        def __init__(self):
            super().__init__()
            self.config = type("Config", (), {})()
            self.config.loud = False

        def forward(self, x):
            return super().forward(x) * (2 if self.config.loud else 1)

    monkeypatch.setattr("pomona.face.biases.bias_flags", lambda model, wanted: ({"read.bias": 4}, ("loud",)))
    model, x = Louder().eval(), torch.randn(64, 6)
    result = pomona.prune(model, x, method=NEURONS, goal="units=0.5x", data=[x], latency=False)
    assert not result.model.config.loud and result.model.read.bias is not None
    assert_close(result.model(x), model(x), atol=1e-5, rtol=1e-5)
    plan = Plan(result.plan.sites, result.plan.decisions, {"biases": Biases({"read.bias": 4}, ("loud",)).to_json()})
    with pytest.raises(ProofError, match="another function"):
        pomona.replay(model, plan, x, latency=False)


def test_a_plan_is_carried_out_again_bit_for_bit(tmp_path):
    model, data, result = pruned()
    result.plan.save(tmp_path / "plan.safetensors")
    again = pomona.replay(model, tmp_path / "plan.safetensors", data[0], latency=False)
    ours, theirs = result.model.state_dict(), again.model.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert model.model.layers[0].mlp.down_proj.bias is None


def test_a_run_that_is_called_again_goes_on_from_its_checkpoint(tmp_path):
    _, _, first = pruned(checkpoint=tmp_path)
    _, _, again = pruned(checkpoint=tmp_path)
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("how", ["the folder", "the model"])
def test_uneven_layers_come_back_from_a_folder(how, tmp_path):
    model, data = language.model("llama")
    model.save_pretrained(tmp_path / "dense")
    given = str(tmp_path / "dense") if how == "the folder" else model
    _, _, result = pruned(given)
    result.save(tmp_path / "out")
    assert torch.equal(pomona.load(tmp_path / "out")(**data[1]).logits, result.model(**data[1]).logits)


def test_models_whose_configuration_has_no_flag_come_back_from_a_folder(tmp_path):
    torch.manual_seed(0)
    config = transformers.MistralConfig(
        hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=1, vocab_size=64
    )
    transformers.MistralForCausalLM(config).save_pretrained(tmp_path / "dense")
    ids = {"input_ids": language.ids()}
    result = pomona.prune(str(tmp_path / "dense"), ids, method=NEURONS, goal="units=0.5x", data=[ids], latency=False)
    assert result.model.model.layers[0].mlp.down_proj.bias.any()
    result.save(tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()  # which could not say so
    with torch.no_grad():
        assert torch.equal(pomona.load(tmp_path / "out")(**ids).logits, result.model(**ids).logits)


def test_even_layers_open_without_pomona(tmp_path):
    model, data = language.model("llama")
    model.save_pretrained(tmp_path / "dense")
    _, _, result = pruned(str(tmp_path / "dense"), method=NEURONS, goal="units=0.5x")
    result.save(tmp_path / "out")
    ids = data[1]["input_ids"]
    torch.save((ids, result.model(input_ids=ids).logits.detach()), tmp_path / "expected.pt")
    code = f"""
import sys, torch, transformers
ids, expected = torch.load({str(tmp_path / "expected.pt")!r})
model, told = transformers.AutoModelForCausalLM.from_pretrained({str(tmp_path / "out")!r}, output_loading_info=True)
assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), told
assert model.config.mlp_bias and model.config.intermediate_size == 24 and "pomona" not in sys.modules
assert torch.equal(model.eval()(input_ids=ids).logits, expected)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
