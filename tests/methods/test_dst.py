import pytest
import torch
from torch.nn.functional import cross_entropy

import digits
from handmade import net
from loops import batch, begin, sgd, train
from pomona.recipes.dst import dst
from pomona.regularisers.threshold_pull import ThresholdPull


def on_digits(alpha: float, goal: str | None = None, steps: int = 150, rate: float = 0.05):
    model = digits.mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    woken, densities, before = 0, [], None
    with begin(model, opt, dst.but(regulariser=ThresholdPull(alpha, rate)), goal, steps) as s:
        for k in range(steps):
            x, y = digits.batch(k)
            opt.zero_grad()
            (cross_entropy(model(x), y) + s.loss()).backward()
            opt.step()
            s.step()
            now = s.masks
            woken += sum(int((now[n] & ~before[n]).sum()) for n in now) if before else 0
            before = now
            densities.append(s.density)
    return model, densities, woken


def test_thresholds_of_zero_are_the_dense_layer_and_alpha_zero_adds_nothing():
    model, dense = net(), net()
    x, _ = batch(0)
    with begin(model, sgd(model), dst.but(regulariser=ThresholdPull(0.0)), None, 5) as s:
        assert torch.equal(model(x), dense(x)) and s.loss() == 0 and s.density == 1.0


def test_sparsity_emerges_and_grows_with_alpha_and_masks_move_both_ways():
    runs = {alpha: on_digits(alpha) for alpha in (1e-4, 1e-3, 3e-3)}
    final = [densities[-1] for _, densities, _ in runs.values()]
    assert final[0] > final[1] > final[2] and final[2] < 0.5
    assert all(woken > 0 for _, _, woken in runs.values())
    assert digits.accuracy(runs[1e-3][0]) > 0.85


def test_the_mask_is_what_the_forward_pass_lets_through():
    model = net()
    opt = sgd(model)
    with begin(model, opt, dst.but(regulariser=ThresholdPull(0.02)), None, 40) as s:
        train(model, opt, s, 0, 20)
        assert 0 < s.density < 1
        for name, mask in s.masks.items():
            seen = model.get_submodule(name.removesuffix(".weight")).weight
            assert torch.equal(s._parameters[name].masked_fill(~mask, 0), seen)


def test_weight_decay_spares_the_thresholds():
    model = net()
    opt = sgd(model)  # its one group decays, so the thresholds get a group of their own
    with begin(model, opt, dst, None, 5) as s:
        assert opt.param_groups[1]["weight_decay"] == 0 and len(opt.param_groups[1]["params"]) == len(s.masks)
        assert opt.param_groups[1]["lr"] == opt.param_groups[0]["lr"]


def test_a_goal_is_steered_to_and_met_exactly_at_the_last_step():
    model, densities, _ = on_digits(1e-3, "sparsity=0.8", steps=300)
    assert densities[-1] == pytest.approx(0.2, abs=1 / 5000)
    assert abs(densities[-2] - 0.2) < 0.06  # the last cut had little left to do
    assert digits.accuracy(model) > 0.85


def test_a_layer_about_to_vanish_is_dense_again():
    model = net()
    opt = sgd(model)
    with begin(model, opt, dst, None, 5) as s:
        for threshold in s._gating.learned.values():
            threshold.data.fill_(50.0)
        x, _ = batch(0)
        assert torch.equal(model(x), net()(x))
        train(model, opt, s, 0, 1)
        assert s.density > 0.9
