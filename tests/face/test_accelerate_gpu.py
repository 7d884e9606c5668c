"""`pomona.accelerate_gpu`: what runs sparse, what is left and why, and that nothing else changes. On the CPU, by our clock."""

import pytest
import torch
from torch import nn

import pomona
from pomona.runtime.gpu.choose import DENSE
from pomona.runtime.gpu.device import Gpu
from pomona.runtime.gpu.linear import SpansLinear
from pomona.runtime.gpu.semi_structured import SemiStructuredLinear
from pomona.vocabulary import InputError, ProofError


def gpu(best="2:4", compress=lambda weight, _: weight.detach(), whole=1e-3):
    def measure(turns):
        for call in turns.values():
            call()
        return {name: whole if name == "after" else 1e-3 if name.startswith(best) else 2e-3 for name in turns}

    return Gpu(torch.device("cpu"), "one of ours", 132, "cutlass", measure, compress)


def net(kind=torch.bfloat16):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64), nn.Linear(64, 5)).requires_grad_(False)
    for layer, width in ((model[0], 64), (model[2], 128)):
        order = torch.rand(len(layer.weight), width // 4, 4).argsort(2)
        layer.weight *= (order < 2).reshape(len(layer.weight), width)
    return model.to(kind)


def why(fast):
    return {layer.name: str(layer.way or layer.reason) for layer in fast.layers}


def test_layers_that_are_faster_run_sparse_and_the_model_answers_the_same():
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = pomona.accelerate_gpu(model, torch.randn(2, 64).bfloat16(), target="gpu-2:4", batch=9, gpu=gpu())
    assert isinstance(fast.model[0], SemiStructuredLinear) and isinstance(fast.model[2], SemiStructuredLinear)
    assert why(fast) == {"0": "2:4", "2": "2:4", "3": "its weight is 5x64, and 2:4 takes multiples of 32x64"}
    assert fast.told == "2 of 3 linear layers run sparse (2 as 2:4)." and (fast.before_ms, fast.after_ms) == (2.0, 1.0)
    x = torch.randn(3, 64).bfloat16()
    assert torch.allclose(fast.model(x).float(), model(x).float(), atol=0.05) and fast.error < 0.01
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert fast.layers[0].rows == 9 and fast.layers[0].sparsity == 0.5


def test_single_weights_run_by_the_kernel_at_small_batches():
    fast = pomona.accelerate_gpu(net(), torch.randn(1, 64).bfloat16(), gpu=gpu("spans"))
    assert isinstance(fast.model[0], SpansLinear) and why(fast)["3"] == "it has too few zeros"
    fast = pomona.accelerate_gpu(net(), torch.randn(20, 64).bfloat16(), gpu=gpu("spans"))
    assert fast.told.startswith("No layer runs sparse: cuBLAS on the dense weights is as fast in every layer (the nearest, 0, ")
    assert fast.before_ms is None and fast.model is not None


def test_a_float32_model_is_asked_to_be_bfloat16():
    x = torch.randn(2, 64)
    plain = pomona.accelerate_gpu(net(torch.float32), x, target="gpu-2:4", gpu=gpu())
    assert "0: its weight is float32, and 2:4 runs in bfloat16 and float16 (--values bf16)" in plain.told
    half = pomona.accelerate_gpu(net(torch.float32), x, target="gpu-2:4", values="bf16", gpu=gpu())
    assert why(half)["0"] == "2:4" and half.model(x.bfloat16()).dtype == torch.bfloat16


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.ones(64))
        self.register_buffer("frequencies", torch.ones(64), persistent=False)
        self.linear = net(torch.float32)[0]

    def forward(self, x):
        return self.linear(x * self.kept.to(x) * self.frequencies.to(x))


def test_buffers_that_no_file_holds_keep_their_type():
    model = Rotary()
    fast = pomona.accelerate_gpu(model, torch.randn(2, 64), values="bf16", gpu=gpu()).model
    assert (fast.kept.dtype, fast.frequencies.dtype) == (torch.bfloat16, torch.float32)
    assert model.kept.dtype == torch.float32


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()[0]

    def forward(self, x):
        return self.inner(x.to(self.inner.weight.dtype))


@pytest.mark.parametrize("best", ["2:4", "spans"])
def test_layers_whose_weight_is_read_stay_dense(best):
    fast = pomona.accelerate_gpu(Reads(), torch.randn(1, 64).bfloat16(), gpu=gpu(best))
    assert type(fast.model.inner) is nn.Linear and why(fast) == {"inner": "its weight is read by the code around it"}


def test_hooks_subclasses_and_uncalled_layers_stay_dense():
    class Special(nn.Linear):
        pass

    model = net()
    model[0].register_forward_hook(lambda *_: None)
    model[3] = Special(64, 32).bfloat16()
    model[1].unused = nn.Linear(64, 64).bfloat16()
    found = why(pomona.accelerate_gpu(model, torch.randn(1, 64).bfloat16(), gpu=gpu()))
    assert found["0"] == "it has hooks" and found["3"] == "a Special is not a plain Linear"
    assert found["1.unused"] == "its forward is not called on these inputs"


def test_a_layer_at_two_places_runs_sparse_at_both():
    model = net()
    model.append(nn.Linear(5, 64).bfloat16()).append(model[0])
    fast = pomona.accelerate_gpu(model, torch.randn(1, 64).bfloat16(), gpu=gpu()).model
    assert fast[0] is fast[5] and isinstance(fast[0], SemiStructuredLinear)


def test_wrong_outputs_leave_nobody():
    with pytest.raises(ProofError, match="off by"):
        pomona.accelerate_gpu(net(), torch.randn(1, 64).bfloat16(), gpu=gpu(compress=lambda w, _: w.detach().flip(0)))


def test_a_model_of_chance_is_not_blamed_on_the_kernels():
    model = net().append(nn.Dropout(0.5))
    model[-1].register_forward_hook(lambda module, _, y: nn.functional.dropout(y, 0.5, training=True))
    with pytest.raises(InputError, match="differs from itself"):
        pomona.accelerate_gpu(model, torch.randn(8, 64).bfloat16(), gpu=gpu())


def test_dense_stays_where_it_is_as_fast():
    fast = pomona.accelerate_gpu(net(), torch.randn(1, 64).bfloat16(), gpu=gpu(DENSE))
    assert "takes 2.00 of the dense time" in fast.told and not any(layer.way for layer in fast.layers)


def test_a_model_that_is_no_faster_as_a_whole_says_so():
    fast = pomona.accelerate_gpu(net(), torch.randn(1, 64).bfloat16(), target="gpu-2:4", gpu=gpu(whole=1.98e-3))
    assert fast.told.startswith("2 of 3 linear layers run sparse (2 as 2:4). The whole pass is no faster: ")


def test_the_table_and_the_document_say_what_runs_how():
    fast = pomona.accelerate_gpu(net(), torch.randn(1, 64).bfloat16(), gpu=gpu())
    lines = fast.table().splitlines()
    assert lines[0].split() == ["layer", "shape", "rows", "zeros", "runs", "as", "dense", "ms", "sparse", "ms"]
    assert lines[1].split() == ["0", "128x64", "1", "50%", "2:4", "2", "1"]
    assert lines[-2] == "A pass of the whole model: 2 ms dense, 1 ms now (2x) on one of ours."
    told = fast.document()
    assert told["layers"][0]["way"] == {"layout": "2:4", "tall": 0, "parts": 0} and told["gpu"] == "one of ours"


def test_wishes_that_cannot_be_met_are_refused():
    with pytest.raises(InputError, match="not 'int8'"):
        pomona.accelerate_gpu(net(), torch.randn(1, 64), values="int8", gpu=gpu())
    with pytest.raises(InputError, match="does not run on these inputs"):
        pomona.accelerate_gpu(net(), torch.randn(1, 63).bfloat16(), gpu=gpu())
    with pytest.raises(InputError, match="no GPU target 'gpu'"):
        pomona.accelerate_gpu(net(), torch.randn(1, 64), target="gpu")
