"""Taylor on activations, APoZ and mean activation (Molchanov et al., 2017; Hu et al., 2016)."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

import pomona
from handmade import axis_site, data, filters, net, view
from pomona.collect import collect
from pomona.criteria.activation_taylor import ActivationTaylor
from pomona.criteria.apoz import Apoz
from pomona.criteria.cost_aware import CostAware
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.mean_activation import MeanActivation
from pomona.recipes.sensitivity import taylor_activation_iterative
from pomona.schedules.rounds import Rounds
from pomona.statistics.gate_gradient import GateGradient
from pomona.structures.axes import Axes
from pomona.vocabulary import Gathered, InputError, Member, Seen, Site, View

MAP = Site("a", "axis", (1,), (Member("w", "in", 1),))


def value(z, g):
    """The statistic for one map that a convolution reads: z and g of shape (examples, positions)."""
    shape = (len(z), 1, 1, -1)
    seen = Seen(len(z), inputs={"w": z.view(shape)}, input_grads={"w": g.view(shape)}, weights={"w": torch.zeros(2, 1, 1, 1)})
    return GateGradient().value(GateGradient().update(None, MAP, seen), MAP).item()


def test_the_absolute_value_comes_after_the_mean_over_space():
    assert value(torch.ones(1, 2), torch.tensor([[3.0, -1.0]])) == 1


def test_the_absolute_value_comes_before_the_mean_over_examples():
    # Gradients of a mean over two examples are half of the examples' own, +1 and -1.
    assert value(torch.ones(2, 1), torch.tensor([[0.5], [-0.5]])) == 1


def score(criterion, value):
    statistic = criterion.needs[0]
    site = Site("a", "axis", (len(value),), ())
    return criterion.score(view(net(), site, Gathered({statistic: torch.tensor(value, dtype=torch.float64)}))).value


def test_layers_are_made_comparable_by_their_norm():
    assert_close(score(ActivationTaylor(), [3.0, 4.0]), torch.tensor([0.6, 0.8]))
    assert_close(score(ActivationTaylor(), [30.0, 40.0]), torch.tensor([0.6, 0.8]))
    assert_close(score(ActivationTaylor(normalise=False), [3.0, 4.0]), torch.tensor([3.0, 4.0]))
    assert score(ActivationTaylor(), [0.0, 0.0]).tolist() == [0, 0]


def test_for_a_linear_loss_it_is_the_exact_loss_change_over_the_positions():
    torch.manual_seed(0)
    site = Site("a", "axis", (3,), (Member("1.weight", "in", 1, torch.arange(12).reshape(3, 4)),))
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), torch.randn(1, 3, 2, 2)
    stats = collect(model, [site], [GateGradient()], [(x, torch.zeros(1))], lambda out, t: out.mean())["a"]
    changes = []
    for unit in range(3):
        silent = x.clone()
        silent[:, unit] = 0
        changes.append((model(silent) - model(x)).abs().item())
    assert_close(stats[GateGradient()], torch.tensor(changes).double() / 4, rtol=1e-4, atol=1e-6)


def test_it_is_the_gate_gradient_over_the_positions():
    model, (x, y) = net(), data(1)
    z = torch.ones(5, requires_grad=True)
    model.norm.register_forward_hook(lambda m, a, out: out * z.view(1, -1, 1, 1))
    (gate,) = torch.autograd.grad(cross_entropy(model(x), y), z)
    stats = collect(net(), [axis_site()], [GateGradient()], [(x, y)], cross_entropy)["channels"]
    assert_close(stats[GateGradient()], gate.abs().double() / 16, rtol=1e-4, atol=1e-8)


def test_apoz_keeps_the_active_and_mean_activation_the_loud():
    x = torch.tensor([[-1.0, 1.0], [2.0, 1.0], [-3.0, 1.0], [4.0, -1.0]])
    site = Site("a", "axis", (2,), (Member("1.weight", "in", 1),))
    stats = collect(nn.Sequential(nn.ReLU(), nn.Linear(2, 3)), [site], (*Apoz.needs, *MeanActivation.needs), [x])["a"]
    given = view(net(), Site("a", "axis", (2,), ()), stats)
    assert_close(Apoz().score(given).value, torch.tensor([0.5, 0.75]))
    assert_close(MeanActivation().score(given).value, torch.tensor([1.5, 0.75]))


def test_a_wrapped_criterion_pays_for_what_a_unit_costs():
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)), torch.randn(1, 3, 10, 10)
    (site,) = Axes().sites(pomona.trace(model, x))
    tensors = dict(model.named_parameters())
    given = View(site, Axes(), tensors, torch.ones(8, dtype=torch.bool))
    plain = Magnitude().score(given).value
    macs = 100 * 9 * (3 + 4)  # of one channel, written and read, at 10 x 10 positions
    assert_close(CostAware(Magnitude(), 2.0).score(given).value, plain - 2 * macs / 1e6)
    with pytest.raises(InputError, match="does not say what its units cost"):
        CostAware(Magnitude()).score(filters(torch.ones(3, 2)))


def test_in_rounds_each_cut_is_followed_by_training_and_scored_anew():
    torch.manual_seed(0)
    x, y = torch.randn(64, 3, 8, 8), torch.randint(0, 5, (64,))
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))
    data = list(zip(x.split(16), y.split(16), strict=True))
    recipe = taylor_activation_iterative.but(schedule=Rounds(3, "linear"))
    result = pomona.prune(model, x[:1], method=recipe, goal="params=0.5x", data=data, loss=cross_entropy, latency=False)
    assert len(result.report["rounds"]) == 3 and result.report.proof.passed
