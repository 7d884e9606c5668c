import copy

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

import digits
from handmade import net
from loops import HandGraph, begin, sgd, train
from pomona.engines.prices import price
from pomona.engines.training import sparsify
from pomona.recipes.greg import greg1
from pomona.regularisers.growing_l2 import GrowingL2
from pomona.schedules.at_step import AtStep
from pomona.vocabulary import Axis, Goal, Member


def test_the_condemned_are_chosen_once_by_norm_and_only_they_feel_the_penalty():
    model = net()
    opt = sgd(model)
    norms = model.conv.weight.detach().abs().sum((1, 2, 3))
    with begin(model, opt, greg1.but(regulariser=GrowingL2(delta=1e-2, every=5)), "sparsity=0.25", 25) as s:
        alive = s.plan().keep("channels")
        assert set(norms[~alive].tolist()) == set(norms.sort().values[: int((~alive).sum())].tolist()) and not alive.all()
        assert s.loss() == 0 and torch.equal(model.conv.weight, s._parameters["conv.weight"])
        train(model, opt, s, 0, 24)
        assert_close(s.state_dict()["regulariser"]["channels"]["lam"], (~alive).float() * 4e-2)
        assert torch.equal(s.plan().keep("channels"), alive)
        dead = s._parameters["conv.weight"][~alive]
        assert dead.abs().sum() > 0 and s.loss() > 0
        assert_close(s.loss().item(), 0.5 * 4e-2 * dead.square().sum().item())
        train(model, opt, s, 24, 25)
        assert s.loss() == 0 and not model.conv.weight[~alive].any()
    assert not model.conv.weight[~alive].any() and not model.norm.bias[~alive].any()
    assert not model.fc.weight.view(6, 5, 16)[:, ~alive].any()


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 24, 3, padding=1)
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(24 * 16, 10)

    def forward(self, x):
        return self.fc(self.pool(torch.relu(self.conv(x))).flatten(1))


FILTERS = (
    Member("conv.weight", "out", 0, torch.arange(24).unsqueeze(1), shape=(24, 1, 3, 3)),
    Member("conv.bias", "scale", 0, torch.arange(24).unsqueeze(1), shape=(24,)),
    Member("fc.weight", "in", 1, torch.arange(384).view(24, 16), shape=(10, 384)),
)


def steps(model, opt, s=None):
    for k in range(150):
        x, y = digits.batch(k)
        opt.zero_grad()
        (cross_entropy(model(x), y) + (s.loss() if s else 0)).backward()
        opt.step()
        if s:
            s.step()


def cut(trained, recipe, goal):
    """The trained net after 150 more steps under the recipe."""
    model, wish = copy.deepcopy(trained), Goal.parse(goal)
    graph = HandGraph(HandGraph.of(trained).weights, {"filters": Axis("filters", 24, "channel", FILTERS)})
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    cost = price(wish, graph, recipe.structure.sites(graph), recipe.structure)
    with sparsify(model, opt, recipe, wish, 150, graph=graph, price=cost) as s:
        steps(model, opt, s)
    return model


def test_on_digits_faded_filters_leave_without_a_trace_and_one_shot_ones_do_not():
    torch.manual_seed(0)
    trained = Cnn()
    steps(trained, torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9))
    growing = GrowingL2(delta=2e-2, every=2, roles=("out", "scale", "in"))
    faded = digits.accuracy(cut(trained, greg1.but(regulariser=growing), "sparsity=0.85"))
    at_once = digits.accuracy(cut(trained, greg1.but(schedule=AtStep(150), regulariser=None), "sparsity=0.85"))
    assert faded > at_once + 0.15 and faded > digits.accuracy(trained) - 0.1
