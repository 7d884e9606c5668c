"""Pruning by explaining: layer-wise relevance propagation (Yeom et al., 2021)."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

import digits
import pomona
import zoo
from handmade import axis_site, net, view
from pomona.collect import collect
from pomona.criteria.lrp import Lrp
from pomona.probes.lrp import RelevancePass
from pomona.recipes.filters import l1_filters
from pomona.recipes.relevance import lrp
from pomona.vocabulary import Batch, InputError, Watch


def relevance(model, x, y, names, *settings):
    given = Batch((x,), target=torch.tensor(y))
    return RelevancePass(*settings).run(model.eval(), given, None, Watch(inputs=frozenset(names))).input_grads


def test_one_output_two_inputs():
    model = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, -1.0]]))
    x = torch.tensor([[1.0, 2.0]]).double()
    assert_close(
        relevance(model, x, [0], ["0.weight"], "positive", "positive", 1e-12, "one")["0.weight"],
        torch.tensor([[1.0, 0.0]]).double(),
    )
    assert_close(
        relevance(model, x, [0], ["0.weight"], "epsilon", "positive", 1e-12, "one")["0.weight"],
        torch.tensor([[3.0, -2.0]]).double(),
    )


class Everything(nn.Module):
    """Convolutions, folded norms, a skip connection, a concatenation, both poolings, two linear layers; no biases."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(6)
        self.side, self.last = nn.Conv2d(6, 4, 1, bias=False), nn.Conv2d(10, 8, 3, stride=2, bias=False)
        self.fc, self.head = nn.Linear(8, 7, bias=False), nn.Linear(7, 3, bias=False)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.stem(x))), 2)
        y = self.norm2(self.conv(x))
        y += x
        y = F.relu(y, inplace=True)
        z = F.relu(self.last(torch.cat([y, F.relu(self.side(y))], 1)))
        return self.head(F.relu(self.fc(F.adaptive_avg_pool2d(z, 1).flatten(1))))


def everything():
    torch.manual_seed(0)
    model = Everything().double()
    for norm in (model.norm1, model.norm2):
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("cut", ["last.weight", "fc.weight", "head.weight"])
@pytest.mark.parametrize("rule", ["epsilon", "positive"])
def test_every_cut_through_the_network_carries_the_whole_relevance(cut, rule):
    model, x = everything(), torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()
    y = model(x).argmax(1)
    found = relevance(model, x, y.tolist(), [cut], rule, rule, 1e-12)[cut]
    assert_close(found.flatten(1).sum(1), model(x).amax(1).detach(), rtol=1e-5, atol=1e-9)


def test_a_fork_splits_the_whole_relevance_between_its_arms():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 6, 3, padding=1, bias=False)
            self.skip, self.head = nn.Conv2d(6, 6, 1, bias=False), nn.Linear(6, 3, bias=False)

        def forward(self, x):
            x = F.relu(self.stem(x))
            return self.head(F.relu(self.conv(x) + self.skip(x)).mean((2, 3)))

    torch.manual_seed(0)
    model, x = Fork().double(), torch.rand(2, 3, 8, 8).double()
    y = model(x).argmax(1)
    found = relevance(model, x, y.tolist(), ["conv.weight", "skip.weight"], "positive", "positive", 1e-12)
    total = sum(r.flatten(1).sum(1) for r in found.values())
    assert_close(total, model(x).amax(1).detach(), rtol=1e-5, atol=1e-9)
    assert all(r.abs().sum() > 0 for r in found.values())


def test_norms_are_folded_into_the_layer_before_them():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8).double()

    def model(*norm):
        torch.manual_seed(1)
        conv, last, head = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 3), nn.Linear(4 * 16, 3)
        return nn.Sequential(conv, nn.ReLU(), last, *norm, nn.ReLU(), nn.Flatten(), head).double().eval()

    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
    split, folded = model(norm), model()
    with torch.no_grad():
        slope = (norm.weight / (norm.running_var + norm.eps).sqrt()).double()
        folded[2].weight.mul_(slope.view(-1, 1, 1, 1))
        folded[2].bias.copy_((folded[2].bias - norm.running_mean) * slope + norm.bias)
    assert_close(split(x), folded(x))
    a, b = (relevance(m, x, [0, 1], ["2.weight"])["2.weight"] for m in (split, folded))
    assert_close(a, b)


def test_in_a_relu_net_without_biases_the_epsilon_rule_is_activation_times_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 9, bias=False), nn.ReLU(), nn.Linear(9, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)
    ).double()
    x, y = torch.randn(5, 6).double(), [0, 1, 2, 0, 1]
    z = torch.relu(model[0](x)).detach().requires_grad_()
    (g,) = torch.autograd.grad(model[2:](z)[range(5), y].sum(), z)
    assert_close(
        relevance(model, x, y, ["2.weight"], "epsilon", "epsilon", 1e-12)["2.weight"], (z * g).detach(), rtol=1e-6, atol=1e-9
    )


def test_a_unit_that_nobody_reads_is_worth_nothing_whatever_its_norm():
    model = net()
    with torch.no_grad():
        model.fc.weight[:, 32:48] = 0
        model.conv.weight[2] *= 100
    model.blocks = nn.ModuleList()
    x = torch.randn(4, 2, 4, 4)
    stats = collect(model, [axis_site()], Lrp().needs, [(x, torch.tensor([0, 1, 2, 0]))])["channels"]
    scores = Lrp().score(view(model, axis_site(), stats)).value
    assert scores[2] == 0 and (scores[[0, 1, 3, 4]] > 0).all()


@pytest.mark.parametrize(
    "make", [zoo.vgg, zoo.resnet, zoo.densenet, zoo.mobilenet, zoo.senet, zoo.convnext], ids=lambda f: f.__name__
)
def test_whole_networks_are_explained(make):
    model, args = make(4)
    classes = model(*args).shape[1]
    result = pomona.prune(
        model, args, method="lrp", goal="params=0.7x", data=[(args[0], torch.arange(4) % classes)], latency=False
    )
    assert result.report.proof.passed and result.plan.removes > 0


def test_what_has_no_rule_or_no_class_is_refused_by_name():
    model, args = zoo.vit()
    with pytest.raises(InputError, match="no rule for the operation scaled_dot_product_attention"):
        RelevancePass().run(
            model,
            Batch(args, target=torch.tensor([0, 1])),
            None,
            Watch(inputs=frozenset({"blocks.0.fc2.weight", "blocks.0.fc1.weight"})),
        )
    vgg, args = zoo.vgg()
    with pytest.raises(InputError, match="one class label each"):
        RelevancePass().run(vgg, Batch(args), None, Watch(inputs=frozenset({"classifier.1.weight"})))
    with pytest.raises(InputError, match="'gamma' is not a rule"):
        Lrp(dense="gamma")


class Scaled(nn.Module):
    """A factor a channel behind a view of its parameter, and a gate on what no reader has seen yet."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.conv = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 5, 1)
        self.gamma, self.head = nn.Parameter(torch.linspace(0.5, 1.5, 5)), nn.Linear(5, 3, bias=False)

    def forward(self, x):
        x = self.stem(x)
        x = x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return self.head(F.relu(self.conv(x) * self.gamma.view(1, -1, 1, 1)).mean((2, 3)))


def test_factors_and_gates_hand_relevance_to_the_signal():
    torch.manual_seed(0)
    model, x = Scaled().double(), torch.rand(2, 3, 4, 4).double()
    y = model(x).argmax(1).tolist()
    found = relevance(model, x, y, ["conv.weight", "gate.weight"], "positive", "positive", 1e-12)
    assert_close(found["conv.weight"].flatten(1).sum(1), model(x).amax(1).detach(), rtol=1e-5, atol=1e-9)
    assert not found["gate.weight"].any()


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.a(x)
        y = self.b(x.relu())
        y.relu_()  # the name y still means what was there before, if a rule returns a new tensor
        return y - 1


def test_answers_that_the_rules_would_change_are_refused():
    torch.manual_seed(0)
    with pytest.raises(InputError, match="overwrites activations"):
        relevance(Overwriting(), torch.randn(4, 4), [0, 1, 2, 0], ["b.weight"])


def trained(seed):
    torch.manual_seed(seed)
    layers = (
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for k in range(100):
        x, y = digits.batch(k, seed)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def test_on_digits_ten_examples_a_class_judge_better_than_norms():
    x, y, _, _ = digits.digits()
    few = torch.cat([(y == c).nonzero()[:10, 0] for c in range(10)])
    total = {"lrp": 0.0, "norm": 0.0}
    for seed in range(5):
        model = trained(seed)
        for name, recipe in (("lrp", lrp), ("norm", l1_filters.but(allocation=lrp.allocation))):
            result = pomona.prune(model, x[:2], method=recipe, goal="params=0.5x", data=[(x[few], y[few])], latency=False)
            total[name] += digits.accuracy(result.model) / 5
    assert total["lrp"] >= total["norm"]
