"""Models of transformers on sparse kernels: GPT-2's layers that lie the other way round, and what must not be saved."""

import pytest
import torch
from torch import nn

import pomona
from pomona.face import accelerate as home
from pomona.native import library
from pomona.runtime.sparse import SparseLinear
from pomona.runtime.sparse.candidates import Candidate
from pomona.runtime.sparse.choose import Choice
from pomona.runtime.sparse.turned import as_linears
from pomona.vocabulary import InputError
from zoo import gpt2

pytestmark = pytest.mark.skipif(library().isa is None, reason="without kernels nothing is packed")


def thinned():
    model, inputs = gpt2()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".c_" in name and name.endswith("weight"):
                parameter *= torch.rand(parameter.shape) > 0.8
    return model.eval(), inputs


def packing(wins):
    return lambda *_: Choice(Candidate("bitmask") if wins else None, 2.0, 1.0, {"bitmask": 1.0})


@pytest.mark.parametrize("wins", [True, False])
def test_layers_of_gpt2_are_packed_as_linear_ones(monkeypatch, wins):
    monkeypatch.setattr(home, "choose", packing(wins))
    model, inputs = thinned()
    fast = pomona.accelerate(model, inputs, latency=False)
    layer = fast.model.transformer.h[0].mlp.c_fc
    assert type(layer) is (SparseLinear if wins else nn.Linear) and "transformer.h.0.mlp.c_fc" in {
        one.name for one in fast.layers
    }
    with torch.no_grad():
        ours, theirs = (each(**inputs).logits for each in (fast.model, model))
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("wins", [True, False])
def test_what_transformers_would_open_with_random_weights_is_not_written(monkeypatch, tmp_path, wins):
    monkeypatch.setattr(home, "choose", packing(wins))
    model, inputs = thinned()
    fast = pomona.accelerate(model, inputs, latency=False)
    with pytest.raises(InputError, match="random weights"):
        fast.model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    model.save_pretrained(tmp_path / "dense")


def test_other_models_are_not_copied():
    model = nn.Sequential(nn.Linear(2, 2))
    assert as_linears(model) is model
