import torch
from torch import nn

from pomona.engines.freeze import Freeze


def test_the_dead_rest_while_the_living_train_and_removal_ends_it():
    layer = nn.Linear(4, 3)
    opt = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    mask, before = torch.rand(3, 4) > 0.5, layer.weight.detach().clone()
    freeze = Freeze(opt, {"weight": layer.weight}, lambda: {"weight": mask})
    layer(torch.randn(5, 4)).square().sum().backward()
    opt.step()
    assert torch.equal(layer.weight[~mask], before[~mask]) and (layer.weight[mask] != before[mask]).all()
    freeze.remove()
    opt.step()
    assert (layer.weight != before).all()
