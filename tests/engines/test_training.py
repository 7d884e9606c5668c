import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from handmade import branch_site, net
from loops import adam, batch, begin, sgd, train
from pomona.gates.straight_through import StraightThrough
from pomona.recipes.dst import dst
from pomona.recipes.gradual import gradual_magnitude
from pomona.recipes.greg import greg1
from pomona.recipes.lottery import lottery
from pomona.recipes.rigl import rigl
from pomona.recipes.rigl import set as set_
from pomona.regularisers.growing_l2 import GrowingL2
from pomona.regularisers.threshold_pull import ThresholdPull
from pomona.schedules.cubic import Cubic
from pomona.schedules.drop_grow import DropGrow
from pomona.structures.layers import Layers
from pomona.training import checkpoint
from pomona.vocabulary import InputError

STEPS = 20
RECIPES = {
    "gradual": (gradual_magnitude.but(schedule=Cubic(every=3)), "sparsity=0.8"),
    "straight-through": (gradual_magnitude.but(schedule=Cubic(every=3), gate=StraightThrough()), "sparsity=0.8"),
    "physical": (gradual_magnitude.but(schedule=Cubic(every=3), gate=None), "sparsity=0.8"),
    "rigl": (rigl.but(schedule=DropGrow(rigl.schedule.first, rigl.schedule.grow, every=3)), "sparsity=0.7"),
    "set": (set_.but(schedule=DropGrow(set_.schedule.first, set_.schedule.grow, every=3)), "sparsity=0.7"),
    "greg1": (greg1.but(regulariser=GrowingL2(delta=0.2, every=2, roles=("out", "scale"))), "sparsity=0.2"),
    "dst": (dst.but(regulariser=ThresholdPull(alpha=0.02)), None),
    "dst to a goal": (dst.but(regulariser=ThresholdPull(alpha=0.02)), "sparsity=0.6"),
}
everywhere = pytest.mark.parametrize("name", sorted(RECIPES))
both = pytest.mark.parametrize("optimizer", [sgd, adam])


def whole(name, optimizer, each=None):
    recipe, goal = RECIPES[name]
    model = net()
    opt = optimizer(model)
    with begin(model, opt, recipe, goal, STEPS) as s:
        train(model, opt, s, 0, STEPS, (lambda k: each(k, model, opt, s)) if each else None)
        masks, density, plan = s.masks, s.density, s.plan()
    return model, opt, masks, density, plan


@everywhere
@both
def test_resuming_is_bit_identical(name, optimizer, tmp_path):
    resume(name, optimizer, "load inside", tmp_path)


@pytest.mark.parametrize("name", ["physical", "rigl", "set"])  # the others' weights have other names inside the context
@both
def test_resuming_from_a_loaded_model_is_bit_identical(name, optimizer, tmp_path):
    resume(name, optimizer, "load before", tmp_path)


def resume(name, optimizer, order, tmp_path):
    recipe, goal = RECIPES[name]
    straight, _, masks, _, _ = whole(name, optimizer)

    first = net()
    opt = optimizer(first)
    with begin(first, opt, recipe, goal, STEPS) as s:
        train(first, opt, s, 0, 10)
        saved = copy.deepcopy({"optimizer": opt.state_dict(), "model": first.state_dict(), "masks": s.state_dict()})
    checkpoint.save(tmp_path / "s.safetensors", saved["masks"])
    state = checkpoint.load(tmp_path / "s.safetensors")

    second = net(seed=5)
    opt = optimizer(second)
    if order == "load before":
        second.load_state_dict(saved["model"])
        opt.load_state_dict(saved["optimizer"])
    with begin(second, opt, recipe, goal, STEPS, state=state if order == "load before" else None) as s:
        if order == "load inside":
            s.load_state_dict(state)
            second.load_state_dict(saved["model"])
            opt.load_state_dict(saved["optimizer"])
        train(second, opt, s, 10, STEPS)
        assert all(torch.equal(m, masks[n]) for n, m in s.masks.items())
    assert all(torch.equal(a, b) for a, b in zip(straight.state_dict().values(), second.state_dict().values(), strict=True))


@everywhere
@both
def test_what_is_left_is_plain_with_exact_zeros_and_nothing_else_changed(name, optimizer):
    model, opt, masks, density, plan = whole(name, optimizer)
    plain = net()
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert len(opt.param_groups) == 1 and [id(p) for p in opt.param_groups[0]["params"]] == [id(p) for p in model.parameters()]
    for tensor, mask in masks.items():
        parameter = model.get_parameter(tensor)
        assert not parameter[~mask].any() and parameter[mask].ne(0).float().mean() > 0.9
    assert 0 < density < 1 and plan.removes > 0
    copy.deepcopy(model)


@everywhere
def test_after_the_last_step_the_forward_pass_is_that_of_the_plain_model(name):
    recipe, goal = RECIPES[name]
    model = net()
    opt = sgd(model)
    x, _ = batch(0)
    with begin(model, opt, recipe, goal, STEPS) as s:
        train(model, opt, s, 0, STEPS)
        inside = model.eval()(x)
    assert torch.equal(inside, model(x))


@pytest.mark.parametrize("name", ["physical", "gradual", "rigl", "set"])
@both
def test_dead_weights_see_no_decay_and_no_momentum(name, optimizer):
    def each(k, model, opt, s):
        for tensor, mask in s.masks.items():
            parameter = s._parameters[tensor]
            for value in opt.state[parameter].values():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    assert not value[~mask].any()
            if RECIPES[name][0].gate is None:
                assert not parameter[~mask].any()

    whole(name, optimizer, each)


def test_hard_gates_keep_the_value_that_a_weight_died_with():
    recipe, goal = RECIPES["gradual"]
    model = net()
    opt = adam(model)
    with begin(model, opt, recipe, goal, STEPS) as s:
        train(model, opt, s, 0, STEPS)
        dead = ~s.masks["fc.weight"]
        before = s._parameters["fc.weight"][dead].clone()
        train(model, opt, s, STEPS, STEPS + 5)
        assert before.abs().sum() > 0 and torch.equal(before, s._parameters["fc.weight"][dead])


def test_straight_through_weights_move_while_they_are_dead():
    recipe, goal = RECIPES["straight-through"]
    model = net()
    opt = sgd(model)
    with begin(model, opt, recipe, goal, STEPS) as s:
        train(model, opt, s, 0, 16)
        dead = ~s.masks["fc.weight"]
        before, x, y = s._parameters["fc.weight"].clone(), *batch(16)
        opt.zero_grad()
        cross_entropy(model(x), y).backward()
        opt.step()
        moved = s._parameters["fc.weight"][dead] != before[dead]
        assert moved.float().mean() > 0.5 and not model.fc.weight[dead].any()


def test_an_exception_leaves_a_plain_model():
    model = net()
    opt = sgd(model)
    with pytest.raises(RuntimeError), begin(model, opt, RECIPES["dst"][0], None, STEPS) as s:
        train(model, opt, s, 0, 3)
        raise RuntimeError
    assert not hasattr(model.fc, "parametrizations") and len(opt.param_groups) == 1
    assert len(opt.param_groups[0]["params"]) == len(list(model.parameters()))
    with pytest.raises(InputError, match="with statement"):
        s.step()


class Branches(Layers):
    def sites(self, graph):
        return [branch_site()]


def test_scaled_gradients_grow_the_same_connections():
    masks = []
    for scaler in (torch.amp.GradScaler("cpu", enabled=False), torch.amp.GradScaler("cpu", init_scale=256.0)):
        model = net().train()
        opt = sgd(model)
        with begin(model, opt, *RECIPES["rigl"], STEPS) as s:
            for k in range(STEPS):
                x, y = batch(k)
                opt.zero_grad()
                scaler.scale(cross_entropy(model(x), y)).backward()
                scaler.step(opt)
                scaler.update()
                s.step()
            masks.append(s.masks)
    assert all(torch.equal(a, masks[1][n]) for n, a in masks[0].items())


@everywhere
def test_the_forward_pass_runs_in_mixed_precision(name):
    model = net().train()
    opt = sgd(model)
    with begin(model, opt, *RECIPES[name], STEPS) as s:
        for k in range(3):
            x, y = batch(k)
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = cross_entropy(model(x), y) + s.loss()
            loss.backward()
            opt.step()
            s.step()
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())


def test_gradients_that_are_gone_are_asked_for():
    model = net()
    opt = sgd(model)
    with begin(model, opt, *RECIPES["rigl"], STEPS) as s, pytest.raises(InputError, match="before zero_grad"):
        for _ in range(3):
            opt.zero_grad()
            s.step()


def test_a_scheduler_that_counts_groups_is_spared_a_surprise():
    model = net()
    opt = sgd(model)
    torch.optim.lr_scheduler.CosineAnnealingLR(opt, STEPS)
    with pytest.raises(InputError, match="inside the with"):
        begin(model, opt, *RECIPES["dst"], STEPS).__enter__()
    assert not hasattr(model.fc, "parametrizations")


@pytest.mark.parametrize(
    ("recipe", "goal", "message"),
    [
        (lottery, "sparsity=0.5", "use prune"),
        (rigl, None, "needs a goal"),
        (rigl.but(structure=Branches()), "sparsity=0.5", "Whole layers are not pruned"),
    ],
)
def test_unfit_recipes_are_refused(recipe, goal, message):
    model = net()
    with pytest.raises(InputError, match=message):
        begin(model, sgd(model), recipe, goal, STEPS)


def test_a_sparsifier_serves_one_run():
    model = net()
    s = begin(model, sgd(model), *RECIPES["rigl"], STEPS)
    with s:
        pass
    with pytest.raises(InputError, match="one run"):
        s.__enter__()


def test_an_optimizer_of_another_model_is_refused():
    with pytest.raises(InputError, match="does not train"):
        begin(net(), sgd(net()), *RECIPES["rigl"], STEPS)


def test_a_state_of_another_run_is_refused():
    model = net()
    opt = sgd(model)
    with begin(model, opt, *RECIPES["rigl"], STEPS) as s:
        state = s.state_dict()
    with begin(model, opt, *RECIPES["set"], STEPS) as other, pytest.raises(InputError, match="another run"):
        other.load_state_dict(state)
