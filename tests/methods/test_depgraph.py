"""DepGraph's importance and its shrinking of whole groups (Fang et al., 2023)."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

import digits
import pomona
import zoo
from pomona.recipes.groups import depgraph, depgraph_sparse
from pomona.regularisers.group_shrink import GroupShrink
from pomona.structures.axes import Axes
from pomona.vocabulary import Axis, Clock, Member, Site, View


def rows(*norms, alive=None):
    """An axis whose unit k has squared norm `norms[k]`, split over a row, a column and a bias."""
    n = torch.tensor(norms)
    tensors = {"w": (n / 2).sqrt().unsqueeze(1), "v": (n / 4).sqrt().unsqueeze(0), "b": -(n / 4).sqrt()}
    members = (Member("w", "out", 0, shape=(len(n), 1)), Member("v", "in", 1, shape=(1, len(n))), Member("b", "scale", 0))
    site = Site("g", "axis", (len(n),), members, axis=Axis("g", len(n), "channel", members))
    return View(site, Axes(), tensors, torch.ones(len(n), dtype=torch.bool) if alive is None else torch.tensor(alive))


def gamma(view):
    return GroupShrink(alpha=4.0).advance(view, None, Clock())["gamma"]


def test_the_weakest_unit_is_pulled_sixteen_times_as_hard_as_the_strongest():
    assert_close(gamma(rows(1.0, 2.0, 3.0)), torch.tensor([16.0, 4.0, 1.0]))


def test_equal_units_are_pulled_alike_and_the_dead_no_harder_than_the_weakest():
    assert_close(gamma(rows(2.0, 2.0)), torch.ones(2))
    assert_close(gamma(rows(0.0, 2.0, 3.0, alive=(False, True, True))), torch.tensor([16.0, 16.0, 1.0]))


def test_the_penalty_is_the_weighted_squared_norm_of_every_member():
    view = rows(1.0, 2.0, 3.0)
    for state in (None, {"gamma": torch.tensor([16.0, 4.0, 1.0])}):
        assert_close(GroupShrink(strength=0.5).penalty(view, state, Clock()), torch.tensor(0.5 * (16 + 8 + 3)))


def test_scores_are_sums_of_norms_over_everything_that_a_unit_reaches_into():
    view = rows(4.0, 16.0)
    expected = torch.tensor([4.0, 16.0]).sqrt() * (0.5**0.5 + 0.5 + 0.5)
    assert_close(depgraph.criterion.score(view).value, expected)


@pytest.mark.parametrize("make", [zoo.mobilenet, zoo.vit, zoo.llama, zoo.lstm])
def test_groups_of_every_family_are_scored_and_a_plan_on_them_is_proven(make):
    model, args = make()
    out = pomona.prune(model, args, method="depgraph", structure="axes", goal="params=0.6x", latency=False)  # proves, or raises
    assert sum(p.numel() for p in out.model.parameters()) <= 0.6 * sum(p.numel() for p in model.parameters())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * 16, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.norm1(self.conv1(x))), 2)
        return self.fc((x + torch.relu(self.norm2(self.conv2(x)))).flatten(1))


STEPS = 200


@pytest.fixture(scope="module")
def trained():
    """A net, and copies of it that trained on: with its groups shrinking, and with as strong a pull on every weight alike."""
    torch.manual_seed(0)
    dense = Net()
    train(dense)
    return dense, {"group": shrunk(dense, GroupShrink(strength=2e-3)), "even": shrunk(dense, GroupShrink(8e-3, alpha=0.0))}


def train(model, penalty=None):
    model.train()
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for k in range(STEPS):
        x, y = digits.batch(k)
        opt.zero_grad()
        (cross_entropy(model(x), y) + (penalty(model) if penalty else 0)).backward()
        opt.step()


def site_of(model):
    graph = pomona.trace(model.eval(), digits.batch(0)[0])
    (site,) = Axes(("channel",)).sites(graph)
    return site


def view_of(model, site):
    tensors = {m.tensor: model.get_parameter(m.tensor) for m in site.members if not m.buffer}
    return View(site, Axes(), tensors, torch.ones(site.shape, dtype=torch.bool))


def shrunk(dense, part):
    model, site = copy.deepcopy(dense), site_of(dense)
    train(model, lambda m: part.penalty(view_of(m, site), None, Clock()))
    return model


def member_norms(model, site):
    """(members, units): the norms of each tensor's slices, norms and biases left out."""
    matrices = [m for m in site.members if m.role in ("out", "in")]
    return torch.stack([m.rows(model.get_parameter(m.tensor).detach()).norm(dim=1) for m in matrices])


def test_shrinking_by_groups_makes_all_tensors_of_a_unit_fade_together(trained):
    dense, models = trained
    site = site_of(dense)
    together = {name: torch.corrcoef(member_norms(model, site)).mean() for name, model in models.items()}
    assert together["group"] > 0.9 and together["group"] > together["even"] + 0.1


def test_a_sparse_group_loses_its_weak_units_at_less_cost(trained):
    _, models = trained
    after = {}
    for name, model in models.items():
        out = pomona.prune(model.eval(), digits.batch(0)[0][:2], method=depgraph, goal="params=0.2x", latency=False)
        after[name] = digits.accuracy(out.model)
    assert after["group"] > after["even"] + 0.15 and after["group"] > 0.8


def test_the_whole_recipe_trains_shrinks_and_cuts_at_the_end():
    torch.manual_seed(0)
    model = Net().train()
    x, y = digits.batch(0)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    with pomona.sparsify(model, opt, method=depgraph_sparse, goal="params=0.7x", steps=5, args=(x[:2],)) as s:
        for _ in range(5):
            assert s.density == 1.0 and s.loss() > 0
            opt.zero_grad()
            (cross_entropy(model(x), y) + s.loss()).backward()
            opt.step()
            s.step()
        assert s.density < 0.75
    assert (model.conv1.weight.abs().sum((1, 2, 3)) == 0).any()
