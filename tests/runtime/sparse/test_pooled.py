"""Max pooling in another order of memory: the same answers to the last bit, and nobody else notices."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pomona.graph.export import export, runnable
from pomona.graph.nodes import name_of
from pomona.runtime.sparse.pooled import pool_by_pixels


class Net(nn.Module):
    def __init__(self, channels, after=None):
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, channels, 3, padding=1), after or (lambda x: x.view(len(x), -1))

    def forward(self, x):
        return self.after(F.max_pool2d(F.relu_(self.conv(x)), 3, 2, 1))


def pooled(net, x):
    module = runnable(export(net.eval(), x))
    pool_by_pixels(module)
    module.graph.lint()
    module.recompile()
    return module, [name_of(n) for n in module.graph.nodes if n.op == "call_function"]


def given(n):
    return torch.randn(n, 3, 11, 10)


@pytest.mark.parametrize("batch", [1, 3])
def test_pooling_goes_by_pixels_and_answers_by_channels(batch):
    net, x = Net(16), given(batch)
    made, ops = pooled(net, x)
    assert ops == ["conv2d", "relu_", "contiguous", "max_pool2d", "contiguous", "view"]
    with torch.no_grad():
        assert torch.allclose(made(x), net(x), atol=1e-6)


def test_the_pooled_values_are_the_same_to_the_last_bit():
    net = Net(16)
    net.forward = lambda x: F.max_pool2d(x, 2, ceil_mode=True, dilation=2)
    x = torch.randn(2, 16, 9, 7)
    made, _ = pooled(net, x)
    found = made(x)
    assert torch.equal(found, net(x)) and found.is_contiguous()


def test_the_convolution_before_gives_that_order_at_once_where_only_the_pooling_reads_it():
    net = Net(16)
    made, _ = pooled(net, given(2))
    assert made.get_parameter("conv.weight").is_contiguous(memory_format=torch.channels_last)
    other = Net(16)
    other.forward = lambda x: F.max_pool2d(y := other.conv(x), 2).sum() + y.view(-1).sum()
    made, _ = pooled(other, given(2))
    assert made.get_parameter("conv.weight").is_contiguous()
    assert torch.allclose(made(x := given(2)), other(x), rtol=1e-4)


def test_few_channels_and_maps_without_a_batch_stay():
    assert "contiguous" not in pooled(Net(4), given(2))[1]
    assert "contiguous" not in pooled(Net(16, lambda x: x.flatten()), torch.randn(3, 11, 10))[1]
