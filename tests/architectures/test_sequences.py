"""Networks for sequences: attention in every spelling, recurrence, mixing over positions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import pomona
from halving import F, alive, halved, laws, noise, words
from plans import axes_plan
from pomona.graph import trace
from pomona.graph.surgery import realise
from pomona.vocabulary import InputError


class EinsumAttention(nn.Module):
    """Heads in the weights' own dimensions, a relative-position table by index, einsum throughout."""

    def __init__(self, width: int = 12, heads: int = 4, size: int = 6, length: int = 5) -> None:
        super().__init__()
        self.into, self.head = nn.Linear(7, width), nn.Linear(width, 3)
        self.q, self.k, self.v = (nn.Parameter(noise(width, heads, size, seed=s) / 3) for s in (1, 2, 3))
        self.o = nn.Parameter(noise(heads, size, width, seed=4) / 4)
        self.bias = nn.Parameter(noise(2 * length - 1, heads, seed=5))
        i = torch.arange(length)
        self.register_buffer("where", i[:, None] - i[None] + length - 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        q, k, v = (torch.einsum("bld,dhe->bhle", x, w) for w in (self.q, self.k, self.v))
        a = torch.einsum("bhle,bhme->bhlm", q, k) * q.shape[-1] ** -0.5 + self.bias[self.where].permute(2, 0, 1)
        y = torch.einsum("bhlm,bhme->bhle", a.softmax(-1), v)
        return self.head(x + torch.einsum("bhle,hed->bld", y, self.o))


class RelativeKeys(nn.Module):
    """Shaw et al.: relative positions as vectors of the head width, shared by all heads; music-transformer skewing."""

    def __init__(self, width: int = 12, heads: int = 3, length: int = 5) -> None:
        super().__init__()
        self.heads, self.size, self.length = heads, width // heads, length
        self.stem, self.qkv, self.out = nn.Linear(6, width), nn.Linear(width, 3 * width, bias=False), nn.Linear(width, 4)
        self.table = nn.Parameter(noise(length, self.size) / 2)
        self.register_buffer("mask", torch.tril(torch.ones(length, length))[None, None])

    def skew(self, qe: Tensor) -> Tensor:
        b, h, n, _ = qe.shape
        return F.pad(qe, (1, 0)).reshape(b, h, n + 1, n)[:, :, 1:]

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        x = self.stem(x)
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-2, -1) + self.skew(q @ self.table.t())) / math.sqrt(self.size)
        a = a.masked_fill(self.mask[:, :, :n, :n] == 0, float("-inf")).softmax(-1)
        return self.out((a @ v).transpose(1, 2).contiguous().view(b, n, self.heads * self.size))


class Causal(nn.Module):
    """nanoGPT: mask in a buffer cut to the length, positions by arange, a weight shared by embedding and head."""

    def __init__(self, width: int = 12, heads: int = 3, block: int = 8) -> None:
        super().__init__()
        self.n_head, self.n_embd = heads, width
        self.wte, self.wpe = nn.Embedding(20, width), nn.Embedding(block, width)
        self.ln_1, self.ln_2, self.ln_f = (nn.LayerNorm(width) for _ in range(3))
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.lm_head = nn.Linear(width, 20, bias=False)
        self.lm_head.weight = self.wte.weight
        self.register_buffer("bias", torch.tril(torch.ones(block, block)).view(1, 1, block, block))

    def attend(self, x: Tensor) -> Tensor:
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = F.softmax(att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf")), dim=-1)
        return self.c_proj((att @ v).transpose(1, 2).contiguous().view(B, T, C))

    def forward(self, idx: Tensor) -> tuple[Tensor, None]:
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = self.wte(idx) + self.wpe(pos)
        x = x + self.attend(self.ln_1(x))
        x = x + self.c_out(F.gelu(self.c_fc(self.ln_2(x))))
        return self.lm_head(self.ln_f(x)), None


class CrossDecoder(nn.Module):
    """Learned queries look at a memory twice through one shared block; positions from a sine buffer cut by length."""

    def __init__(self, width: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.queries = nn.Linear(6, width), nn.Parameter(noise(4, width))
        self.q, self.kv, self.o = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.ff, self.norm, self.head = (
            nn.Sequential(nn.Linear(width, 20), nn.ReLU(), nn.Linear(20, width)),
            nn.LayerNorm(width),
            nn.Linear(width, 3),
        )
        angle = torch.arange(16.0)[:, None] / 10 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("pe", torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[None])

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, memory: Tensor) -> dict[str, Tensor]:
        m = self.into(memory)
        m = m + self.pe[:, : m.size(1)]
        x = self.queries.unsqueeze(0).repeat(m.size(0), 1, 1)
        for _ in range(2):
            k, v = self.kv(m).chunk(2, -1)
            y = F.scaled_dot_product_attention(self.split(self.q(self.norm(x))), self.split(k), self.split(v))
            x = x + self.o(y.transpose(1, 2).flatten(2))
            x = x + self.ff(x)
        return {"out": self.head(x), "pooled": x.mean(1) @ self.queries.t()}


class Grouped(nn.Module):
    """Grouped queries with rotary halves, frequencies in a buffer, keys repeated by repeat_interleave."""

    def __init__(self, width: int = 16, heads: int = 4, kv: int = 2, size: int = 4) -> None:
        super().__init__()
        self.heads, self.kv, self.size = heads, kv, size
        self.stem = nn.Linear(6, width)
        self.q, self.k, self.v = nn.Linear(width, heads * size), nn.Linear(width, kv * size), nn.Linear(width, kv * size)
        self.o, self.head = nn.Linear(heads * size, width), nn.Linear(width, 3)
        self.register_buffer("freq", 1.0 / 10 ** (torch.arange(0, size, 2) / size))

    def rotate(self, x: Tensor) -> Tensor:
        t = torch.outer(torch.arange(x.shape[2], dtype=x.dtype), self.freq)
        cos, sin = torch.cat([t, t], -1).cos(), torch.cat([t, t], -1).sin()
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        x = self.stem(x)
        q = self.rotate(self.q(x).view(b, n, self.heads, self.size).transpose(1, 2))
        k = self.rotate(self.k(x).view(b, n, self.kv, self.size).transpose(1, 2))
        v = self.v(x).view(b, n, self.kv, self.size).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.kv, dim=1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(x + self.o(y.transpose(1, 2).reshape(b, n, -1)))


class LinearAttention(nn.Module):
    """Kernel features instead of softmax: keys times values first."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(8, 3 * width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        kv = torch.einsum("bhnd,bhne->bhde", k, v)
        z = 1 / (torch.einsum("bhnd,bhd->bhn", q, k.sum(2)) + 1e-6)
        return self.out(torch.einsum("bhnd,bhde,bhn->bhne", q, kv, z).transpose(1, 2).reshape(b, n, -1))


class ChannelAttention(nn.Module):
    """Transposed attention: the map is over channels, with a learned temperature for each head."""

    def __init__(self, width: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.stem, self.qkv, self.out = nn.Conv2d(3, width, 1), nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, 2, 1)
        self.local, self.temperature = (
            nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width),
            nn.Parameter(torch.ones(heads, 1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = (t.reshape(b, self.heads, -1, h * w) for t in self.local(self.qkv(self.stem(x))).chunk(3, 1))
        a = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature).softmax(-1)
        return self.out((a @ v).reshape(b, -1, h, w))


class NonLocal(nn.Module):
    """Dot products over all positions of a picture, at half the width, back into the residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.theta, self.phi, self.g = (nn.Conv2d(8, 6, 1) for _ in range(3))
        self.w = nn.Sequential(nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, _, *space = x.shape
        theta, phi, g = (layer(x).view(b, layer.out_channels, -1) for layer in (self.theta, self.phi, self.g))
        y = (theta.transpose(1, 2) @ phi).softmax(-1) @ g.transpose(1, 2)
        return self.out(x + self.w(y.transpose(1, 2).reshape(b, self.g.out_channels, *space)))


class Mixer(nn.Module):
    """Mixing over tokens and over channels."""

    def __init__(self, tokens: int = 16, width: int = 10) -> None:
        super().__init__()
        self.patch, self.norm1, self.norm2 = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width), nn.LayerNorm(width)
        self.t1, self.t2, self.c1, self.c2 = (
            nn.Linear(tokens, 12),
            nn.Linear(12, tokens),
            nn.Linear(width, 20),
            nn.Linear(20, width),
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.t2(F.gelu(self.t1(self.norm1(x).transpose(1, 2)))).transpose(1, 2)
        x = x + self.c2(F.gelu(self.c1(self.norm2(x))))
        return self.head(x.mean(1))


class GatedMlp(nn.Module):
    """gMLP: one half gates the other over positions, through a convolution along the sequence."""

    def __init__(self, length: int = 6) -> None:
        super().__init__()
        self.up, self.norm, self.down, self.head = nn.Linear(8, 20), nn.LayerNorm(10), nn.Linear(10, 8), nn.Linear(8, 3)
        self.proj = nn.Conv1d(length, length, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = F.gelu(self.up(x)).chunk(2, -1)
        return self.head(x + self.down(u * self.proj(self.norm(v))))


class Wave(nn.Module):
    """WaveNet: dilated causal convolutions, gates, skips summed."""

    def __init__(self, width: int = 8, skip: int = 10) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, width, 1)
        self.filters = nn.ModuleList([nn.Conv1d(width, 2 * width, 2, dilation=2**i) for i in range(3)])
        self.res, self.skips = (nn.ModuleList([nn.Conv1d(width, w, 1) for _ in range(3)]) for w in (width, skip))
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(skip, 12, 1), nn.ReLU(), nn.Conv1d(12, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        total = 0
        for conv, res, skip in zip(self.filters, self.res, self.skips, strict=True):
            a, b = conv(F.pad(x, (conv.dilation[0], 0))).chunk(2, 1)
            z = torch.tanh(a) * torch.sigmoid(b)
            total = total + skip(z)
            x = x + res(z)
        return self.out(total)


class Separator(nn.Module):
    """Conv-TasNet: learned masks on an encoder, global layer norm by hand, two sources, a transposed convolution."""

    def __init__(self, n: int = 10, sources: int = 2) -> None:
        super().__init__()
        self.n, self.sources = n, sources
        self.encoder, self.decoder = nn.Conv1d(1, n, 4, 2, bias=False), nn.ConvTranspose1d(n, 1, 4, 2, bias=False)
        self.gamma, self.beta = nn.Parameter(torch.ones(1, n, 1)), nn.Parameter(torch.zeros(1, n, 1))
        self.body = nn.Sequential(
            nn.Conv1d(n, 12, 1), nn.PReLU(), nn.Conv1d(12, 12, 3, padding=1, groups=12), nn.PReLU(), nn.Conv1d(12, n * sources, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        e = F.relu(self.encoder(x))
        mean, var = e.mean((1, 2), keepdim=True), e.var((1, 2), keepdim=True, unbiased=False)
        m = torch.sigmoid(self.body(self.gamma * (e - mean) / (var + 1e-5).sqrt() + self.beta))
        m = m.view(x.shape[0], self.sources, self.n, -1)
        return self.decoder((m * e.unsqueeze(1)).view(x.shape[0] * self.sources, self.n, -1)).view(x.shape[0], self.sources, -1)


class TextCnn(nn.Module):
    """Kim: widths side by side, maxima over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv2d(1, 6, (k, 8)) for k in (2, 3)])
        self.fc = nn.Linear(12, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids).unsqueeze(1)
        return self.fc(
            torch.cat([F.max_pool1d(y, y.size(2)).squeeze(2) for y in (F.relu(c(x)).squeeze(3) for c in self.convs)], 1)
        )


class StateSpace(nn.Module):
    """A diagonal linear recurrence unrolled: selective steps, states (width, n), a skip parameter."""

    def __init__(self, width: int = 8, state: int = 4) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(5, 2 * width), nn.Linear(width, 3)
        self.conv, self.x_proj = nn.Conv1d(width, width, 3, padding=2, groups=width), nn.Linear(width, 2 + 2 * state, bias=False)
        self.dt, self.state = nn.Linear(2, width), state
        self.a_log, self.d = nn.Parameter(noise(width, state) / 4), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        x, z = self.into(x).chunk(2, -1)
        x = F.silu(self.conv(x.transpose(1, 2))[..., :n].transpose(1, 2))
        dt, b, c = self.x_proj(x).split([self.dt.in_features, self.state, self.state], -1)
        dt, a = F.softplus(self.dt(dt)), -self.a_log.exp()
        h = x.new_zeros(x.shape[0], x.shape[2], self.state)
        ys = []
        for t in range(n):
            h = (dt[:, t, :, None] * a).exp() * h + dt[:, t, :, None] * b[:, t, None] * x[:, t, :, None]
            ys.append((h * c[:, t, None]).sum(-1))
        return self.out((torch.stack(ys, 1) + self.d * x) * F.silu(z))


class HandmadeLstm(nn.Module):
    """All gates from one matrix over [x, h]."""

    def __init__(self, hidden: int = 7) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates, self.out = nn.Linear(5 + hidden, 4 * hidden), nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, c = (torch.zeros(x.shape[0], self.hidden, dtype=x.dtype) for _ in range(2))
        for t in range(x.shape[1]):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], -1)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


class Recurrent(nn.Module):
    """A layer of torch with everything around it: last states, both directions, a learned first state."""

    def __init__(self, kind: type = nn.LSTM, layers: int = 2, both: bool = True, **how: int) -> None:
        super().__init__()
        self.into = nn.Linear(5, 6)
        self.rnn = kind(6, 7, layers, batch_first=True, bidirectional=both, **how)
        self.out = nn.Linear((how.get("proj_size") or 7) * (2 if both else 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(torch.relu(self.into(x)))[0])


class LastStates(Recurrent):
    """Only the last states of the last layer are read."""

    def forward(self, x: Tensor) -> Tensor:
        state = self.rnn(torch.relu(self.into(x)))[1]
        h = state[0] if isinstance(state, tuple) else state
        return self.out(torch.cat([h[-2], h[-1]], -1))


class EncoderDecoder(nn.Module):
    """The decoder starts from the encoder's states and attends to its outputs; a loop of cells."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.hidden = hidden
        self.src, self.tgt = nn.Embedding(20, 6), nn.Embedding(20, 6)
        self.encoder, self.cell = nn.GRU(6, hidden, batch_first=True), nn.GRUCell(6 + hidden, hidden)
        self.key, self.score, self.out = nn.Linear(2 * hidden, 10), nn.Linear(10, 1, bias=False), nn.Linear(2 * hidden, 20)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, h = self.encoder(self.src(source))
        h, steps = h.squeeze(0), []
        for t in range(target.shape[1]):
            q = h.unsqueeze(1).expand(-1, memory.shape[1], -1)
            a = self.score(torch.tanh(self.key(torch.cat([memory, q], -1)))).softmax(1)
            context = (a * memory).sum(1)
            h = self.cell(torch.cat([self.tgt(target[:, t]), context], -1), h)
            steps.append(self.out(torch.cat([h, context], -1)))
        return torch.stack(steps, 1)


class CrnnOcr(nn.Module):
    """Convolutions, columns as time, a bidirectional LSTM, log-probabilities with time first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.rnn, self.fc = nn.LSTM(8 * 4, 6, bidirectional=True), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        b, c, h, w = y.shape
        y = y.permute(3, 0, 1, 2).reshape(w, b, c * h)
        return F.log_softmax(self.fc(self.rnn(y)[0]), dim=-1)


class Masked(nn.Module):
    """Torch's own layers with a mask made on the way, which they compare with a causal one."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)
        self.embed, self.encoder = nn.Embedding(20, 12), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 20)

    def forward(self, ids: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.head(self.encoder(self.embed(ids), mask=mask))


class Rotary(nn.Module):
    """Pairs of features turned as complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(6, 16), nn.Linear(16, 48), nn.Linear(16, 3)
        angles = torch.outer(torch.arange(8.0), 100.0 ** -(torch.arange(4.0) / 4))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def turned(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * self.turns[: x.shape[1], None]
        return torch.view_as_real(pairs).flatten(-2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 8).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (self.turned(q), self.turned(k), v))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


CASES = {
    "a mask for torch's own layers": (Masked, words(2, 5)),
    "rotary by complex numbers": (Rotary, noise(2, 5, 6)),
    "einsum attention with a table": (EinsumAttention, noise(2, 5, 7)),
    "relative keys": (RelativeKeys, noise(2, 5, 6)),
    "causal mask in a buffer": (Causal, words(2, 6)),
    "cross attention": (CrossDecoder, noise(2, 5, 6)),
    "grouped queries": (Grouped, noise(2, 5, 6)),
    "linear attention": (LinearAttention, noise(2, 5, 8)),
    "attention over channels": (ChannelAttention, noise(2, 3, 4, 4)),
    "non-local block": (NonLocal, noise(2, 3, 4, 4)),
    "mixer": (Mixer, noise(2, 3, 16, 16)),
    "gated mlp": (GatedMlp, noise(2, 6, 8)),
    "wavenet": (Wave, noise(2, 1, 12)),  # its last residual is computed for nothing, and yet runs
    "separator": (Separator, noise(2, 1, 16)),
    "text cnn": (TextCnn, words(2, 7)),
    "state space": (StateSpace, noise(2, 4, 5)),
    "lstm by hand": (HandmadeLstm, noise(2, 3, 5)),
    "lstm, two layers both ways": (Recurrent, noise(2, 4, 5)),
    "gru, two layers": (lambda: Recurrent(nn.GRU, 2, False), noise(2, 4, 5)),
    "rnn, both ways": (lambda: Recurrent(nn.RNN, 1, True), noise(2, 4, 5)),
    "last states": (LastStates, noise(2, 4, 5)),
    "last states of a gru": (lambda: LastStates(nn.GRU, 1), noise(2, 4, 5)),
    "encoder and decoder": (EncoderDecoder, (words(2, 4), words(2, 3, seed=2))),
    "columns as time": (CrnnOcr, noise(2, 1, 8, 8)),
}  # fmt: skip


test_half_of_everything_goes_and_small_equals_masked, test_each_axis_goes_alone = laws(CASES)


def test_an_lstm_with_projections_is_halved():
    torch.manual_seed(0)
    found = halved(Recurrent(nn.LSTM, 2, True, proj_size=4), noise(2, 4, 5))
    assert found.proof.passed and found.form == "eager"
    assert (found.small.rnn.hidden_size, found.small.rnn.proj_size) == (4, 2)


def test_a_size_that_torch_cannot_run_is_refused():
    """With as many hidden units as projected ones, the kernel takes the layer for one without projections."""
    torch.manual_seed(0)
    model = alive(Recurrent(nn.LSTM, 1, True, proj_size=4))
    graph = trace(model, noise(2, 4, 5))
    hidden = next(name for name, axis in graph.axes.items() if axis.frozen is None and axis.size == 7)
    with pytest.raises(InputError, match="cannot run"):
        realise(model, graph, axes_plan(graph, [hidden]))


def test_every_layer_and_direction_keeps_units_of_its_own_but_as_many():
    torch.manual_seed(0)
    result = pomona.prune(Recurrent(), noise(2, 4, 5), goal="params=0.5x", structure="axes", latency=False)
    kept = [result.plan.keep(name) for name in result.plan.sites if name.startswith("rnn")]
    assert result.form == "eager" and result.report.proof.passed and len(kept) == 4
    assert {int(keep.sum()) for keep in kept} == {result.model.rnn.hidden_size}
    assert not all(torch.equal(keep, kept[0]) for keep in kept)


def test_states_that_are_read_side_by_side_bind_the_layers():
    torch.manual_seed(0)
    graph = trace(LastStates(), noise(2, 4, 5))
    assert len([name for name, axis in graph.axes.items() if name.startswith("rnn") and not axis.frozen]) == 1


def test_layers_of_unequal_widths_are_refused():
    """No number of torch's module could say them."""
    torch.manual_seed(0)
    model = alive(Recurrent())
    graph = trace(model, noise(2, 4, 5))
    with pytest.raises(InputError, match="cannot run"):
        realise(model, graph, axes_plan(graph, ["rnn.weight_ih_l1:0/neuron"]))
