"""Every rule is held to the strictest test there is: half of every axis goes, and the small model must equal the masked one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from plans import axes_plan, prunable
from pomona.graph import trace
from pomona.graph.proof import prove
from pomona.graph.surgery import realise


class Does(nn.Module):
    """Layers by name and what is done with them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.does = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.does(self, *inputs)


def between(act, width=8, after=None):
    """A linear layer, something, a linear layer."""
    return Does(lambda m, x: m.b(act(m.a(x))), a=nn.Linear(6, width), b=nn.Linear(after or width, 4)), (torch.randn(3, 6),)


def pictures(act, width=8, after=None, groups=1):
    """A convolution, something, a convolution."""
    a, b = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(after or width, 4, 1, groups=groups)
    return Does(lambda m, x: m.b(act(m.a(x))), a=a, b=b), (torch.randn(2, 3, 8, 8),)


def heads(m, x, softmax=True):
    b, n, _ = x.shape
    q, k, v = (t.view(b, n, 2, 4).transpose(1, 2) for t in m.qkv(x).chunk(3, -1))
    weights = q @ k.transpose(-2, -1) / 2
    return m.out(((weights.softmax(-1) if softmax else weights) @ v).transpose(1, 2).reshape(b, n, 8))


def cells(kind, **how):
    directions = 2 if how.get("bidirectional") else 1
    made = Does(
        lambda m, x: m.out(m.cell(m.into(x))[0]),
        into=nn.Linear(5, 6),
        cell=kind(6, 7, batch_first=True, **how),
        out=nn.Linear(7 * directions, 3),
    )
    return made, (torch.randn(2, 4, 5),)


def steps(kind, state):
    """Three steps of a cell, from zeros of the hidden width."""

    def run(m, x):
        h = state(x.new_zeros(len(x), 7))
        for t in range(3):
            h = m.cell(m.into(x[:, t]), h)
        return m.out(h[0] if isinstance(h, tuple) else h)

    return Does(run, into=nn.Linear(5, 6), cell=kind(6, 7), out=nn.Linear(7, 3)), (torch.randn(2, 3, 5),)


def projected(**how):
    made, args = cells(nn.LSTM, proj_size=3, **how)
    made.out = nn.Linear(6 if how.get("bidirectional") else 3, 3)
    return made, args


CASES = {
    "lstm cell": lambda: steps(nn.LSTMCell, lambda h: (h, h)),
    "gru cell": lambda: steps(nn.GRUCell, lambda h: h),
    "rnn cell": lambda: steps(nn.RNNCell, lambda h: h),
    "lstm with a projection": projected,
    "lstm of two layers with projections, both ways": lambda: projected(num_layers=2, bidirectional=True),
    "gated halves": lambda: between(lambda x: F.glu(x), 8, 4),
    "gated channels": lambda: pictures(lambda x: F.glu(x, 1), 8, 4),
    "bags of words": lambda: (
        Does(lambda m, x: m.out(m.bags(x)), bags=nn.EmbeddingBag(9, 8), out=nn.Linear(8, 3)),
        (torch.randint(9, (2, 5)),),
    ),
    "a bilinear form": lambda: (
        Does(
            lambda m, x: m.out(m.both(m.a(x).relu(), m.b(x).relu()).relu()),
            a=nn.Linear(6, 8),
            b=nn.Linear(6, 6),
            both=nn.Bilinear(8, 6, 10),
            out=nn.Linear(10, 3),
        ),
        (torch.randn(2, 6),),
    ),
    "cat of two layers": lambda: (
        Does(lambda m, x: m.c(torch.cat((m.a(x), m.b(x)), -1)), a=nn.Linear(6, 4), b=nn.Linear(6, 8), c=nn.Linear(12, 3)),
        (torch.randn(2, 6),),
    ),
    "a view of a cat": lambda: (
        Does(
            lambda m, x: m.c(torch.cat((m.a(x), m.b(x)), -1).view(2, 3, 4).transpose(1, 2).reshape(2, 12)),
            a=nn.Linear(6, 4),
            b=nn.Linear(6, 8),
            c=nn.Linear(12, 3),
        ),
        (torch.randn(2, 6),),
    ),
    "gated chunk": lambda: between(lambda x: x.chunk(2, -1)[0] * x.chunk(2, -1)[1].sigmoid(), 16, 8),
    "uneven split": lambda: between(lambda x: torch.cat([p * (i + 1) for i, p in enumerate(x.split([2, 6, 4], -1))], -1), 12),
    "slices": lambda: between(lambda x: x[:, :4] + x[:, -4:], 8, 4),
    "every other": lambda: between(lambda x: torch.stack((x[:, ::2], -x[:, 1::2]), -1).flatten(1), 8),
    "narrow": lambda: between(lambda x: x.narrow(-1, 2, 4), 8, 4),
    "roll freezes": lambda: between(lambda x: x.roll(1, -1), 8),
    "repeat": lambda: between(lambda x: x.repeat(1, 3), 4, 12),
    "repeat_interleave": lambda: between(lambda x: x.repeat_interleave(3, -1), 4, 12),
    "pad": lambda: between(lambda x: F.pad(x, (2, 1)), 4, 7),
    "softmax": lambda: between(lambda x: x.softmax(-1), 8),
    "max over units": lambda: between(lambda x: x * x.amax(-1, keepdim=True), 8),
    "layer norm": lambda: between(lambda x: F.layer_norm(x, (x.shape[-1],)), 8),
    "mean and variance by hand": lambda: between(
        lambda x: (x - x.mean(-1, keepdim=True)) * (x.var(-1, keepdim=True) + 1).rsqrt()
    ),
    "top k freezes": lambda: between(lambda x: x.topk(4, -1).values, 8, 4),
    "square by einsum": lambda: (
        Does(lambda m, x: torch.einsum("bi,oi->bo", m.a(x), m.w), a=nn.Linear(6, 8), w=nn.Parameter(torch.randn(4, 8))),
        (torch.randn(2, 6),),
    ),
    "weight on the right": lambda: (
        Does(lambda m, x: m.a(x).relu() @ m.w, a=nn.Linear(6, 8), w=nn.Parameter(torch.randn(8, 4))),
        (torch.randn(2, 6),),
    ),
    "prelu": lambda: (
        Does(lambda m, x: m.b(m.p(m.a(x))), a=nn.Conv2d(3, 8, 1), p=nn.PReLU(8), b=nn.Conv2d(8, 2, 1)),
        (torch.randn(2, 3, 4, 4),),
    ),
    "grouped convolution": lambda: pictures(F.relu, 8, groups=2),
    "depthwise with multiplier": lambda: (
        Does(lambda m, x: m.c(m.b(m.a(x)).relu()), a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 12, 3, groups=6), c=nn.Conv2d(12, 2, 1)),
        (torch.randn(2, 3, 6, 6),),
    ),
    "transposed convolution": lambda: (
        Does(lambda m, x: m.c(m.b(m.a(x))), a=nn.Conv2d(3, 6, 1), b=nn.ConvTranspose2d(6, 8, 2, 2), c=nn.Conv2d(8, 2, 1)),
        (torch.randn(2, 3, 4, 4),),
    ),
    "grouped transposed convolution": lambda: (
        Does(
            lambda m, x: m.c(m.b(m.a(x))), a=nn.Conv2d(3, 6, 1), b=nn.ConvTranspose2d(6, 4, 2, 2, groups=2), c=nn.Conv2d(4, 2, 1)
        ),
        (torch.randn(2, 3, 4, 4),),
    ),
    "group norm": lambda: (
        Does(lambda m, x: m.b(m.n(m.a(x))), a=nn.Conv2d(3, 12, 1), n=nn.GroupNorm(3, 12), b=nn.Conv2d(12, 2, 1)),
        (torch.randn(2, 3, 4, 4),),
    ),
    "instance norm": lambda: pictures(lambda x: F.instance_norm(x)),
    "channel shuffle": lambda: pictures(lambda x: F.channel_shuffle(x, 2)),
    "pixel shuffle": lambda: pictures(lambda x: F.pixel_shuffle(x, 2), 8, 2),
    "pixel unshuffle": lambda: pictures(lambda x: F.pixel_unshuffle(x, 2), 3, 12),
    "pooling and resizing": lambda: pictures(
        lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2) + F.avg_pool2d(x, 3, 1, 1)
    ),
    "unfold": lambda: (
        Does(lambda m, x: m.b(F.unfold(m.a(x), 2).transpose(1, 2)), a=nn.Conv2d(3, 4, 1), b=nn.Linear(16, 3)),
        (torch.randn(2, 3, 4, 4),),
    ),
    "flatten to linear": lambda: (
        Does(lambda m, x: m.b(m.a(x).flatten(1)), a=nn.Conv2d(3, 4, 1), b=nn.Linear(64, 3)),
        (torch.randn(2, 3, 4, 4),),
    ),
    "convolution over a sequence": lambda: (
        Does(lambda m, x: m.b(m.a(x)).mean(-1), a=nn.Conv1d(3, 6, 3, padding="same"), b=nn.Conv1d(6, 4, 1)),
        (torch.randn(2, 3, 9),),
    ),
    "attention by hand": lambda: (Does(heads, qkv=nn.Linear(6, 24), out=nn.Linear(8, 3)), (torch.randn(2, 5, 6),)),
    "attention without softmax": lambda: (
        Does(lambda m, x: heads(m, x, False), qkv=nn.Linear(6, 24), out=nn.Linear(8, 3)),
        (torch.randn(2, 5, 6),),
    ),
    "multi-head attention module": lambda: (
        Does(
            lambda m, x: m.out(m.a(x, x, x, need_weights=False)[0]),
            a=nn.MultiheadAttention(8, 2, batch_first=True),
            out=nn.Linear(8, 3),
        ),
        (torch.randn(2, 5, 8),),
    ),
    "token mixing": lambda: (
        Does(
            lambda m, x: m.d(m.c(m.b(m.a(x).transpose(1, 2))).transpose(1, 2)),
            a=nn.Linear(6, 8),
            b=nn.Linear(5, 7),
            c=nn.Linear(7, 5),
            d=nn.Linear(8, 3),
        ),
        (torch.randn(2, 5, 6),),
    ),
    "lstm": lambda: cells(nn.LSTM),
    "two-layer bidirectional gru": lambda: cells(nn.GRU, num_layers=2, bidirectional=True),
    "plain recurrent": lambda: cells(nn.RNN, bias=False),
    "a region without gradients": lambda: (Does(_region, a=nn.Linear(6, 8), b=nn.Linear(8, 3)), (torch.randn(2, 6),)),
    "written in place": lambda: between(lambda x: x.mul_(2).relu_().add_(1).clamp_(max=3) - 1, 8),
    "squeeze and move": lambda: between(lambda x: x.unsqueeze(0).movedim(0, 1).squeeze(1), 8),
    "a table": lambda: (Does(lambda m, x: m.b(m.e(x)), e=nn.Embedding(7, 8), b=nn.Linear(8, 3)), (torch.randint(0, 7, (2, 5)),)),
}


def _region(m, x):
    x = m.a(x)
    with torch.no_grad():
        x = x.relu()
    return m.b(x)


FREEZES = {"roll freezes", "top k freezes"}


@pytest.mark.parametrize("name", CASES)
def test_half_of_every_axis_goes_and_small_equals_masked(name):
    torch.manual_seed(0)
    model, args = CASES[name]()
    graph = trace(model.eval(), args)
    assert graph.unknown == ()
    assert name in FREEZES or prunable(graph)
    plan = axes_plan(graph)
    small = realise(model, graph, plan).model
    proof = prove(model, graph, plan, small, graph.program.example_inputs[0], graph.program.example_inputs[1])
    assert proof.passed and proof.max_error < 1e-9
    assert graph.costs({n: (graph.axes[n].size + 1) // 2 for n in prunable(graph)}).params == sum(
        p.numel() for p in small.parameters()
    )
