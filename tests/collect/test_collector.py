import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from handmade import SITES, axis_site, branch_site, data, element_site, linear_site, net
from pomona.collect import collect, observe
from pomona.collect.collector import split
from pomona.probes.forward import Forward
from pomona.probes.loss_gradient import LossGradient
from pomona.statistics.activations import ActivationMean, ZeroShare
from pomona.statistics.angular_change import AngularChange
from pomona.statistics.gate_gradient import GateGradient
from pomona.statistics.gradient import Gradient
from pomona.statistics.input_norm import InputNorm
from pomona.statistics.squared_taylor import SquaredTaylor
from pomona.vocabulary import Batch, InputError, Seen


def test_one_pass_a_probe_serves_every_statistic_and_site():
    model, (x, y) = net(), data(8)
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    needs = [ActivationMean(), ZeroShare(), GateGradient(), SquaredTaylor()]
    gathered = collect(model, [axis_site()], needs, [(x, y)] * 3, cross_entropy)
    assert len(calls) == 6
    assert len(gathered["channels"]) == 4


def test_without_needs_nothing_runs():
    assert collect(net(), [axis_site()], [], iter(()))["channels"] == {}


def test_the_model_comes_back_as_it_was_even_on_error():
    model, (x, y) = net().train(), data(8)
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]

    def broken(output, target):
        raise RuntimeError("user's own error")

    for loss in (cross_entropy, broken):
        try:
            collect(model, [axis_site(), element_site()], [SquaredTaylor()], [(x, y)], loss)
        except RuntimeError as error:
            assert "own error" in str(error)
        assert model.training and not model.norm.training and model.conv.training
        assert not model.conv.weight.requires_grad and model.norm.weight.requires_grad
        assert torch.equal(model.fc.weight.grad, torch.ones_like(model.fc.weight)) and model.conv.weight.grad is None
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()] == hooks


def test_empty_data_is_refused():
    with pytest.raises(InputError, match="at least one batch"):
        collect(net(), [axis_site()], [ActivationMean()], [])
    with pytest.raises(InputError, match="Batch 1 of the data is empty"):
        collect(net(), [axis_site()], [ActivationMean()], [torch.empty(0, 2, 4, 4)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_numbers_in_the_data_name_the_batch(bad):
    x, _ = data(4)
    wrong = x.clone()
    wrong[0, 0, 0, 0] = bad
    with pytest.raises(InputError, match="Batch 2 of the data holds NaN"):
        collect(net(), [axis_site()], [ActivationMean()], [x, wrong])


def test_a_model_that_overflows_on_a_batch_is_named():
    model, (x, _) = net(), data(4)
    with torch.no_grad():
        model.conv.weight.mul_(100)
    with pytest.raises(InputError, match=r"Batch 2 .* input of fc.weight"):
        collect(model, [axis_site()], [ActivationMean()], [x, x * 5e37])


def test_a_label_out_of_range_is_named_with_the_classes():
    x, y = data(4)
    y[2] = 7
    with pytest.raises(InputError, match="label 7 is out of range: the model has 3 classes"):
        collect(net(), [axis_site()], [SquaredTaylor()], [(x, y)], cross_entropy)


def test_ignored_labels_are_let_through():
    x, y = data(4)
    y[2] = -100
    collect(net(), [axis_site()], [SquaredTaylor()], [(x, y)], cross_entropy)


def test_a_missing_loss_or_target_is_refused():
    x, y = data(4)
    with pytest.raises(InputError, match="returns no loss"):
        collect(net(), [axis_site()], [SquaredTaylor()], [(x, y)])
    with pytest.raises(InputError, match="no targets"):
        collect(net(), [axis_site()], [SquaredTaylor()], [x], cross_entropy)


class Functional(nn.Module):
    """Its layer is not called."""

    def __init__(self, product):
        super().__init__()
        self.fc, self.product = nn.Linear(4, 3), product

    def forward(self, x):
        return self.product(2 * x, self.fc.weight)


def test_a_weight_that_a_function_reads_is_heard_there():
    x, site = torch.randn(2, 4), linear_site("fc.weight", (3, 4))
    found = collect(Functional(nn.functional.linear), [site], [InputNorm()], [x])
    assert_close(found[site.name][InputNorm()], (2 * x).double().norm(dim=0)[None])


def test_a_weight_that_nothing_known_reads_is_named():
    with pytest.raises(InputError, match=r"fc\.weight"):
        model = Functional(lambda x, weight: (x[:, None] * weight).sum(-1))
        collect(model, [linear_site("fc.weight", (3, 4))], [InputNorm()], [torch.randn(2, 4)])


def test_an_embedding_is_not_taken_for_a_reader():
    model = nn.Sequential(nn.Embedding(5, 4))
    with pytest.raises(InputError, match=r"0\.weight"):
        collect(model, [linear_site("0.weight", (5, 4))], [InputNorm()], [torch.tensor([[1, 2]])])


@pytest.mark.parametrize(
    ("statistic", "kind"),
    [
        (InputNorm(), "axis"),
        (Gradient(), "axis"),
        (AngularChange(), "axis"),
        (GateGradient(), "element"),
        (ActivationMean(), "branch"),
        (SquaredTaylor(), "branch"),
    ],
)
def test_a_statistic_refuses_sites_that_it_does_not_fit_before_any_pass(statistic, kind):
    site = SITES[kind][0]()

    def untouched():
        raise AssertionError("the data was read")
        yield

    with pytest.raises(InputError, match=site.name):
        collect(net(), [site], [statistic], untouched(), cross_entropy)


def test_observing_a_users_own_backward_pass_equals_collecting():
    model, (x, y) = net(), data(8)
    sites, needs = [element_site()], [Gradient(), SquaredTaylor()]
    cross_entropy(model(x), y).backward()
    named = dict(model.named_parameters())
    seen = Seen(8, grads={n: p.grad for n, p in named.items()}, weights={n: p.detach() for n, p in named.items()})
    own, gathered = observe(sites, needs, seen), collect(model, sites, needs, [(x, y)], cross_entropy)
    for need in needs:
        assert_close(own["conv.weight"][need], gathered["conv.weight"][need])


def test_splitting_gives_batches_of_one_and_leaves_shared_tensors_whole():
    batch = Batch((torch.arange(6).reshape(3, 2),), {"labels": torch.arange(3), "table": torch.zeros(5)}, torch.arange(3))
    pieces = list(split(batch))
    assert [p.args[0].tolist() for p in pieces] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert [p.kwargs["labels"].tolist() for p in pieces] == [[0], [1], [2]]
    assert all(len(p.kwargs["table"]) == 5 for p in pieces)
    assert [p.target.tolist() for p in pieces] == [[0], [1], [2]]


def test_probes_state_what_they_ask_of_the_user():
    assert Forward().requires == {"data"}
    assert LossGradient().requires == {"data", "labels", "gradients"}


def test_blocks_that_never_run_are_named():
    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = net().blocks

        def forward(self, x):
            return self.blocks[2](self.blocks[0](x))

    with pytest.raises(InputError, match=r"blocks\.1"):
        collect(Skipping(), [branch_site()], [AngularChange()], [torch.randn(2, 6)])
