"""Single weights of stacked experts go by what each expert reads: as if every expert were written out as layers of its own."""

import pytest
import torch
import transformers
from torch import nn
from torch.testing import assert_close

import pomona
from pomona import trace
from pomona.collect import collect
from pomona.engines.estimate import _state
from pomona.face.streaming import prune_folder
from pomona.statistics.input_gram import InputGram
from pomona.statistics.input_moments import InputMoments
from pomona.statistics.input_norm import InputNorm
from pomona.structures.weights import Weights

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64}


def mixtral(width=48):
    config = transformers.MixtralConfig(**SIZES, intermediate_size=width, num_local_experts=4, num_experts_per_tok=2)
    return awake(transformers.MixtralForCausalLM, config)


def qwen(width=32):
    config = transformers.Qwen2MoeConfig(
        **SIZES, moe_intermediate_size=width, shared_expert_intermediate_size=24, num_experts=5, num_experts_per_tok=2
    )
    return awake(transformers.Qwen2MoeForCausalLM, config)


def awake(kind, config):
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


class WrittenOut(nn.Module):
    """The same experts, each two layers of its own; who is not sent a token reads zeros in its place."""

    def __init__(self, experts):
        super().__init__()
        self.up, self.down, self.act = layers(experts.gate_up_proj), layers(experts.down_proj), experts.act_fn

    def forward(self, hidden, index, weights):
        total = torch.zeros_like(hidden)
        for number, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            chosen = index == number
            gate, value = up(hidden * chosen.any(1, keepdim=True)).chunk(2, dim=-1)
            total = total + down(self.act(gate) * value) * (weights * chosen).sum(1, keepdim=True)
        return total


def layers(stack):
    made = nn.ModuleList()
    for matrix in stack:
        made.append(nn.Linear(matrix.shape[1], matrix.shape[0], bias=False))
        made[-1].weight = nn.Parameter(matrix.detach().clone())
    return made


def written_out(model):
    for layer in model.model.layers:
        layer.mlp.experts = WrittenOut(layer.mlp.experts)
    return model


def data(rows=2, length=24):
    g = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(0, 64, (rows, length), generator=g)} for _ in range(2)]


def pruned(model, method, **more):
    batches = data()
    return pomona.prune(model, batches[0], method=method, goal="sparsity=0.5", data=batches, latency=False, **more).model


def matrices(model):
    """(layer, which, expert) -> matrix, however the experts are kept."""
    found = {}
    for number, layer in enumerate(model.model.layers):
        experts = layer.mlp.experts
        stacks = (experts.gate_up_proj, experts.down_proj) if hasattr(experts, "down_proj") else (experts.up, experts.down)
        for which, stack in zip(("up", "down"), stacks, strict=True):
            found |= {(number, which, e): getattr(one, "weight", one).detach() for e, one in enumerate(stack)}
    return found


@pytest.mark.parametrize("make", [mixtral, qwen])
@pytest.mark.parametrize("method", ["wanda", "ria"])
def test_who_stays_is_who_would_stay_among_experts_written_out(make, method):
    stacked, apart = matrices(pruned(make(), method)), matrices(pruned(written_out(make()), method))
    for key, matrix in stacked.items():
        assert torch.equal(matrix, apart[key]), key
        assert int(matrix.count_nonzero()) * 2 == matrix.numel()


def test_experts_stored_the_other_way_round_lose_the_same_share_of_every_output():
    config = transformers.GptOssConfig(**SIZES, intermediate_size=48, num_local_experts=4, num_experts_per_tok=2, head_dim=8)
    experts = pruned(awake(transformers.GptOssForCausalLM, config), "wanda").model.layers[1].mlp.experts
    assert experts.down_proj.shape == (4, 48, 32)  # (experts, in, out)
    assert experts.down_proj.count_nonzero(1).unique().tolist() == [24]
    assert experts.gate_up_proj.count_nonzero(1).unique().tolist() == [16]


@pytest.mark.parametrize("make", [mixtral, qwen])
@pytest.mark.parametrize("method", ["sparsegpt", "obc"])
def test_what_solvers_make_of_an_expert_is_what_they_would_make_of_it_written_out(make, method):
    stacked, apart = matrices(pruned(make(), method)), matrices(pruned(written_out(make()), method))
    for key, matrix in stacked.items():
        assert torch.equal(matrix == 0, apart[key] == 0), key
        assert_close(matrix, apart[key], rtol=1e-4, atol=1e-4)


def test_alps_finds_as_good_an_expert_as_it_would_written_out():  # stacked ones share the course of the penalty
    model, data_ = mixtral(), data()
    apart = written_out(mixtral())
    sites = Weights(only=("model.layers.0.mlp.experts.*",)).sites(trace(apart, data_[0]))
    grams = collect(apart, sites, (InputGram(),), data_)
    dense, one, other = (matrices(m) for m in (mixtral(), pruned(model, "alps"), pruned(apart, "alps")))
    for (layer, which, e), weight in dense.items():
        if layer == 0:
            gram = grams[f"model.layers.0.mlp.experts.{which}.{e}.weight"][InputGram()][0].float()
            losses = [((weight - m[layer, which, e]) @ gram * (weight - m[layer, which, e])).sum() for m in (one, other)]
            assert losses[0] <= 1.05 * losses[1], (which, e)


def test_an_expert_that_nothing_is_sent_to_is_told():
    model, batches = qwen(), data()
    with torch.no_grad():
        router = model.model.layers[0].mlp.gate.weight
        router[:] = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0])[:, None]  # the one in the middle is never of the first two
    result = pomona.prune(model, batches[0], method="wanda", goal="sparsity=0.5", data=batches, latency=False)
    (note,) = [note for note in result.report.notes if "judged by nothing" in note]
    assert "32 of 160 inputs of model.layers.0.mlp.experts" in note
    assert all(int(m.count_nonzero()) * 2 == m.numel() for m in matrices(result.model).values())


def test_the_memory_of_a_stack_is_that_of_all_its_grams():
    (site,) = Weights(only=("model.layers.0.mlp.experts.down_proj",)).sites(trace(mixtral(), data()[0]))
    assert _state(InputGram(), site) == 4 * 8 * 48**2
    assert _state(InputNorm(), site) == 4 * 8 * 48


def test_streamed_from_a_folder_it_is_what_it_is_in_memory(tmp_path):
    model, batches = mixtral(), data()
    model.save_pretrained(tmp_path / "dense", save_original_format=False)
    wish = {"method": "sparsegpt", "goal": "sparsity=0.5", "data": batches}
    streamed = prune_folder(tmp_path / "dense", tmp_path / "small", **wish)
    plan = pomona.plan(model, batches[0], **wish)
    assert all(torch.equal(streamed.plan.keep(site), plan.keep(site)) for site in plan.sites)
    opened, whole = type(model).from_pretrained(tmp_path / "small"), matrices(pruned(model, "sparsegpt"))
    for key, matrix in matrices(opened).items():
        assert torch.equal(matrix, whole[key]), key


@pytest.mark.parametrize("how", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("make", [mixtral, qwen])
def test_experts_read_the_same_however_they_are_run(make, how):
    model, (batch, _) = make(), data()
    apart = written_out(make())
    needs = (InputNorm(), InputGram(), InputMoments())
    sites = [site for site in Weights(only=("*experts*",)).sites(trace(model, batch))]
    model.set_experts_implementation(how)
    found = collect(model, sites, needs, [batch])
    each = collect(apart, Weights(only=("*experts*",)).sites(trace(apart, batch)), needs, [batch])
    for site in sites:
        place, _, which = site.name.rpartition(".")
        which = "down" if which == "down_proj" else "up"
        one = [each[f"{place}.{which}.{e}.weight"] for e in range(site.shape[0])]
        norms, grams, moments = (found[site.name][need] for need in needs)
        # Inputs are products in float32, which the ways to run experts add up in unlike orders.
        assert_close(norms, torch.stack([e[needs[0]] for e in one]), rtol=1e-5, atol=1e-5)
        assert_close(grams, torch.cat([e[needs[1]] for e in one]), rtol=1e-5, atol=1e-5)
        # Written out, an expert reads zeros where it is not sent a token: sums are the same, means are not.
        tokens = len(batch["input_ids"].flatten())
        sums = torch.stack([e[needs[2]][0, 0] for e in one]) * tokens
        sent = (sums / moments[0]).median(1, keepdim=True).values.round()  # of a mean near zero the ratio says little
        assert_close(sums, sent * moments[0], rtol=1e-5, atol=1e-5)
