import pytest
import torch
from torch import nn

import zoo
from halving import halved
from pomona.graph.export import export, inputs_of
from pomona.graph.nodes import name_of
from pomona.vocabulary import InputError


class Outer(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Answers(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form, self.linear = form, nn.Linear(3, 2)

    def forward(self, x):
        y = self.linear(x)
        return {"dict": {"y": y, "none": None}, "tuple": (y, [y + 1]), "tensor": y}[self.form]


def test_the_model_comes_back_as_it_was():
    model, args = zoo.resnet()
    model.train()
    model.layer1.eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    flags = {name: m.training for name, m in model.named_modules()}
    export(model, args)
    assert {name: m.training for name, m in model.named_modules()} == flags
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not any(p.grad is not None for p in model.parameters())


def test_the_program_holds_the_models_own_tensors():
    model, args = zoo.vgg()
    program = export(model, args)
    assert all(program.state_dict[name].data_ptr() == p.data_ptr() for name, p in model.named_parameters())


def test_evaluation_is_traced_even_while_training():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).train()
    program = export(model, torch.randn(4, 3))
    x = torch.randn(4, 3)
    assert torch.equal(program.module()(x), model.eval()(x))


def test_a_cache_is_turned_off_while_tracing_and_on_again_after():
    model, args = zoo.gpt2()
    assert model.config.use_cache
    program = export(model, args)
    assert model.config.use_cache
    assert len(program.graph_signature.user_outputs) == 1


@pytest.mark.parametrize("form", ["dict", "tuple", "tensor"])
def test_any_form_of_output_will_do(form):
    export(Answers(form), torch.randn(2, 3))


def test_a_model_on_the_meta_device_is_traced_without_weights():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(1 << 14, 1 << 14), nn.ReLU(), nn.Linear(1 << 14, 4))
    assert len(export(model, torch.empty(2, 1 << 14, device="meta")).state_dict) == 4


class Unasked(nn.Module):
    """A pooler whose answer nobody reads, and a length that is taken from a tensor made for nothing else."""

    def __init__(self):
        super().__init__()
        self.first, self.pooler, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        h = self.first(x)
        self.pooler(h).tanh()
        return self.last(h) * x.flatten(1).shape[1]


def test_a_layer_whose_answer_is_unread_stays_and_what_only_has_a_shape_goes():
    names = [name_of(n) for n in export(Unasked(), torch.randn(2, 3, 4)).graph.nodes]
    assert names.count("linear") == 3 and "flatten" not in names and "tanh" not in names


def test_a_layer_whose_answer_is_unread_is_cut_with_the_others():
    found = halved(Unasked(), torch.randn(2, 3, 4))
    assert found.form == "eager" and found.proof.passed
    assert found.small.pooler.weight.shape == (3, 3)


def test_the_module_that_fails_is_named():
    with pytest.raises(InputError, match=r"at module 'inner\.0' \(Linear"):
        export(Outer(nn.Sequential(nn.Linear(3, 3))), torch.randn(2, 4))


def test_a_branch_on_values_is_refused_in_one_line(capfd):
    with pytest.raises(InputError, match="without branches on tensor values") as refusal:
        export(Outer(Branching()).train(), torch.randn(2, 3))
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_flags_are_restored_after_a_refusal():
    model = Outer(Branching()).train()
    with pytest.raises(InputError):
        export(model, torch.randn(2, 3))
    assert model.training and model.inner.training


@pytest.mark.parametrize("wrong", [3, "text", (), {}, (1, 2), None])
def test_inputs_without_a_tensor_are_refused(wrong):
    with pytest.raises(InputError, match="Example inputs must"):
        inputs_of(wrong)


def test_inputs_are_a_tensor_a_tuple_or_keywords():
    x = torch.zeros(1)
    assert inputs_of(x) == ((x,), {})
    assert inputs_of([x, 2]) == ((x, 2), {})
    assert inputs_of({"x": x}, {"y": 1}) == ((), {"x": x, "y": 1})
