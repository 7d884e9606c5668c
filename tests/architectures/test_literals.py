"""Sizes that the code has written down where nobody can mend them: the class adapts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from halving import Does, F, check, halved, laws, noise


def heads(m, x):
    b = x.shape[0]
    q, k, v = (layer(x).view(b, 5, 2, 8).transpose(1, 2) for layer in (m.q, m.k, m.v))
    return m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, 5, 16))


def lists(m, x):
    a, b, c = m.a(x).split([4, 8, 4], -1)
    return m.b(torch.cat([a * c, b], -1))


def written(m, x):
    y = x.new_zeros(x.shape[0], 12)
    y[:, :8] = m.a(x)
    y[:, 8:] = m.b(x)
    return m.c(y.relu())


def patches(m, x):
    b = x.shape[0]
    y = m.conv(x).reshape(b, 8, 2, 3, 2, 3).permute(0, 2, 4, 1, 3, 5).reshape(b, 4, 72)
    return m.fc(y).mean(1)


def table(m, x):
    y = m.a(x).view(-1, 4, 3)
    return m.b((y * torch.linspace(0.5, 1.5, 3)).reshape(-1, 12))


def powers(m, x):
    y = m.a(x)
    return m.b(y / 8**0.5 + y.shape[-1] ** -0.5 * y.sigmoid())


def looped(m, x):
    y = m.a(x)
    return m.b(torch.stack([y[:, i * 4 : (i + 1) * 4].sum(-1) for i in range(3)], -1))


def counted(m, x):
    y = m.conv(x)
    return m.out(torch.stack([y[:, c] * (c + 1) for c in range(6)], 1))


class Held(nn.Module):
    """Whatever function it is given."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Shortcut(nn.Module):
    """Every other pixel and zeros in place of channels, in a lambda that knows how many."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem, self.wide, self.out = nn.Conv2d(3, 8, 3), nn.Conv2d(8, width, 3, 2, 1), nn.Conv2d(width, 2, 1)
        self.short = Held(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, width // 4, width // 4)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.out(self.wide(x) + self.short(x))


def shared_queries(m, x):
    b, n, _ = x.shape
    fused = m.qkv(m.norm(x))
    q, k, v = fused[..., :32], fused[..., 32:48], fused[..., 48:]
    q, k, v = q.view(b, n, 4, 8), *(t.view(b, n, 2, 8).repeat_interleave(2, dim=2) for t in (k, v))
    y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True)
    return m.out(x + m.back(y.transpose(1, 2).reshape(b, n, 32)))


def shuffled(m, x):
    x = m.a(x).relu()
    y = torch.cat([x[:, :16], m.b(x[:, 16:])], 1)
    return m.c(y.view(len(y), 2, 16, *y.shape[2:]).transpose(1, 2).flatten(1, 2))


def within(m, x):
    b, n = x.shape[:2]

    def heads(t):
        return t.view(b, n, 3, 8).transpose(1, 2)

    whole = lambda t: t.transpose(1, 2).reshape(b, n, 24)  # noqa: E731
    q, k, v = (heads(t) for t in m.qkv(x).chunk(3, -1))
    return m.out(whole(F.scaled_dot_product_attention(q, k, v)))


CASES = {
    "a shortcut in a lambda": (Shortcut, noise(2, 3, 10, 10), {"share": 0.9}),
    "shared queries in slices": (
        lambda: Does(
            shared_queries,
            norm=nn.LayerNorm(16),
            qkv=nn.Linear(16, 64),
            back=nn.Linear(32, 16),
            out=nn.Linear(16, 2),
        ),
        noise(2, 5, 16),
    ),
    "halves in slices, shuffled": (
        lambda: Does(shuffled, a=nn.Conv2d(3, 32, 1), b=nn.Conv2d(16, 16, 3, padding=1, groups=16), c=nn.Conv2d(32, 2, 1)),
        noise(2, 3, 6, 6),
    ),
    "functions within": (lambda: Does(within, qkv=nn.Linear(6, 72), out=nn.Linear(24, 3)), noise(2, 5, 6)),
    "heads in a view": (lambda: Does(heads, **{n: nn.Linear(16, 16) for n in "qkvo"}), noise(2, 5, 16), {"share": 1.0}),
    "a list of sizes": (lambda: Does(lists, a=nn.Linear(6, 16), b=nn.Linear(12, 3)), noise(2, 6)),
    "written into slices": (lambda: Does(written, a=nn.Linear(6, 8), b=nn.Linear(6, 4), c=nn.Linear(12, 3)), noise(2, 6)),
    "patches": (lambda: Does(patches, conv=nn.Conv2d(3, 8, 3, padding=1), fc=nn.Linear(72, 4)), noise(2, 3, 6, 6)),
    "a table in a view": (lambda: Does(table, a=nn.Linear(6, 12), b=nn.Linear(12, 3)), noise(2, 6)),
    "roots of widths": (lambda: Does(powers, a=nn.Linear(6, 8), b=nn.Linear(8, 3)), noise(2, 6)),
    "slices in a loop": (lambda: Does(looped, a=nn.Linear(6, 12), b=nn.Linear(3, 2)), noise(2, 6)),
}


test_half_of_everything_goes_and_small_equals_masked, test_each_axis_goes_alone = laws(CASES)


def test_channels_that_are_told_apart_by_number_freeze():
    torch.manual_seed(0)
    found = halved(Does(counted, conv=nn.Conv2d(3, 6, 1), out=nn.Conv2d(6, 2, 1)), noise(2, 3, 4, 4))
    assert found.proof.passed and "single position" in found.graph.axes["conv.weight:0"].frozen


class Sequence(nn.Module):
    """Features in reverse, which nobody can thin out, between layers that can."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 10), nn.Linear(10, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(torch.relu(self.a(x))).flip(-1))


def test_what_lies_beside_a_frozen_axis_goes():
    torch.manual_seed(0)
    found = check(Sequence(), noise(2, 6))
    assert "flip" in found.graph.axes["b.weight:0"].frozen and found.small.a.out_features == 5
