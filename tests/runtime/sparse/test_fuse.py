"""What is fused with packed convolutions, what must not be, and that the answers stay the same."""

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pomona.graph.export import export, runnable
from pomona.graph.nodes import name_of
from pomona.native import library, using
from pomona.runtime.export import export_program
from pomona.runtime.sparse import SparseConv2d, SparseLinear
from pomona.runtime.sparse.candidates import Candidate
from pomona.runtime.sparse.chains import chains
from pomona.runtime.sparse.fuse import fuse
from pomona.vocabulary import InputError

CONV, LINEAR = Candidate("conv_blocks", "f32", (("rows", 2),)), Candidate("bitmask")
X = (2, 4, 7, 6)


def settled(model, seed=0):
    """Pruned weights, and BatchNorm as it is after training."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw) / 4)
                layer.weight *= torch.rand(layer.weight.shape, generator=draw) >= 0.5
            if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
                layer.running_mean.copy_(torch.randn(layer.num_features, generator=draw))
                layer.running_var.copy_(torch.rand(layer.num_features, generator=draw) + 0.2)
            if isinstance(layer, nn.BatchNorm2d) and layer.affine:
                layer.weight.copy_(torch.randn(layer.num_features, generator=draw))
                layer.bias.copy_(torch.randn(layer.num_features, generator=draw))
    return model.eval()


def fused(model, without=(), shape=X):
    """All layers packed but those `without`, and the names of the ops that are left."""
    kinds = {nn.Conv2d: CONV, nn.Linear: LINEAR}
    chosen = {n: kinds[type(m)] for n, m in model.named_modules() if type(m) in kinds and n not in without}
    found = fuse(model, chosen, (torch.randn(shape, generator=torch.Generator().manual_seed(1)),), {})
    return found, Counter(_ops(found.model)) if found.model else None


def _ops(made):
    names = (name_of(n) for n in made.graph.nodes if n.op == "call_function")
    return [name for name in names if not name.startswith("_assert")]  # some releases write down what they took for granted


def same(model, made, shape=X, bound=1e-5):
    x = torch.randn(shape)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(x.clone().double())
        return torch.allclose(made(x.clone()).double(), exact, rtol=bound, atol=bound)


class Block(nn.Module):
    """A residual block as in ResNet, with in-place ReLU and addition."""

    def __init__(self, channels, out, stride, swapped=False):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding="same")
        self.bn2 = nn.BatchNorm2d(out, affine=False)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Sequential(nn.Conv2d(channels, out, 1, stride), nn.BatchNorm2d(out)) if stride > 1 else nn.Identity()
        self.swapped = swapped

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.swapped:
            return F.relu(self.down(x) + y)
        y += self.down(x)
        return self.relu(y)


def resnet():
    return settled(
        nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), Block(6, 6, 1), Block(6, 6, 1, True), Block(6, 8, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        )
    )  # fmt: skip


@pytest.mark.parametrize("isa", [*library().isas, None])
def test_a_residual_network_is_its_convolutions_and_nothing_else(isa):
    net = resnet()
    with using(isa):
        found, left = fused(net)
        assert left.keys() == {"adaptive_avg_pool2d", "flatten"}
        assert found.ops == 8 + 3 + 7  # BatchNorm, additions, ReLU
        for batch in (2, 1, 5):
            assert same(net, found.model, (batch, *X[1:]))
    packed = [m for m in found.model.modules() if isinstance(m, SparseConv2d)]
    assert len(packed) == 8 and isinstance(found.model.get_submodule("8"), SparseLinear)
    assert all(bool((m.weight == 0).any()) for m in packed)


@pytest.mark.parametrize("without", ["0", "3.conv2", "5.conv2", "5.down.0", "3.conv1"])
def test_dense_convolutions_take_the_norm_alone(without):
    net = resnet()
    found, left = fused(net, (without,))
    assert left["batch_norm"] == 0 and left["conv2d"] == 1
    if without.startswith("5"):  # the other of the two convolutions that meet takes the addition
        assert left["add"] + left["add_"] == 0
    assert same(net, found.model)


def test_the_model_stays_untouched_and_shares_nothing():
    net = resnet()
    before = copy.deepcopy(net.state_dict())
    found, _ = fused(net, ("0", "3.conv1", "8"))
    for tensor in found.model.state_dict().values():
        tensor.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


class Odd(nn.Module):
    """One convolution and its norm, and `after(self, x)`."""

    def __init__(self, after, **norm):
        super().__init__()
        self.conv, self.bn, self.after = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, **norm), after

    def forward(self, x):
        return self.after(self, x)


def written_between(net, x):
    x = x * 1
    y = net.bn(net.conv(x))
    z = x.sigmoid()
    x.relu_()
    return F.relu(y + z) + x


def other_written(net, x):
    x = x * 1
    short = x.tanh()
    short.add_(net.bn(net.conv(x)))
    return short.relu()


READ_TWICE = {
    "conv": (lambda net, x: net.bn(y := net.conv(x)) + y, 0, {"batch_norm": 1, "add": 1}),
    "norm": (lambda net, x: F.relu(y := net.bn(net.conv(x))) - y, 1, {"relu": 1, "sub": 1}),
    "sum": (lambda net, x: F.relu(y := net.bn(net.conv(x)) + x) - y, 2, {"relu": 1, "sub": 1}),
    "itself": (lambda net, x: F.relu((y := net.bn(net.conv(x))) + y), 1, {"add": 1, "relu": 1}),
    "called twice": (lambda net, x: F.relu(net.bn(net.conv(F.relu(net.bn(net.conv(x)))))), 4, {}),
}
ANOTHER_SUM = {
    "factor": (lambda net, x: torch.add(net.bn(net.conv(x)), x, alpha=2).relu(), 1, {"add": 1, "relu": 1}),
    "number": (lambda net, x: (net.bn(net.conv(x)) + 1).relu(), 1, {"add": 1, "relu": 1}),
    "broadcast": (lambda net, x: (net.bn(net.conv(x)) + x.mean(0)).relu(), 1, {"mean": 1, "add": 1, "relu": 1}),
    "wider type": (
        lambda net, x: (net.bn(net.conv(x)) + x.double()).relu(),
        1,
        {"to": 1, "add": 1, "relu": 1},
    ),
    "other is written": (other_written, 1, {"mul": 1, "tanh": 1, "add_": 1, "relu": 1}),
    "input is written": (written_between, 1, {"mul": 1, "sigmoid": 1, "relu_": 1, "add": 2, "relu": 1}),
    "two convolutions": (lambda net, x: (net.bn(net.conv(x)) + net.conv(x)).relu(), 3, {}),
}


@pytest.mark.parametrize("name", [*READ_TWICE, *ANOTHER_SUM])
def test_only_what_nobody_else_reads_and_is_the_same_is_fused(name):
    forward, ops, wanted = (READ_TWICE | ANOTHER_SUM)[name]
    net = settled(Odd(forward))
    found, left = fused(net)
    assert found.ops == ops
    if not ops:
        assert found.model is None and found.reason is None
        return
    assert left == wanted
    assert same(net, found.model)


def test_a_layer_that_is_called_twice_alike_is_packed_once():
    net = settled(Odd(READ_TWICE["called twice"][0]))
    packed = [m for m in fused(net)[0].model.modules() if isinstance(m, SparseConv2d)]
    assert len(packed) == 2 and packed[0].packed is packed[1].packed


def plainly(net, x):
    return F.relu(net.bn(net.conv(x)))


def test_norms_by_the_batch_itself_stay():
    net = settled(Odd(plainly, track_running_stats=False))
    assert fused(net)[0].model is None
    graph = runnable(export(settled(Odd(plainly)), torch.randn(X))).graph
    (norm,) = (n for n in graph.nodes if name_of(n) == "batch_norm")
    assert chains(graph, lambda _: True)[0].norm is norm
    norm.update_arg(5, True)
    assert chains(graph, lambda _: True)[0].nodes == [norm.args[0]]


def test_norms_that_would_leave_float32_stay():
    net = settled(nn.Sequential(Odd(lambda net, x: plainly(net, x * 1e-30)), Odd(plainly)))
    with torch.no_grad():
        net[0].conv.weight.mul_(1e4)
        net[0].conv.bias.zero_()
        net[0].bn.running_mean.zero_()
        net[0].bn.weight.mul_(1e30)
        net[0].bn.running_var.fill_(1e-12)
        net[0].bn.eps = 1e-12
    found, left = fused(net)
    assert left == {"mul": 1, "batch_norm": 1, "relu": 1} and found.ops == 2
    x = torch.randn(X)
    with torch.no_grad():
        ours, right = found.model(x), net(x)
    # Of the largest: sums that nearly vanish have few right digits in either.
    assert (ours - right).abs().max() < 1e-5 * right.abs().max() > 0


def test_dense_convolutions_of_few_digits_keep_their_norm():
    net = settled(nn.Sequential(Odd(plainly), Odd(plainly))).bfloat16()
    found = fuse(net, {"1.conv": CONV}, (torch.randn(X).bfloat16(),), {})
    assert _ops(found.model) == ["conv2d", "batch_norm", "relu"]
    x = torch.randn(X).bfloat16()
    with torch.no_grad():
        assert found.model(x).dtype == torch.bfloat16 and torch.allclose(found.model(x), net(x), rtol=0.03, atol=0.03)


def test_why_nothing_is_fused_is_said():
    hooked = settled(Odd(plainly))
    hooked.bn.register_forward_hook(lambda *_: None)
    assert fused(hooked)[0].reason == "the model has hooks"
    tied = settled(Odd(lambda net, x: plainly(net, x).reshape(2, -1)))
    assert fused(tied)[0].reason == "the model cannot be exported with a free batch"
    used = settled(Odd(lambda net, x: F.relu(net.bn(F.conv2d(x, net.conv.weight * 1, padding=1)))))
    assert fused(used)[0].model is None
    other = settled(nn.Sequential(Odd(plainly), Odd(lambda net, x: F.conv2d(x, net.conv.weight * 1, padding=1))))
    assert fused(other)[0].reason == "1.conv is not called as a layer in the trace"


def test_a_tensor_that_others_read_keeps_its_name():
    net = settled(Odd(lambda net, x: plainly(net, x) * net.conv.weight.sum()))
    found, left = fused(net)
    assert left == {"sum": 1, "mul": 1} and same(net, found.model)


def test_what_is_fused_lets_gradients_through_and_can_be_set_to_modes():
    net = resnet()
    made = fused(net)[0].model.train().eval()
    a = torch.randn(X, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    made(a).sum().backward()
    net(b).sum().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_a_fused_program_can_be_written_down(tmp_path):
    made = fused(resnet())[0].model
    assert export_program(made, torch.randn(X), None, tmp_path / "model.pt2") | {"bytes": 0} == {
        "max_error": 0.0,
        "bytes": 0,
        "dynamic_batch": True,
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_fused_program_compiles():
    net = resnet()
    assert same(net, torch.compile(fused(net)[0].model))


def test_another_size_is_refused_in_a_sentence():
    model = settled(nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()))
    found = fuse(model, {"0": CONV}, (torch.randn(X),), {}).model
    found(torch.randn(5, *X[1:]))
    with pytest.raises(InputError, match=r"made with, \(2, 4, 7, 6\), in any batch; got \(2, 4, 9, 6\).*fused=False"):
        found(torch.randn(2, 4, 9, 6))
