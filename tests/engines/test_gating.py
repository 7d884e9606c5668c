import copy

import pytest
import torch
from torch import nn

from handmade import net
from loops import HandGraph, batch, begin, sgd, train
from pomona.engines.gating import Gating
from pomona.engines.masks import everyone, stored, tensor_masks
from pomona.gates.hard import Hard
from pomona.gates.learned_threshold import LearnedThreshold
from pomona.recipes.dst import dst
from pomona.recipes.gradual import gradual_magnitude
from pomona.recipes.rigl import rigl
from pomona.schedules.cubic import Cubic
from pomona.schedules.drop_grow import DropGrow
from pomona.structures.weights import Weights
from pomona.vocabulary import Clock

STEPS = 20
RECIPES = {
    "gradual": (gradual_magnitude.but(schedule=Cubic(every=3)), "sparsity=0.8"),
    "rigl": (rigl.but(schedule=DropGrow(rigl.schedule.first, rigl.schedule.grow, every=3)), "sparsity=0.7"),
    "dst to a goal": (dst, "sparsity=0.6"),
}


def attached(model, gate):
    sites = Weights().sites(HandGraph.of(model))
    masks = tensor_masks(Weights(), sites, everyone(sites))
    return Gating(model, gate, sites, masks), masks


def test_parameters_keep_their_identity_names_and_order():
    model = net()
    before = dict(model.named_parameters())
    gating, masks = attached(model, Hard())
    assert all(stored(model, name) is before[name] for name in masks) and model.fc.weight is not before["fc.weight"]
    gating.detach()
    after = dict(model.named_parameters())
    assert list(after) == list(before) and all(after[n] is p for n, p in before.items())


def test_detaching_leaves_what_the_forward_pass_saw():
    model = net()
    gating, masks = attached(model, Hard())
    masks = {n: torch.rand(m.shape) > 0.5 for n, m in masks.items()}
    gating.set(masks, Clock())
    seen = {n: model.get_submodule(n.removesuffix(".weight")).weight.clone() for n in masks}
    gating.detach()
    assert all(torch.equal(model.get_parameter(n), seen[n]) and not seen[n][~m].any() for n, m in masks.items())


def test_learned_tensors_are_named_after_their_site_and_train_with_the_model():
    model = net()
    gating, masks = attached(model, LearnedThreshold())
    assert set(gating.learned) == {f"{name}/gate/threshold" for name in masks}
    assert set(map(id, gating.learned.values())) <= set(map(id, model.parameters()))
    gating.detach()
    assert not hasattr(model.fc, "parametrizations")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 6, num_layers=2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x.reshape(len(x), 4, 8))[0][:, -1])


@pytest.mark.parametrize("name", ["gradual", "rigl", "dst to a goal"])
def test_recurrent_weights_are_gated_in_the_fused_forward_pass(name):
    torch.manual_seed(0)
    model = Recurrent()
    opt = sgd(model)
    recipe, goal = RECIPES[name]
    x, _ = batch(0)
    with begin(model, opt, recipe, goal, STEPS) as s:
        train(model, opt, s, 0, STEPS)
        inside = model(x)
        copy.deepcopy(model)
        assert s.density == pytest.approx(1 - float(goal.split("=")[1]), abs=0.01)
    assert torch.equal(inside, model(x)) and not model.lstm.weight_hh_l1[~s.masks["lstm.weight_hh_l1"]].any()
    assert all(a is b for a, b in zip(model.lstm._flat_weights, model.lstm.parameters(), strict=True))


def test_tied_weights_are_gated_in_both_places():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 3))
    model[3].weight = model[1].weight
    opt = sgd(model)
    with begin(model, opt, *RECIPES["gradual"], STEPS) as s:
        train(model, opt, s, 0, STEPS)
        assert torch.equal(model[1].weight, model[3].weight) and not model[3].weight[~s.masks["1.weight"]].any()
    assert model[1].weight is model[3].weight
