import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import digits
from handmade import net
from loops import batch, begin, sgd, train
from pomona.criteria.gradient_magnitude import GradientMagnitude
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.random import Random
from pomona.recipes.rigl import rigl
from pomona.schedules.drop_grow import DropGrow
from pomona.vocabulary import Clock


def moving(share: float = 0.3, every: int = 4, end: float = 0.75) -> DropGrow:
    return DropGrow(Random(), GradientMagnitude(), every=every, share=share, end=end)


def test_the_cosine_by_hand():
    schedule = moving(end=1.0)
    assert [schedule.dropped(Clock(t, steps=100)) for t in (0, 50, 100)] == pytest.approx([0.3, 0.15, 0.0])


def test_the_crafted_layer():
    """w = [.1, .5, 0, 0], gradient [0, 0, .2, -.9], one drops, one grows: mask [0, 1, 0, 1], the newborn at zero."""
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 0.5, 1e-3, 1e-4]]))
    opt = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    recipe = rigl.but(schedule=DropGrow(Magnitude(), GradientMagnitude(), every=1, share=0.999, end=1.0))
    with begin(model, opt, recipe, "sparsity=0.5", 10) as s:
        assert s.masks["0.weight"].tolist() == [[True, True, False, False]]
        model[0].weight.grad = torch.tensor([[0.0, 0.0, 0.2, -0.9]])
        opt.step()
        assert opt.state[model[0].weight]["momentum_buffer"][0, 3] != 0
        s.step()  # share .97 of 2 living: 1
        assert s.masks["0.weight"].tolist() == [[False, True, False, True]]
        assert model[0].weight.tolist() == [[0.0, 0.5, 0.0, 0.0]]
        assert opt.state[model[0].weight]["momentum_buffer"][0, [0, 2, 3]].tolist() == [0.0, 0.0, 0.0]


def test_counts_never_change_and_the_newborn_start_at_zero():
    model = net()
    opt = sgd(model)
    churn, before, start = [], {}, {}

    def each(k):
        now = s.masks
        for name, mask in now.items():
            assert int(mask.sum()) == start[name]
            born = mask & ~before[name]
            assert int(born.sum()) == int((before[name] & ~mask).sum())
            assert not s._parameters[name][born].any()
            churn.append((k, int(born.sum())))
        before.update(now)

    with begin(model, opt, rigl.but(schedule=moving()), "sparsity=0.6", 40) as s:
        before.update(s.masks)
        start.update({n: int(m.sum()) for n, m in s.masks.items()})
        density = s.density
        train(model, opt, s, 0, 40, each)
        assert s.density == density == pytest.approx(0.4, abs=0.005)
    assert sum(n for _, n in churn) > 0 and not any(n for k, n in churn if k % 4 or k >= 30)


def test_nobody_moving_is_static_sparse_training_to_the_bit():
    model, static = net(), net()
    opt, plain = sgd(model), sgd(static)
    with begin(model, opt, rigl.but(schedule=moving(share=0.0)), "sparsity=0.6", 12) as s:
        masks = s.masks
        train(model, opt, s, 0, 12)
    static.train()
    with torch.no_grad():
        for name, mask in masks.items():
            static.get_parameter(name).masked_fill_(~mask, 0)
    for k in range(12):
        x, y = batch(k)
        plain.zero_grad()
        cross_entropy(static(x), y).backward()
        plain.step()
        with torch.no_grad():
            for name, mask in masks.items():
                static.get_parameter(name).masked_fill_(~mask, 0)
                plain.state[static.get_parameter(name)]["momentum_buffer"].masked_fill_(~mask, 0)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), static.state_dict().values(), strict=True))


def test_on_digits_a_moving_topology_beats_a_random_one_that_stays():
    def run(share: float, seed: int) -> float:
        model = digits.mlp(seed)
        opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with begin(model, opt, rigl.but(schedule=moving(share, every=10)), "sparsity=0.97", 250, seed=seed) as s:
            for k in range(250):
                x, y = digits.batch(k, seed)
                opt.zero_grad()
                cross_entropy(model(x), y).backward()
                opt.step()
                s.step()
        return digits.accuracy(model)

    moved, stayed = ([run(share, seed) for seed in range(3)] for share in (0.3, 0.0))
    assert sum(moved) > sum(stayed) + 0.06
