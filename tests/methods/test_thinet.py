"""ThiNet: channels chosen by what the next layer misses, and its least squares (Luo et al., 2017)."""

from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

import digits
import pomona
import zoo
from pomona.collect import collect
from pomona.criteria.contribution import Contribution, greedy
from pomona.criteria.random import Random
from pomona.recipes.filters import l1_filters
from pomona.recipes.reconstruction import thinet
from pomona.solvers.channel_scale import ChannelScale, factors, swapped
from pomona.statistics.contributions import ContributionGram, gram
from pomona.structures.axes import Axes
from pomona.vocabulary import InputError, View

CARD = torch.tensor([[1.0, 1.1, -1.2], [0.0, 0.0, 0.0]], dtype=torch.float64)  # (samples, channels): what each adds
NOBODY = torch.zeros(3, dtype=torch.bool)


def error(g, gone):
    return float(gone.to(g.dtype) @ g @ gone.to(g.dtype))


def test_the_greedy_choice_sees_that_channels_cancel():
    order, errors = greedy(CARD.T @ CARD, NOBODY)
    assert order.argsort().tolist()[:2] == [0, 2]  # independent scores would take 0 and 1, at an error of 4.41
    assert_close(errors[order.argsort()[:2]], torch.tensor([1.0, 0.04], dtype=torch.float64))


def test_exchanges_find_what_the_greedy_choice_missed():
    g = CARD.T @ CARD
    keep = swapped(g, torch.tensor([False, True, False]), ~NOBODY)
    assert keep.tolist() == [True, False, False]
    assert error(g, ~keep) == pytest.approx(0.01) == min(error(g, mask(pair)) for pair in combinations(range(3), 2))


def mask(members, size=3):
    found = torch.zeros(size, dtype=torch.bool)
    found[list(members)] = True
    return found


def test_the_scales_are_those_of_least_squares_and_never_make_it_worse():
    torch.manual_seed(0)
    x = torch.randn(40, 6, dtype=torch.float64)
    keep = mask([0, 2, 3], 6)
    y = x.sum(1)
    found = factors(x.T @ x, keep, 1e-12)
    assert_close(found[keep], torch.linalg.lstsq(x[:, keep], y[:, None]).solution[:, 0], rtol=1e-6, atol=1e-9)
    for ridge in (1e-12, 1e-2, 1.0, 100.0):
        scaled = x[:, keep] @ factors(x.T @ x, keep, ridge)[keep]
        assert (y - scaled).square().sum() <= (y - x[:, keep].sum(1)).square().sum()
    assert factors(x.T @ x, torch.ones(6, dtype=torch.bool), 1e-6).tolist() == [1.0] * 6


@pytest.mark.parametrize("sizes", [(3, 4, 5, 1), (30, 40, 3, 2), (2, 3, 4, 9)])
def test_both_ways_to_the_gram_are_the_brute_force(sizes):
    torch.manual_seed(1)
    samples, outputs, units, k = sizes
    x, w = torch.randn(samples, 2, units, k, dtype=torch.float64), torch.randn(outputs, 2, units, k, dtype=torch.float64)
    adds = torch.einsum("sguk,oguk->sgou", x, w).reshape(-1, units)
    assert_close(gram(x, w), adds.T @ adds)


LAYERS = {
    "strided and dilated": lambda: nn.Conv2d(6, 4, 3, stride=2, padding=2, dilation=2),
    "oblong": lambda: nn.Conv2d(6, 4, (1, 3), padding=(0, 1)),
    "transposed": lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=0),
    "pointwise": lambda: nn.Conv2d(6, 4, 1, bias=False),
}


@pytest.mark.parametrize("name", LAYERS)
def test_contributions_are_what_silencing_a_channel_takes_from_the_next_layer(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), LAYERS[name](), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    g, _ = gram_of(model, x, "0.weight:0")
    h = torch.tanh(model[0](x))
    base = model[2](torch.zeros_like(h))
    adds = torch.stack([(model[2](h * (torch.arange(6) == u).view(1, 6, 1, 1)) - base).flatten() for u in range(6)])
    assert_close(g, (adds @ adds.T / 2).detach())


def gram_of(model, x, name, positions=10_000):
    graph = pomona.trace(model.eval(), x)
    site = next(s for s in Axes(("channel", "neuron", "head", "group")).sites(graph) if s.name == name)
    need = ContributionGram(positions)
    return collect(model, [site], [need], [x])[name][need], site


def test_a_flattened_map_adds_through_all_its_columns():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 7)).double()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    g, _ = gram_of(model, x, "0.weight:0")
    adds = torch.einsum("nup,oup->uno", torch.relu(model[0](x)).flatten(2), model[3].weight.view(7, 5, 36)).flatten(1)
    assert_close(g, (adds @ adds.T / 4).detach())


def test_grouped_readers_add_up_over_their_groups():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    graph = pomona.trace(model.eval(), x)
    site = next(
        s for s in Axes(("channel", "group")).sites(graph) if any(m.tensor == "2.weight" and m.role == "in" for m in s.members)
    )
    need = ContributionGram(10_000)
    g = collect(model, [site], [need], [x])[site.name][need]
    h, base = torch.relu(model[0](x)), model[2](torch.zeros(2, 8, 6, 6, dtype=torch.float64))
    adds = []
    for unit in range(site.units):
        lives = torch.zeros(8, dtype=torch.bool)
        writer = next(m for m in site.members if m.tensor == "0.weight")
        lives[writer.index[unit] if writer.index is not None else unit] = True
        adds.append((model[2](h * lives.view(1, 8, 1, 1)) - base).flatten())
    assert_close(g, (torch.stack(adds) @ torch.stack(adds).T / 2).detach())


def test_channels_that_cancel_leave_together_and_nothing_changes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3] = model[0].weight[1], model[0].bias[1]
        model[2].weight[:, [0, 2]] *= 3  # the greedy choice starts with one of the pair
        model[2].weight[:, 3] = -model[2].weight[:, 1]
    x = torch.randn(4, 3, 8, 8)
    result = pomona.prune(model, x, method="thinet", goal="params=0.6x", data=[x], latency=False)
    assert result.plan.keep("0.weight:0").tolist() == [True, False, True, False]
    assert_close(result.model(x), model(x), rtol=1e-4, atol=1e-5)


def test_sites_that_share_a_reader_both_scale_it():
    model, args = zoo.densenet()
    graph = pomona.trace(model, args)
    x = zoo.image(8)
    result = pomona.prune(model, args, method="thinet", goal="params=0.7x", data=[x], latency=False)
    transition = result.plan.decisions
    solved = [name for name, d in transition.items() if "transition.weight" in d.tensors]
    assert len(solved) > 1 and result.report.proof.passed
    last = transition[solved[-1]].tensors["transition.weight"]
    changed = (last != model.transition.weight).flatten(1).any(0)
    for site in graph.axes.values():
        member = next((m for m in site.members if m.tensor == "transition.weight" and m.role == "in"), None)
        if member is not None and site.name in solved:
            places = member.index if member.index is not None else torch.arange(site.size)[:, None]
            assert changed[places[result.plan.keep(site.name)]].all()


def test_any_axis_with_readers_will_do():
    model, args = zoo.vit()
    recipe = thinet.but(structure=Axes(("neuron", "head")))
    result = pomona.prune(model, args, method=recipe, goal="params=0.7x", data=[zoo.image(4)], latency=False)
    assert result.report.proof.passed and result.plan.removes > 0


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32 * 4, 10)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        return self.fc(F.max_pool2d(torch.relu(self.conv2(x)), 2).flatten(1))


def trained(seed):
    torch.manual_seed(seed)
    model = Cnn()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for k in range(120):
        x, y = digits.batch(k, seed)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def test_on_digits_scaled_beats_chosen_beats_norms_beats_chance():
    x = digits.digits()[0][:256]
    methods = {
        "scaled": thinet,
        "chosen": thinet.but(solver=None),
        "norm": l1_filters,
        "chance": l1_filters.but(criterion=Random()),
    }
    total = dict.fromkeys(methods, 0.0)
    for seed in range(5):
        model = trained(seed)
        for name, recipe in methods.items():
            recipe = recipe.but(structure=Axes(("channel",), only=("conv2.weight:0",)))
            result = pomona.prune(model, x[:2], method=recipe, goal="params=0.51x", data=[x], latency=False, seed=seed)
            assert 15 <= int(result.plan.keep("conv2.weight:0").sum()) <= 17
            total[name] += digits.accuracy(result.model) / 5
    assert total["scaled"] > total["chosen"] > total["norm"] > total["chance"]


def test_the_dead_leave_first():
    g = CARD.T @ CARD
    order, _ = greedy(g, torch.tensor([False, True, False]))
    assert int(order[1]) == 0
    need = Contribution().needs[0]
    site = Axes().sites(pomona.trace(*zoo.vgg()))[0]
    eight = torch.eye(8, dtype=torch.float64)
    view = View(site, Axes(), {}, torch.arange(8) % 2 == 0, {need: eight})
    assert Contribution().score(view).order[~view.alive].max() < 4
    assert ChannelScale().solve(view, torch.ones(8, dtype=torch.bool)).tensors == {}


@pytest.mark.parametrize(
    ("family", "wanted"), [("neuron", {"head.weight"}), ("width", {"lstm.weight_ih_l0", "lstm.weight_ih_l0_reverse"})]
)
def test_what_cannot_be_seen_inside_a_recurrent_module_is_not_scaled(family, wanted):
    model, args = zoo.lstm(4)
    model.lstm = nn.LSTM(8, 12, bidirectional=True, batch_first=True)
    recipe = thinet.but(structure=Axes((family,)))
    result = pomona.prune(model.eval(), args, method=recipe, goal="params=0.9x", data=[args[0]], latency=False)
    assert {name for decision in result.plan.decisions.values() for name in decision.tensors} == wanted
    assert result.report.proof.passed


def test_units_that_only_the_next_layer_of_a_recurrent_module_reads_are_refused():
    model, args = zoo.lstm(4)
    recipe = thinet.but(structure=Axes(("neuron",)))
    with pytest.raises(InputError, match=r"lstm.weight_ih_l0:0/neuron .* looks at weights or gradients"):
        pomona.prune(model, args, method=recipe, goal="params=0.9x", data=[args[0]], latency=False)
