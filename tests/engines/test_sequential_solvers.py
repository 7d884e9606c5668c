"""Solvers in the sequential engine: what they make of a block is what the next one reads."""

import pytest
import torch

import language
import pomona


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("method", ["sparsegpt", "sparsegpt-asymmetric"])
def test_a_solver_streamed_is_what_it_is_in_memory(name, method, tmp_path):
    model, data = language.model(name)
    model.save_pretrained(tmp_path / "dense")
    wish = {"method": method, "goal": "sparsity=0.5", "data": data}
    plan = pomona.plan(model, data[0], **wish)
    streamed = pomona.prune_folder(tmp_path / "dense", tmp_path / "small", **wish)
    values = streamed.load().state_dict()
    for site in plan.sites:
        assert torch.equal(streamed.plan.keep(site), plan.keep(site))
        assert torch.allclose(values[site], plan.decisions[site].tensors[site], atol=1e-6)
        assert not torch.equal(values[site], model.state_dict()[site] * plan.keep(site))


def test_block_by_block_sparsegpt_loses_less_than_at_once():
    model, data = language.model("llama", batches=8)
    with torch.no_grad():
        dense = [model(**batch).logits for batch in data]

        def lost(sequential):
            wish = {"method": "sparsegpt", "goal": "sparsity=0.6", "data": data, "latency": False}
            small = pomona.prune(model, data[0], sequential=sequential, only=["model.layers"], **wish).model
            return sum(float((small(**b).logits - d).norm()) for b, d in zip(data, dense, strict=True))

        assert lost(True) < lost(False)
