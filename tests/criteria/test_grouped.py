"""Lifting a criterion on weights to coupled groups: closed forms on a group of three tensors, and refusals."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

import zoo
from handmade import axis_site, branch_site, data, element_site, filters, net, view
from pomona import trace
from pomona.collect import collect
from pomona.criteria.activation_taylor import ActivationTaylor
from pomona.criteria.geometric_median import GeometricMedian
from pomona.criteria.gradient_magnitude import GradientMagnitude
from pomona.criteria.grouped import Grouped
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.norm_scale import NormScale
from pomona.criteria.taylor import Taylor
from pomona.criteria.wanda import Wanda
from pomona.structures.axes import Axes
from pomona.vocabulary import Axis, InputError, Member, Site, View

WRITER = torch.tensor([[3.0, 4.0], [0.0, 2.0]])  # units along rows: norms 5 and 2
READER = torch.tensor([[1.0, 6.0], [0.0, 8.0]])  # units along columns: norms 1 and 10
SCALE = torch.tensor([-2.0, 1.0])


def group(alive=(True, True)):
    members = (
        Member("writer", "out", 0, shape=(2, 2)),
        Member("scale", "scale", 0, shape=(2,)),
        Member("reader", "in", 1, shape=(2, 2)),
        Member("running_mean", "scale", 0, buffer=True, shape=(2,)),
    )
    site = Site("g", "axis", (2,), members, axis=Axis("g", 2, "channel", members))
    return View(site, Axes(), {"writer": WRITER, "scale": SCALE, "reader": READER}, torch.tensor(alive))


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        ("sum", [8.0, 13.0]),
        ("mean", [8 / 3, 13 / 3]),
        ("max", [5.0, 10.0]),
        ("norm", [30**0.5, 105**0.5]),
        ("product", [10.0, 20.0]),
        ("first", [5.0, 2.0]),
    ],
)
def test_norms_of_rows_scales_and_columns_are_combined(combine, expected):
    scores = Grouped(Magnitude("l2"), combine, roles=("out", "in", "scale")).score(group())
    assert_close(scores.value, torch.tensor(expected))


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [
        ("none", [6.0, 12.0]),
        ("mean", [5 / 3.5 + 1 / 5.5, 2 / 3.5 + 10 / 5.5]),
        ("sum", [5 / 7 + 1 / 11, 2 / 7 + 10 / 11]),
        ("max", [1 + 0.1, 0.4 + 1]),
        ("l2", [5 / 29**0.5 + 1 / 101**0.5, 2 / 29**0.5 + 10 / 101**0.5]),
        ("standardise", [0.0, 0.0]),
    ],
)
def test_members_are_normalised_before_they_meet(normalise, expected):
    scores = Grouped(Magnitude("l2"), "sum", normalise).score(group())
    assert_close(scores.value, torch.tensor(expected))


def test_the_dead_have_no_part_in_the_normalisation():
    scores = Grouped(Magnitude("l2"), "sum", "mean").score(group(alive=(True, False)))
    assert_close(scores.value[0], torch.tensor(2.0))


def test_the_norm_of_norms_is_the_norm_of_the_whole_group():
    roles = ("out", "in", "scale")
    for criterion, combine in ((Magnitude("l2"), "norm"), (Magnitude("l1"), "sum"), (Magnitude("linf"), "max")):
        whole = Magnitude(criterion.norm, roles=roles).score(view(net(), axis_site()))
        assert_close(Grouped(criterion, combine, roles=roles).score(view(net(), axis_site())).value, whole.value)


def test_criteria_that_compare_whole_slices_are_lifted_too():
    columns = GeometricMedian().score(filters(READER.T)).value
    rows = GeometricMedian().score(filters(WRITER)).value
    assert_close(Grouped(GeometricMedian(), "sum").score(group()).value, rows + columns)


def test_taylor_is_summed_and_squared_within_each_tensor():
    model, (x, y) = net(), data(16)
    lifted = Grouped(Taylor(), "sum")
    stats = collect(model, [axis_site()], lifted.needs, [(x, y)], cross_entropy)["channels"]
    grads = torch.autograd.grad(cross_entropy(model(x), y), [model.conv.weight, model.fc.weight])
    writer = (model.conv.weight * grads[0]).sum((1, 2, 3)).square()
    reader = (model.fc.weight * grads[1]).view(6, 5, 16).sum((0, 2)).square()
    assert_close(lifted.score(view(model, axis_site(), stats)).value, (writer + reader).detach(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("make", [zoo.vgg, zoo.mlp])
def test_wanda_is_lifted_to_the_readers_of_a_traced_axis(make):
    model, args = make()
    site = Axes(("channel", "neuron")).sites(trace(model, args))[0]
    reader = next(m for m in site.members if m.role == "in")
    lifted = Grouped(Wanda(), "sum", roles=("in",))
    seen = []
    owner = model.get_submodule(reader.tensor.removesuffix(".weight"))
    handle = owner.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    stats = collect(model, [site], lifted.needs, [args])[site.name]
    handle.remove()
    weight = owner.weight.detach()
    if weight.dim() == 2:
        expected = (weight.abs().double() * seen[0].double().norm(dim=0)).sum(0)
    else:
        columns = torch.nn.functional.unfold(seen[0].double(), 3, padding=1)  # (examples, in * 9, positions)
        norms = columns.square().sum((0, 2)).sqrt().view(1, -1, 3, 3)
        expected = (weight.abs().double() * norms).sum((0, 2, 3))
    tensors = {m.tensor: model.get_parameter(m.tensor) for m in site.members if not m.buffer}
    given = replace(view(net(), axis_site()), site=site, structure=Axes(), tensors=tensors, stats=stats)
    scores = lifted.score(replace(given, alive=torch.ones(site.shape, dtype=torch.bool)))
    assert_close(scores.value, expected.float(), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_lifted_says_why():
    for site in (element_site(), branch_site()):
        with pytest.raises(InputError, match="no axis with out or in weights"):
            Grouped().score(view(net(), site))
    with pytest.raises(InputError, match="no normalisation with a scale"):
        Grouped(NormScale()).score(view(net(), axis_site()))
    x, y = data(4)
    unread = replace(axis_site(), members=tuple(replace(m, weight=None) for m in axis_site().members))
    for criterion, why in ((GradientMagnitude(), "defined for single weights"), (ActivationTaylor(), "no activation is seen")):
        with pytest.raises(InputError, match=why):
            collect(net(), [unread], Grouped(criterion).needs, [(x, y)], cross_entropy)


def test_unknown_and_senseless_combinations_are_refused():
    with pytest.raises(InputError, match="'median' combines nothing; use one of sum, mean"):
        Grouped(combine="median")
    with pytest.raises(InputError, match="'lamp' normalises nothing"):
        Grouped(normalise="lamp")
    with pytest.raises(InputError, match="have signs"):
        Grouped(combine="product", normalise="standardise")
