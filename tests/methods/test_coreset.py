"""Coresets of neurons (Mussay et al., 2020)."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import pomona
import zoo
from handmade import axis_site, net, view
from pomona.criteria.sensitivity import Sensitivity
from pomona.recipes.coreset import coreset
from pomona.solvers.coreset_sample import CoresetSample, drawn
from pomona.statistics.sensitivity import sensitivities
from pomona.structures.axes import Axes
from pomona.vocabulary import InputError, Member, Site, View, generator


def layer(incoming, outgoing, seed=0, **changes):
    """A view of neurons with these rows of incoming and outgoing weights."""
    units = len(incoming)
    members = (
        Member("a.weight", "out", 0, shape=tuple(incoming.shape)),
        Member("b.weight", "in", 1, shape=tuple(outgoing.T.shape)),
    )
    tensors = {"a.weight": incoming, "b.weight": outgoing.T.contiguous()}
    return View(
        Site("a", "axis", (units,), members),
        Axes(),
        tensors,
        torch.ones(units, dtype=torch.bool),
        generator=generator(seed),
        **changes,
    )


def test_probabilities_are_the_largest_way_out_times_what_the_way_in_can_do():
    v = layer(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, -2.0], [10.0, 0.0], [7.0, 7.0]]))
    assert_close(sensitivities(v, 1.0, "relu", "max"), torch.tensor([10.0, 10.0, 0.0]).double())
    assert_close(sensitivities(v, 1.0, "relu", "sum"), torch.tensor([15.0, 10.0, 0.0]).double())
    assert_close(sensitivities(v, 2.0, "sigmoid", "max")[2], torch.tensor(3.5).double())
    assert_close(Sensitivity().score(v).value, torch.tensor([0.5, 0.5, 0.0]))


def test_biases_of_the_writers_belong_to_the_point_and_norms_do_not():
    model = net()
    found = sensitivities(view(model, axis_site()), 1.0, "relu", "max")
    points = torch.cat([model.conv.weight.flatten(1), model.conv.bias[:, None]], 1).norm(dim=1)
    assert_close(found.float(), (points * model.fc.weight.reshape(6, 5, 16).abs().amax((0, 2))).detach())


def test_who_has_no_way_in_or_out_is_never_drawn():
    v = layer(torch.ones(4, 2), torch.tensor([[1.0], [0.0], [1.0], [1.0]]))
    v.tensors["a.weight"][3] = 0
    for seed in range(30):
        keep, _ = drawn(sensitivities(v, 1.0, "relu", "max"), torch.tensor([False, True, False, True]), generator(seed))
        assert keep.tolist() == [True, False, True, False]


def test_everyone_kept_speaks_for_himself():
    keep, factors = drawn(torch.tensor([0.5, 0.5]).double(), torch.tensor([True, False]), generator(0))
    assert keep.sum() == 1 and factors[keep] > 1
    assert CoresetSample().solve(layer(torch.ones(2, 2), torch.ones(2, 1)), torch.tensor([True, True])).tensors == {}


def estimates(worth, adds, count, repeats):
    """What the drawn units say the sum is, over and over."""
    proposal, found = torch.arange(len(worth)) < count, []
    for seed in range(repeats):
        keep, factors = drawn(worth, proposal, generator(seed))
        found.append((adds * factors)[keep].sum())
    return torch.stack(found)


@pytest.mark.parametrize("count", [1, 2])
def test_the_sum_is_right_on_average(count):
    found = estimates(torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([2.0, 0.9, 1.3]).double(), count, 4000)
    assert abs(found.mean() - 4.2) < 4 * found.std() / 4000**0.5


def test_twins_share_their_chance_and_the_expectation_stays():
    worth, adds = torch.tensor([1.0, 1.0, 2.0]).double(), torch.tensor([3.0, 3.0, -1.0]).double()
    found = estimates(worth, adds, 2, 4000)
    assert abs(found.mean() - 5) < 4 * found.std() / 4000**0.5


def test_the_error_falls_with_the_root_of_the_size():
    g = torch.Generator().manual_seed(0)
    adds = torch.randn(4000, generator=g).double()
    worth = torch.rand(4000, generator=g).double() + 0.5
    few, many = (estimates(worth, adds, m, 300).sub(adds.sum()).square().mean().sqrt() for m in (64, 256))
    assert 1.75 < few / many < 2.25


def test_a_drawn_layer_is_the_dense_one_on_average_for_every_input():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3)).double(), torch.randn(5, 6).double()
    total = torch.zeros(5, 3).double()
    for seed in range(150):
        v = view_of(model, seed)
        decision = CoresetSample().solve(v, torch.arange(40) < 20)
        hidden = torch.relu(model[0](x)) * decision.keep
        total += hidden @ decision.tensors["2.weight"].T + model[2].bias
    assert (total / 150 - model(x)).abs().max() < 0.15 * model(x).abs().max()


def view_of(model, seed):
    members = (
        Member("0.weight", "out", 0, shape=(40, 6)),
        Member("0.bias", "scale", 0, shape=(40,)),
        Member("2.weight", "in", 1, shape=(3, 40)),
    )
    tensors = {m.tensor: model.get_parameter(m.tensor).detach() for m in members}
    return View(Site("a", "axis", (40,), members), Axes(), tensors, torch.ones(40, dtype=torch.bool), generator=generator(seed))


@pytest.mark.parametrize("make", [zoo.vgg, zoo.resnet, zoo.vit], ids=lambda f: f.__name__)
def test_no_data_is_asked_for_and_the_plan_is_proven(make):
    model, args = make()
    result = pomona.prune(model, args, method="coreset", goal="params=0.85x", latency=False)
    assert result.report.proof.passed
    solved = [d for d in result.plan.decisions.values() if d.tensors]
    assert solved and all(torch.isfinite(t).all() for d in solved for t in d.tensors.values())


def test_where_nobody_reads_there_is_no_coreset():
    with pytest.raises(InputError, match="no axis of neurons"):
        model = net()
        site = axis_site()
        Sensitivity().score(
            View(
                Site("a", "axis", (5,), site.members[:1]),
                Axes(),
                {"conv.weight": model.conv.weight},
                torch.ones(5, dtype=torch.bool),
            )
        )
    assert coreset.needs == frozenset()
