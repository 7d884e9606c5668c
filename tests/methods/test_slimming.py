"""Network slimming as a whole: sparse scales, one threshold, a cut, fine-tuning (Liu et al., 2017)."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

import digits
import pomona
import zoo
from budgets import counts, flat, scored, wish
from handmade import axis_site, net, view
from loops import begin, sgd, train
from pomona.recipes.filters import bn_scale
from pomona.recipes.slimming import slimming, slimming_passes
from pomona.recovery.fine_tune import FineTune
from pomona.recovery.slim import Slim
from pomona.regularisers.scale_l1 import ScaleL1
from pomona.schedules.at_step import AtStep
from pomona.structures.axes import Axes
from pomona.vocabulary import Clock, InputError, Training


def test_one_threshold_cuts_the_smallest_of_all_layers():
    sites = flat(a=3, b=2)
    keeps = bn_scale.allocation.allocate(sites, scored(a=[0.9, 0.1, 0.5], b=[0.05, 0.7]), wish(sites, 0.6))
    assert counts(keeps) == [2, 1]  # .05 and .1 are the two of five


def test_a_step_without_a_task_shortens_the_scales_and_nothing_else():
    model = net()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([0.5, -0.5, 0.0, 1.0, -1.0]))
    parameters = {m.tensor: model.get_parameter(m.tensor) for m in axis_site().members if not m.buffer}
    v = replace(view(model, axis_site()), tensors=parameters)
    ScaleL1(0.1).penalty(v, None, Clock()).backward()
    assert_close(model.norm.weight.grad, 0.1 * torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0]))
    assert all(p.grad is None for name, p in parameters.items() if name != "norm.weight")


def test_the_pull_rests_once_the_goal_is_met():
    model = net()
    v = view(model, axis_site())
    part = ScaleL1()
    assert part.penalty(v, None, Clock(signals={"density": 1.0, "goal": 0.5})) > 0
    assert part.penalty(v, None, Clock(signals={"density": 0.5, "goal": 0.5})) == 0
    opt = sgd(model)
    with begin(model, opt, slimming.but(schedule=AtStep(3)), "sparsity=0.25", 6) as s:
        assert s.loss() > 0
        train(model, opt, s, 0, 3)
        assert s.loss() == 0 and s.density < 1


def test_in_a_traced_model_only_norm_scales_are_pulled():
    model, args = zoo.resnet()
    opt = torch.optim.SGD(model.parameters(), lr=1.0)
    with pomona.sparsify(model, opt, method=slimming, goal="params=0.8x", steps=2, args=args) as s:
        s.loss().backward()
        pulled = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert pulled == {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}


def test_channels_with_no_scale_and_no_shift_leave_without_a_trace():
    model, args = zoo.vgg()
    with torch.no_grad():
        model.features[4].weight[::3], model.features[4].bias[::3] = 0, 0
    recipe = bn_scale.but(structure=Axes(only=("features.4.weight",)))
    result = pomona.prune(model, args, method=recipe, goal="params=0.75x", latency=False)
    keep = result.plan.keep("features.3.weight:0")
    assert not keep[::3].any() and int(keep.sum()) == 8
    assert_close(result.model(*args), model(*args), rtol=1e-4, atol=1e-5)


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.norm1(self.conv1(x))), 2)
        return self.fc(torch.relu(self.norm2(self.conv2(x))).mean((2, 3)))


STEPS, PULL = 250, 2e-2  # a strength for hundreds of steps; the paper has tens of thousands


def slimmed(strength, seed=0):
    """A model trained under the pull and its plan of half the parameters."""
    torch.manual_seed(seed)
    model = Cnn()
    nn.init.constant_(model.norm1.weight, 0.5), nn.init.constant_(model.norm2.weight, 0.5)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recipe = slimming.but(regulariser=ScaleL1(strength))
    with pomona.sparsify(model, opt, method=recipe, goal="params=0.5x", steps=STEPS, args=(digits.digits()[0][:2],)) as s:
        for k in range(STEPS):
            x, y = digits.batch(k, seed)
            opt.zero_grad()
            (cross_entropy(model(x), y) + s.loss()).backward()
            opt.step()
            if k == STEPS - 1:
                dense = copy.deepcopy(model).eval()
            s.step()
        plan = s.plan()
    return dense, model.eval(), plan


def test_on_digits_the_pull_makes_scales_few_and_the_cut_cheap_and_the_small_model_trains_on():
    (free, cut_free, _), (pulled, cut, plan) = slimmed(0.0), slimmed(PULL)
    small_scales = [float((torch.cat([m.norm1.weight, m.norm2.weight]).abs() < 0.05).float().mean()) for m in (free, pulled)]
    assert small_scales[1] > small_scales[0] + 0.2
    lost = [digits.accuracy(a) - digits.accuracy(b) for a, b in ((free, cut_free), (pulled, cut))]
    assert lost[1] < lost[0] / 2
    x, y, _, _ = digits.digits()
    data = list(zip(x.split(64), y.split(64), strict=True))
    result = pomona.replay(cut, plan, x[:2], data=data, loss=cross_entropy, recover=FineTune(2), latency=False)
    assert result.report.proof.passed and digits.accuracy(result.model) >= digits.accuracy(cut) - 0.01
    assert sum(p.numel() for p in result.model.parameters()) <= 0.5 * sum(p.numel() for p in pulled.parameters())


def test_passes_train_cut_and_train_again_within_prune():
    torch.manual_seed(0)
    x, y, _, _ = digits.digits()
    data = list(zip(x[:640].split(64), y[:640].split(64), strict=True))
    recipe = slimming_passes.but(recovery=Slim(1e-2, FineTune(2, lr=5e-3)))
    result = pomona.prune(Cnn(), x[:2], method=recipe, goal="params=0.6x", data=data, loss=cross_entropy, latency=False)
    assert result.report.proof.passed and len(result.report["rounds"]) == 2
    assert digits.accuracy(result.model) > 0.5


def test_slimming_without_batch_norms_is_refused():
    with pytest.raises(InputError, match="the model has none"):
        Slim().recover(nn.Linear(2, 2), Training([], cross_entropy, lambda m: None))
