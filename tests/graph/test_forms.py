"""Wrappers, and tensors that cannot be cut, are refused before work starts; what else a module holds comes along."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as masks

import pomona
import zoo
from pomona.graph.forms import check_form
from pomona.graph.surgery import realise
from pomona.vocabulary import InputError


def net():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def small(model, args, **wish):
    wish = {"method": "magnitude-uniform", "structure": "axes", "goal": "params=0.6x", "latency": False, **wish}
    return pomona.prune(model, args, **wish)


def hooked():
    model = net()
    model[0].weight.register_hook(lambda g: g * 0)
    return model


def thinned():
    model = net()
    masks.l1_unstructured(model[0], "weight", 0.5)
    return model


def in_inference_mode():
    with torch.inference_mode():
        return net()


def on_meta():
    with torch.device("meta"):
        return net()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: torch.compile(net()), r"_orig_mod"),
        (lambda: nn.DataParallel(net()), r"model\.module"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "has no values yet"),
        (on_meta, "meta device"),
        (in_inference_mode, "inference mode"),
        (hooked, "gradient hook"),
        (thinned, r"prune\.remove"),
    ],
)
def test_forms_that_cannot_be_cut_are_refused_with_what_to_do(make, sentence):
    with pytest.raises(InputError, match=sentence):
        small(make(), torch.randn(2, 8))


def test_plain_models_pass():
    for make in (zoo.resnet, zoo.bert, zoo.lstm):
        check_form(make()[0])


class Plain(nn.Module):
    """Holds a tensor that is neither a parameter nor a buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.scales = nn.Linear(8, 16), nn.Linear(16, 3), torch.rand(16)

    def forward(self, x):
        return self.last(self.first(x) * self.scales)


def test_plain_tensors_are_cut_along():
    result = small(Plain(), torch.randn(2, 8))
    assert result.report.proof.passed and result.form == "eager"
    assert len(result.model.scales) == result.model.first.out_features < 16


class Written(Plain):
    """Writes a tensor down in its code."""

    def forward(self, x):
        return self.last(self.first(x) * torch.tensor([1.0, 2.0, 3.0, 4.0] * 4))


def test_tensors_written_in_the_code_hold_the_axis_that_they_meet():
    assert "written in the code" in pomona.trace(Written(), torch.randn(2, 8)).why("first.weight:0")
    with pytest.raises(InputError, match="written in the code"):
        small(Written(), torch.randn(2, 8))


TYPED_IN = {}
exec("def forward(self, x):\n    return self.last(self.first(x).view(-1, 16))", TYPED_IN)


class Typed(Plain):
    """Says its width in code that stands in no file."""

    forward = TYPED_IN["forward"]


def test_a_program_says_that_it_no_longer_calls_hooks():
    model, args = Typed(), torch.randn(2, 8)
    model.last.register_forward_hook(lambda module, given, out: out + 1)
    graph = pomona.trace(model, args)
    result = small(model, args)
    assert result.form == "graph" and result.report.proof.passed
    assert any("hooks on last" in note for note in realise(model, graph, result.plan).notes)


def test_modes_and_trainability_of_every_module_come_along():
    model, args = zoo.resnet()
    model.train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(False)
    modes = {name: m.training for name, m in model.named_modules()}
    result = small(model, args)
    assert modes == {name: m.training for name, m in model.named_modules()}
    assert modes == {name: m.training for name, m in result.model.named_modules()}
    assert [name for name, p in result.model.named_parameters() if not p.requires_grad] == ["conv1.weight"]


def test_hooks_on_modules_come_along_and_take_part_in_the_proof():
    model, args = zoo.resnet()
    seen = []
    model.layer1.register_forward_hook(lambda module, given, out: seen.append(out.shape) or out * 2)
    result = small(model, args)
    seen.clear()
    result.model(*args)
    assert len(seen) == 1 and result.report.proof.passed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_stay(dtype):
    model, args = zoo.resnet()
    result = small(model.to(dtype), tuple(x.to(dtype) for x in args))
    assert result.report.proof.passed and {p.dtype for p in result.model.parameters()} == {dtype}
