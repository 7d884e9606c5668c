"""Modes are lent, and every module gets its own back."""

import pytest
import torch
from torch import nn

from pomona.graph.export import export, runnable
from pomona.vocabulary import evaluating, modes_kept, set_training


def mixed():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    net[1].eval()
    return net


def modes(net):
    return [module.training for module in net.modules()]


def test_evaluating_gives_every_module_its_own_mode_back_even_on_error():
    net = mixed()
    with pytest.raises(ZeroDivisionError), evaluating(net):
        assert modes(net) == [False, False, False]
        raise ZeroDivisionError
    assert modes(net) == [True, True, False]


def test_what_happens_to_modes_meanwhile_is_undone():
    net = mixed()
    with modes_kept(net):
        set_training(net, True)
        assert modes(net) == [True, True, True]
    assert modes(net) == [True, True, False]


def test_programs_take_part_though_torch_plants_methods_that_refuse():
    x = torch.ones(1, 2)
    program = export(mixed(), x)
    with pytest.raises(NotImplementedError):
        program.module().eval()
    with evaluating(program.module()):
        pass
    assert torch.equal(runnable(program).train()(x), runnable(program).eval()(x))
