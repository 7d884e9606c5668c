from dataclasses import replace

import pytest
import torch
from torch import nn

import zoo
from plans import axes_plan, elements_plan, prunable
from pomona.graph import trace
from pomona.graph.expr import take
from pomona.graph.masked import masked
from pomona.graph.precise import precise, precisely
from pomona.graph.proof import another, difference, prove, require
from pomona.graph.reference import answer, put_back
from pomona.graph.surgery import realise
from pomona.graph.tried import Tried
from pomona.vocabulary import Decision, Plan, ProofError

# No output depends on these: a bias on the keys shifts all attention scores of a query alike, which softmax does not see;
# the last step of the reversed direction starts from a state of zeros.
UNSEEN = ("attention.self.key.bias", "lstm.weight_hh_l1_reverse")


def prepared(make):
    model, args = make()
    graph = trace(model, args)
    plan = axes_plan(graph)
    positional, keywords = graph.program.example_inputs
    return model, graph, plan, realise(model, graph, plan).model, positional, keywords


@pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)
def test_a_wrong_slice_of_any_parameter_fails(make):
    model, graph, plan, small, args, kwargs = prepared(make)
    tried, passed = realise(model, graph, plan).tried, []  # it was right, but is no twin of what has a wrong slice
    for name, parameter in small.named_parameters():
        right, widest = parameter.data, max(range(parameter.dim()), key=lambda d: parameter.shape[d])
        parameter.data = right.roll(1, widest)
        if prove(model, graph, plan, small, args, kwargs, tried=tried).passed:
            passed.append(name)
        parameter.data = right
    assert all(name.endswith(UNSEEN) for name in passed), passed


@pytest.mark.parametrize("make", zoo.BY_AXIS, ids=lambda make: make.__name__)
def test_a_wrong_kept_unit_fails(make):
    model, graph, plan, _, args, kwargs = prepared(make)
    for name in prunable(graph):
        keep = plan.keep(name).clone()
        alive, dead = keep.nonzero()[0], (~keep).nonzero()[0]
        keep[alive], keep[dead] = False, True
        wrong = realise(model, graph, Plan(plan.sites, {**plan.decisions, name: Decision(keep)})).model
        assert not prove(model, graph, plan, wrong, args, kwargs).passed, name


@pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)
def test_what_was_tried_while_the_model_was_made_is_not_run_again(make, monkeypatch):
    model, args = make()
    graph = trace(model, args)
    plan, (positional, keywords) = axes_plan(graph), graph.program.example_inputs
    realised = realise(model, graph, plan)
    proof = prove(model, graph, plan, realised.model, positional, keywords)
    monkeypatch.setattr(Tried, "anew", None)
    again = prove(model, graph, plan, realised.model, positional, keywords, tried=realised.tried)
    assert proof.passed and again.passed
    assert again.sensitivity == pytest.approx(proof.sensitivity, rel=1e-6)


def test_sensitivity_is_taken_from_the_model_itself_only_where_rounding_is_small_beside_it():
    model, graph, plan, small, args, kwargs = prepared(zoo.mlp)
    proof = prove(model, graph, plan, small, args, kwargs)
    (far,) = answer(precise(small), *another((args, kwargs)))
    (near,) = answer(precise(small), args, kwargs)
    assert prove(model, graph, plan, small, args, kwargs, elsewhere=[2 * far]).sensitivity > 1.5 * proof.sensitivity
    for other in (near * (1 + 1e-4), near * torch.nan):  # may be rounding, may be what float32 cannot hold
        assert prove(model, graph, plan, small, args, kwargs, elsewhere=[other]).sensitivity == proof.sensitivity


def test_what_was_not_tried_is_not_called_sensitive():
    model, graph, plan, small, args, kwargs = prepared(zoo.mlp)
    proof = prove(model, graph, plan, small, args, kwargs, elsewhere="untried")
    assert proof.passed and proof.sensitivity is None and "was not tried" in proof.notes[0]


def test_groups_under_a_normaliser_are_called_approximate():
    model, graph, plan, small, args, kwargs = prepared(zoo.convnext)
    proof = prove(model, graph, plan, small, args, kwargs)
    widths = {name for name in plan.sites if any(m.tensor == "norm.weight" for m in graph.axes[name].members)}
    assert widths and set(proof.approximate_groups) == widths
    # and zeroing is another function there
    with torch.no_grad():
        assert difference([small(*args)], [masked(model, plan)(*args)]) > 1e-3


def test_a_dead_network_is_said_to_prove_nothing():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    with torch.no_grad():
        model[0].weight.zero_()
    x = torch.randn(3, 4)
    graph = trace(model, x)
    plan = axes_plan(graph)
    proof = prove(model, graph, plan, realise(model, graph, plan).model, (x,))
    assert proof.passed and proof.sensitivity < 1e-6 and "says little" in proof.notes[0]


def test_weight_masks_are_proven_to_the_bit():
    model, args = zoo.vgg()
    graph, plan = trace(model, args), elements_plan(model)
    small = realise(model, graph, plan).model
    proof = prove(model, graph, plan, small, args)
    assert (proof.passed, proof.max_error, proof.form) == (True, 0.0, "masked")
    with torch.no_grad():
        small.classifier[4].bias[0] += 1e-7
    assert prove(model, graph, plan, small, args).max_error == float("inf")


def test_casts_to_float32_do_not_blur_the_proof():
    model, graph, plan, small, args, kwargs = prepared(zoo.llama)  # its norms and rotary tables ask for float32
    assert prove(model, graph, plan, small, args, kwargs).max_error < 1e-13


def test_batch_statistics_survive_a_proof():
    model, graph, plan, small, args, kwargs = prepared(zoo.resnet)
    small.train()
    before = {name: b.clone() for name, b in small.named_buffers()}
    assert prove(model, graph, plan, small, args, kwargs).passed
    assert small.training and all(torch.equal(b, before[name]) for name, b in small.named_buffers())
    assert torch.get_default_dtype() == torch.float32


def test_a_failed_proof_stops_everything():
    model, graph, plan, small, args, kwargs = prepared(zoo.mlp)
    proof = prove(model, graph, plan, small, args, kwargs)
    assert require(proof) is proof
    with pytest.raises(ProofError, match=r"differs from the masked one by 1\.0e-03 where 1e-09 is allowed"):
        require(replace(proof, passed=False, max_error=1e-3))


def test_nan_and_missing_outputs_are_differences():
    one, nan = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert difference([one], [one]) == 0.0
    assert not difference([nan], [one]) <= 1e-9
    assert difference([one, one], [one]) == float("inf")
    assert difference([torch.ones(3)], [one]) == float("inf")
    assert difference([one * 1.5], [one]) == 0.5


def test_kept_entries_come_back_to_their_places():
    model, args = zoo.mlp()
    graph = trace(model, args)
    dims = graph.dims["2.weight"]
    keep = {graph.atoms[name]: torch.tensor([1, 3]) for name in prunable(graph)}
    whole = torch.arange(12 * 16.0).view(12, 16)
    small = take(whole, dims, keep)
    assert torch.equal(small, whole[[1, 3]][:, [1, 3]])
    back = put_back(small, dims, keep)
    assert back.shape == whole.shape and back.count_nonzero() == small.count_nonzero()
    assert torch.equal(take(back, dims, keep), small)


def test_another_input_differs_and_keeps_masks():
    ids, mask, x = torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.int64), torch.randn(2, 3)
    new_ids, new_mask, new_x = another((ids, mask, x))
    assert new_ids.tolist() == [[3, 2, 1]] and torch.equal(new_mask, mask) and not torch.equal(new_x, x)
    assert another(torch.tensor([0, 1, 3])).tolist() == [0, 2, 3]


def test_experts_are_multiplied_in_float64():
    x, experts, ends = torch.randn(5, 8), torch.randn(2, 8, 8), torch.tensor([2, 5], dtype=torch.int32)
    with precisely():
        got = torch._grouped_mm(x.double(), experts.double(), offs=ends)
    expected = torch.cat((x[:2].double() @ experts[0].double(), x[2:].double() @ experts[1].double()))
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)
