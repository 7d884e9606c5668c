from itertools import pairwise
from math import floor

import pytest
import torch
from torch.nn.functional import cross_entropy

import digits
from handmade import net
from loops import begin, sgd, train
from pomona.recipes.gradual import gradual_magnitude
from pomona.schedules.at_step import AtStep
from pomona.schedules.cubic import Cubic
from pomona.vocabulary import Clock, Goal


def test_the_cube_by_hand():
    cubic, goal = Cubic(begin=0, end=1, every=1), Goal.parse("sparsity=0.8")
    cuts = [cubic.actions(Clock(step=k, steps=4), goal)[0] for k in range(5)]
    assert [1 - c.ratio for c in cuts] == pytest.approx([0, 0.4625, 0.7, 0.7875, 0.8], abs=1e-12)
    assert all(c.revive for c in cuts)


def test_density_is_exact_at_every_update_and_the_mask_rests_after_the_last():
    recipe, goal, model = gradual_magnitude.but(schedule=Cubic(0.1, 0.6, every=3)), Goal.parse("sparsity=0.9"), net()
    seen, cubic, opt = [], recipe.schedule, sgd(model)

    def each(k):
        if cubic.actions(Clock(k, steps=30), goal):
            ratio = cubic.ratio(Clock(k, steps=30), goal)
            total = sum(m.numel() for m in s.masks.values())
            assert s.density == floor(ratio * total + 1e-9) / total
            # The sum is exact, so half a unit of rounding a tensor may land on one of the six.
            assert all(abs(int(m.sum()) - ratio * m.numel()) <= 3 for m in s.masks.values())
            seen.append(s.masks)
        else:
            assert not seen or all(torch.equal(m, s.masks[n]) for n, m in seen[-1].items())

    with begin(model, opt, recipe, "sparsity=0.9", 30) as s:
        train(model, opt, s, 0, 30, each)
    assert len(seen) == 6
    woken = sum(int((now[n] & ~was[n]).sum()) for was, now in pairwise(seen) for n in now)
    assert woken > 0  # masked weights compete again


def test_one_update_is_one_shot():
    masks = []
    for schedule in (Cubic(0, 0.5, every=100), AtStep(10)):
        model = net()
        opt = sgd(model)
        with begin(model, opt, gradual_magnitude.but(schedule=schedule), "sparsity=0.7", 20) as s:
            train(model, opt, s, 0, 20)
            masks.append(s.masks)
    assert all(torch.equal(a, b) for a, b in zip(masks[0].values(), masks[1].values(), strict=True))


def test_on_digits_gradual_beats_one_shot_without_retraining():
    gradual, dense = [], []
    for seed in range(2):
        scores = {}
        for name, schedule in {"gradual": Cubic(0.2, 0.7, every=10), "one-shot": AtStep(200)}.items():
            model = digits.mlp(seed)
            opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            with begin(model, opt, gradual_magnitude.but(schedule=schedule), "sparsity=0.95", 200) as s:
                for k in range(200):
                    x, y = digits.batch(k, seed)
                    opt.zero_grad()
                    cross_entropy(model(x), y).backward()
                    opt.step()
                    s.step()
            scores[name] = digits.accuracy(model)
        gradual.append(scores["gradual"])
        dense.append(scores["one-shot"])
    assert min(gradual) > max(dense) + 0.1 and min(gradual) > 0.8
