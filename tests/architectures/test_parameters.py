"""Weights that are held, shared, made or measured in unusual ways."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from halving import Does, F, halved, laws, noise, words


class TiedHead(nn.Module):
    """The embedding is the head, scaled, with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.fc1, self.fc2, self.norm = nn.Linear(12, 16), nn.Linear(16, 12), nn.LayerNorm(12)
        self.bias = nn.Parameter(torch.zeros(20))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) * 2.0
        x = self.norm(x + self.fc2(F.gelu(self.fc1(x))))
        return F.linear(x, self.embed.weight, self.bias)


class TiedAutoencoder(nn.Module):
    """The decoder is the transposed encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(noise(10, 12) / 4), nn.Parameter(noise(12, 6, seed=2) / 4)
        self.b1, self.b2 = nn.Parameter(torch.zeros(12)), nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(x @ self.w1 + self.b1) @ self.w2
        return (torch.tanh(z @ self.w2.t() + self.b2)) @ self.w1.T


class TwoTied(nn.Module):
    """Two modules of one weight, and one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.mid = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 12)
        self.b.weight = self.a.weight
        self.again = self.mid
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x)) * torch.sigmoid(self.b(x))
        return self.out(self.again(torch.relu(self.mid(y))))


class Experts(nn.Module):
    """Stacked expert weights, soft mixture: every expert runs."""

    def __init__(self, experts: int = 4, width: int = 10, hidden: int = 12) -> None:
        super().__init__()
        self.into, self.out, self.gate = nn.Linear(6, width), nn.Linear(width, 3), nn.Linear(width, experts)
        self.w1 = nn.Parameter(noise(experts, width, hidden) / 3)
        self.b1 = nn.Parameter(torch.zeros(experts, hidden))
        self.w2 = nn.Parameter(noise(experts, hidden, width, seed=2) / 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.into(x))
        h = F.silu(torch.einsum("bd,edh->beh", x, self.w1) + self.b1)
        y = torch.einsum("beh,ehd->bed", h, self.w2)
        return self.out(torch.einsum("be,bed->bd", self.gate(x).softmax(-1), y))


class ExpertsByBatchedProducts(Experts):
    """The same with bmm and an expanded input."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.into(x))
        e = self.w1.shape[0]
        h = F.silu(torch.baddbmm(self.b1.unsqueeze(1), x.unsqueeze(0).expand(e, -1, -1), self.w1))
        y = torch.bmm(h, self.w2)
        return self.out((self.gate(x).softmax(-1).t().unsqueeze(-1) * y).sum(0))


class LayerScale(nn.Module):
    def __init__(self, width: int = 10) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, width), nn.Linear(width, 3)
        self.fc1, self.fc2 = nn.Linear(width, 16), nn.Linear(16, width)
        self.gamma, self.alpha = nn.Parameter(0.5 * torch.ones(width)), nn.Parameter(torch.zeros(1))
        self.norm = nn.RMSNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.gamma * self.fc2(F.gelu(self.fc1(self.norm(x)))) * (1 + self.alpha.exp())
        return self.head(x)


class Standardised(nn.Conv2d):
    """Weight standardisation by hand."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = w - w.mean(dim=(1, 2, 3), keepdim=True)
        w = w / (w.view(w.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


def standardised() -> nn.Module:
    return nn.Sequential(
        Standardised(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), Standardised(8, 10, 3), nn.ReLU(), nn.Conv2d(10, 2, 1)
    )


class Normalised(nn.Module):
    """Cosine classifier: features and prototypes on the sphere."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 8)
        self.prototypes, self.scale = nn.Parameter(noise(5, 8)), nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.relu(self.a(x)))
        return self.scale * F.linear(F.normalize(x, dim=-1), F.normalize(self.prototypes, dim=-1))


class CosinePairs(Normalised):
    """The same through cosine_similarity."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.relu(self.a(x)))
        return F.cosine_similarity(x[:, None], self.prototypes[None], dim=-1) - torch.cdist(x, self.prototypes)


class Hyper(nn.Module):
    """One network writes the weights of another's layer, for every example."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.width = width
        self.embed, self.make = nn.Linear(5, 8), nn.Linear(8, width * width)
        self.into, self.out = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        w = self.make(torch.tanh(self.embed(condition))).view(-1, self.width, self.width)
        y = torch.bmm(w, torch.relu(self.into(x)).unsqueeze(-1)).squeeze(-1)
        return self.out(torch.relu(y))


class DynamicConv(nn.Module):
    """CondConv: a mixture of kernels for every example, run as one grouped convolution."""

    def __init__(self, kernels: int = 3) -> None:
        super().__init__()
        self.stem, self.route, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, kernels), nn.Conv2d(10, 2, 1)
        self.weight = nn.Parameter(noise(kernels, 10, 8, 3, 3) / 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        b, c, h, w = x.shape
        mix = torch.sigmoid(self.route(x.mean((2, 3))))
        weight = (mix @ self.weight.flatten(1)).view(b * self.weight.shape[1], c, 3, 3)
        y = F.conv2d(x.view(1, b * c, h, w), weight, padding=1, groups=b)
        return self.out(F.relu(y.view(b, self.weight.shape[1], h, w)))


class LowRank(nn.Module):
    """LoRA beside a frozen weight."""

    def __init__(self, rank: int = 4) -> None:
        super().__init__()
        self.stem, self.base, self.out = nn.Linear(6, 12), nn.Linear(12, 16), nn.Linear(16, 3)
        self.base.requires_grad_(False)
        self.lora_a, self.lora_b = nn.Parameter(noise(rank, 12) / 4), nn.Parameter(noise(16, rank, seed=2) / 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.out(torch.relu(self.base(x) + 0.5 * (x @ self.lora_a.T @ self.lora_b.T)))


class Merged(LowRank):
    """LoRA merged on the fly: a weight that is a sum of a weight and a product."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.out(torch.relu(F.linear(x, self.base.weight + self.lora_b @ self.lora_a, self.base.bias)))


class Highway(nn.Module):
    def __init__(self, width: int = 10, depth: int = 2) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, width), nn.Linear(width, 3)
        self.layers = nn.ModuleList(
            [nn.ModuleDict({"h": nn.Linear(width, width), "t": nn.Linear(width, width)}) for _ in range(depth)]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            t = torch.sigmoid(layer["t"](x))
            x = t * torch.relu(layer["h"](x)) + (1 - t) * x
        return self.head(x)


class Gated(nn.Module):
    """SwiGLU with one fused projection, GEGLU by chunk, bilinear by split sizes, and nn.GLU."""

    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        self.hidden = hidden
        self.stem, self.norm = nn.Linear(6, 10), nn.LayerNorm(10)
        self.fused, self.down = nn.Linear(10, 2 * hidden), nn.Linear(hidden, 10)
        self.fused2, self.down2 = nn.Linear(10, 16), nn.Linear(8, 10)
        self.glu = nn.Sequential(nn.Linear(10, 12), nn.GLU(), nn.Linear(6, 10))
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate, up = self.fused(self.norm(x)).split([self.hidden, self.hidden], dim=-1)
        x = x + self.down(F.silu(gate) * up)
        a, b = self.fused2(x).chunk(2, -1)
        return self.head(x + self.down2(F.gelu(a) * b) + self.glu(x))


class Codebook(nn.Module):
    """VQ: the nearest code by squared distance, looked up, with a straight-through difference."""

    def __init__(self, codes: int = 16, width: int = 6) -> None:
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(3, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, width, 1))
        self.codes = nn.Embedding(codes, width)
        self.dec = nn.Sequential(nn.Conv2d(width, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 3, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.enc(x).permute(0, 2, 3, 1).contiguous()
        flat = z.view(-1, z.shape[-1])
        far = flat.pow(2).sum(1, keepdim=True) + self.codes.weight.pow(2).sum(1) - 2 * flat @ self.codes.weight.t()
        picked = far.argmin(1)
        q = self.codes(picked).view(z.shape)
        q = z + (q - z).detach()
        return self.dec(q.permute(0, 3, 1, 2)), picked


class Bags(nn.Module):
    """Two bags and a bilinear form between them."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.EmbeddingBag(20, 8, mode="sum"), nn.EmbeddingBag(20, 10, mode="mean")
        self.match, self.out = nn.Bilinear(8, 10, 6), nn.Linear(6, 2)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.out(torch.relu(self.match(self.users(users), self.items(items))))


class Interactions(nn.Module):
    """DLRM: embeddings of several features, all dot products, the upper triangle, joined with the dense part."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, width))
        self.tables = nn.ModuleList([nn.Embedding(20, width) for _ in range(3)])
        i, j = torch.tril_indices(4, 4, -1)
        self.register_buffer("i", i)
        self.register_buffer("j", j)
        self.top = nn.Sequential(nn.Linear(width + 6, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = self.bottom(dense)
        every = torch.stack([x, *(table(sparse[:, k]) for k, table in enumerate(self.tables))], 1)
        products = torch.bmm(every, every.transpose(1, 2))
        return self.top(torch.cat([x, products[:, self.i, self.j]], 1))


class Factorised(nn.Module):
    """Factorisation machine: half of (sum squared minus sum of squares)."""

    def __init__(self) -> None:
        super().__init__()
        self.v, self.w = nn.Embedding(20, 8), nn.Embedding(20, 1)
        self.deep = nn.Sequential(nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, ids: Tensor) -> Tensor:
        e = self.v(ids)
        pairs = 0.5 * (e.sum(1).pow(2) - e.pow(2).sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(self.w(ids).sum(1) + pairs + self.deep(e.flatten(1)))


class Splines(nn.Module):
    """KAN-like: a basis of powers for every input, coefficients (out, in, basis)."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Parameter(noise(10, 5, 4) / 4), nn.Parameter(noise(3, 10, 4, seed=2) / 4)
        self.register_buffer("powers", torch.arange(4))

    def layer(self, x: Tensor, c: Tensor) -> Tensor:
        basis = torch.cos(torch.acos(torch.tanh(x).unsqueeze(-1).clamp(-0.99, 0.99)) * self.powers)
        return torch.einsum("bik,oik->bo", basis, c)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x, self.c1), self.c2)


class Capsules(nn.Module):
    """Votes by einsum and two rounds of routing; vectors squashed by their norm."""

    def __init__(self, into: int = 6, out: int = 4, size: int = 5) -> None:
        super().__init__()
        self.primary = nn.Linear(7, into * 3)
        self.weight = nn.Parameter(noise(into, out, size, 3) / 2)
        self.last = nn.Linear(size, 2)

    @staticmethod
    def squash(v: Tensor) -> Tensor:
        n = v.norm(dim=-1, keepdim=True)
        return n**2 / (1 + n**2) * v / (n + 1e-8)

    def forward(self, x: Tensor) -> Tensor:
        u = self.squash(self.primary(x).view(x.shape[0], -1, 3))
        votes = torch.einsum("iods,bis->biod", self.weight, u)
        logits = torch.zeros_like(votes[..., 0])
        for _ in range(2):
            v = self.squash((logits.softmax(2).unsqueeze(-1) * votes).sum(1))
            logits = logits + (votes * v.unsqueeze(1)).sum(-1)
        return self.last(v)


class Reversible(nn.Module):
    """RevNet: two halves that change each other."""

    def __init__(self, width: int = 12, depth: int = 2) -> None:
        super().__init__()
        half = width // 2
        self.stem, self.head = nn.Linear(6, width), nn.Linear(width, 3)
        self.f = nn.ModuleList([nn.Sequential(nn.Linear(half, 8), nn.Tanh(), nn.Linear(8, half)) for _ in range(depth)])
        self.g = nn.ModuleList([nn.Sequential(nn.LayerNorm(half), nn.Linear(half, half)) for _ in range(depth)])

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.chunk(self.stem(x), 2, -1)
        for f, g in zip(self.f, self.g, strict=True):
            a = a + f(b)
            b = b + g(a)
        return self.head(torch.cat((a, b), -1))


class Coupling(nn.Module):
    """A normalising flow: affine coupling with a fixed permutation in a buffer and a mask buffer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(width))
        self.register_buffer("mask", (torch.arange(width) % 2).float())
        self.net = nn.Sequential(nn.Linear(width, 12), nn.Tanh(), nn.Linear(12, 2 * width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x[:, self.order]
        s, t = self.net(x * self.mask).chunk(2, 1)
        s = torch.tanh(s) * (1 - self.mask)
        return x * s.exp() + t * (1 - self.mask), s.sum(1)


class Stacked(nn.Module):
    """All layers' weights in one tensor, taken apart by index and by unbind."""

    def __init__(self, depth: int = 3, width: int = 8) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(noise(depth, width, width) / 3), nn.Parameter(noise(depth, width, seed=2) / 3)
        self.into, self.out = nn.Parameter(noise(5, width, seed=3)), nn.Parameter(noise(width, 2, seed=4))

    def forward(self, x: Tensor) -> Tensor:
        x = x @ self.into
        for i in range(self.w.shape[0]):
            x = torch.relu(torch.addmm(self.b[i], x, self.w[i]))
        for w in self.w.unbind(0):
            x = x + torch.relu(x @ w)
        return x @ self.out


class Concatenated(nn.Module):
    """One big matrix made of several parameters before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(noise(8, 6, seed=s) / 2) for s in (1, 2, 3))
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = F.linear(x, torch.cat([self.q, self.k, self.v])).chunk(3, -1)
        return self.out(torch.sigmoid(q) * k + v)


class ScalarGates(nn.Module):
    """BiFPN's fast fusion: a small vector of weights, normalised, picked by position."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.w = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        w = F.relu(self.w)
        w = w / (w.sum() + 1e-4)
        return self.c(F.silu(w[0] * self.a(x) + w[1] * self.b(x)))


def weight_normed() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(6, 12)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(12, 10)),
        nn.ReLU(),
        nn.Linear(10, 2),
    )


def spectrally_normed() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 12)), nn.ReLU(), nn.Linear(12, 2))


class Symmetric(nn.Module):
    """A parametrization of one's own."""

    def forward(self, w: Tensor) -> Tensor:
        return w.triu() + w.triu(1).transpose(-1, -2)


def symmetric() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))
    parametrize.register_parametrization(model[2], "weight", Symmetric())
    return model


class Fourier(nn.Module):
    """Random features in a buffer, sine and cosine side by side, then a field of coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("b", noise(2, 8))
        self.net = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, xy: Tensor) -> Tensor:
        z = 2 * torch.pi * xy @ self.b
        return self.net(torch.cat([z.sin(), z.cos()], -1))


class Radiance(nn.Module):
    """NeRF: positions encoded by powers of two, a skip by concatenation in the middle, two heads."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(18, width), nn.Linear(width, width), nn.Linear(width + 18, width)])
        self.sigma, self.feature, self.rgb = (
            nn.Linear(width, 1),
            nn.Linear(width, width),
            nn.Sequential(nn.Linear(width + 3, 8), nn.ReLU(), nn.Linear(8, 3)),
        )

    def forward(self, x: Tensor, d: Tensor) -> Tensor:
        e = torch.cat([f(x * 2.0**k) for k in range(3) for f in (torch.sin, torch.cos)], -1)
        h = e
        for i, layer in enumerate(self.layers):
            h = F.relu(layer(torch.cat([h, e], -1) if i == 2 else h))
        return torch.cat([torch.sigmoid(self.rgb(torch.cat([self.feature(h), d], -1))), F.softplus(self.sigma(h))], -1)


class Maxout(nn.Module):
    """The largest of k linear pieces."""

    def __init__(self, units: int = 8, pieces: int = 3) -> None:
        super().__init__()
        self.pieces = pieces
        self.a, self.b = nn.Linear(6, units * pieces), nn.Linear(units, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y.view(*y.shape[:-1], -1, self.pieces).max(-1).values)


class Monarch(nn.Module):
    """Two block-diagonal products with a transposition in between."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(5, 12), nn.Linear(12, 3)
        self.l, self.r = nn.Parameter(noise(3, 4, 4) / 2), nn.Parameter(noise(4, 3, 3, seed=2) / 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x).view(-1, 3, 4)
        x = torch.einsum("bki,kij->bkj", x, self.l).transpose(1, 2)
        x = torch.einsum("bki,kij->bkj", x, self.r).transpose(1, 2)
        return self.out(x.reshape(x.shape[0], -1))


def functional() -> nn.Module:
    def run(m, x):
        x = F.conv2d(x, m.w1, m.b1, padding=1)
        x = F.batch_norm(x, m.mean, m.var, m.gain, m.shift)
        x = F.conv2d(F.leaky_relu(x, 0.1), m.w2, groups=m.w2.shape[0])
        x = F.group_norm(x, 2)
        return F.linear(F.layer_norm(x.mean((2, 3)), (m.w3.shape[1],)), m.w3)

    p = nn.Parameter
    return Does(
        run, w1=p(noise(8, 3, 3, 3) / 5), b1=p(noise(8)), mean=noise(8) / 3,
        var=noise(8).abs() + 0.5, gain=p(noise(8)), shift=p(noise(8)),
        w2=p(noise(8, 1, 3, 3)), w3=p(noise(3, 8)),
    )  # fmt: skip


CASES = {
    "embedding as head": (TiedHead, words(2, 5)),
    "transposed decoder": (TiedAutoencoder, noise(2, 10)),
    "one weight in two modules": (TwoTied, noise(2, 8)),
    "stacked experts": (Experts, noise(2, 6)),
    "stacked experts by bmm": (ExpertsByBatchedProducts, noise(2, 6)),
    "layer scale": (LayerScale, noise(2, 6)),
    "weight standardisation": (standardised, noise(2, 3, 6, 6)),
    "cosine classifier": (Normalised, noise(2, 6)),
    "cosines and distances": (CosinePairs, noise(2, 6)),
    "hypernetwork": (Hyper, (noise(2, 4), noise(2, 5, seed=2))),
    "conditional convolution": (DynamicConv, noise(2, 3, 6, 6)),
    "low rank beside": (LowRank, noise(2, 6)),
    "low rank merged": (Merged, noise(2, 6)),
    "highway": (Highway, noise(2, 6)),
    "gated units": (Gated, noise(2, 6)),
    "codebook": (Codebook, noise(2, 3, 4, 4)),
    "bags": (Bags, (words(2, 4), words(2, 3, seed=2))),
    "interactions": (Interactions, (noise(2, 5), words(2, 3))),
    "factorisation machine": (Factorised, words(2, 3)),
    "splines": (Splines, noise(2, 5)),
    "capsules": (Capsules, noise(2, 7)),
    "reversible": (Reversible, noise(2, 6)),
    "coupling": (Coupling, noise(2, 8)),
    "all layers in one tensor": (Stacked, noise(2, 5)),
    "a matrix made of three": (Concatenated, noise(2, 6)),
    "scalar gates": (ScalarGates, noise(2, 3, 5, 5)),
    "weight norm": (weight_normed, noise(2, 6)),
    "a symmetric weight": (symmetric, noise(2, 6)),
    "random features": (Fourier, noise(2, 2)),
    "radiance field": (Radiance, (noise(2, 3), noise(2, 3, seed=2))),
    "maxout": (Maxout, noise(2, 6)),
    "block-diagonal products": (Monarch, noise(2, 5)),
    "functional calls": (functional, noise(2, 3, 6, 6)),
}  # fmt: skip


test_half_of_everything_goes_and_small_equals_masked, test_each_axis_goes_alone = laws(CASES)


def test_spectral_norm_is_right_or_refused():
    torch.manual_seed(0)
    found = halved(spectrally_normed(), noise(2, 6))
    assert found.proof.passed
