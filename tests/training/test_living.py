import torch
from torch import nn

from pomona.training.living import living

MASK = torch.tensor([[True, False, True], [True, True, False]])


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))


def hold(model):
    model[0].weight.data.masked_fill_(~MASK, 0)


def test_what_hold_leaves_alone_lives_even_where_it_is_zero_now():
    model = net()
    hold(model)
    model[0].weight.data[0, 0] = 0
    before = model[0].weight.clone()
    assert torch.equal(living(model, hold, [model[0].weight])[0], MASK)
    assert torch.equal(model[0].weight, before)


def test_zeros_that_nobody_holds_are_dead():
    model = net()
    model[1].weight.data[0, 1] = 0
    first, second = living(model, hold, [model[0].weight, model[1].weight])
    assert torch.equal(first, MASK) and torch.equal(second, torch.tensor([[True, False], [True, True]]))


def test_the_values_come_back_when_hold_fails():
    model = net()
    before = model[0].weight.clone()

    def fail(model):
        raise KeyboardInterrupt

    try:
        living(model, fail, [model[0].weight])
    except KeyboardInterrupt:
        assert torch.equal(model[0].weight, before)
    else:
        raise AssertionError("the failure was swallowed")
