"""A decoder's step in torch: where there are no kernels, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pomona.runtime.decoding.llama import NOT_FINITE, Block, Llama
from pomona.vocabulary import InputError

Linear = Callable[[Tensor], Tensor]  # (tokens, columns) to (tokens, rows)


class Plain:
    """Keeps keys and values of what it was fed; `linears` are the blocks' layers by name, and `head` makes logits.

    The first token stands at position `start`.
    """

    def __init__(self, llama: Llama, linears: Sequence[Mapping[str, Linear]], head: Linear, start: int = 0) -> None:
        self._llama, self._linears, self._head, self._start = llama, linears, head, start
        self._keys = [torch.empty(b.key_heads, 0, b.key_width) for b in llama.blocks]
        self._values = [torch.empty(b.key_heads, 0, b.value_width) for b in llama.blocks]
        self.length = 0

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        self._keys = [keys[:, :length] for keys in self._keys]
        self._values = [values[:, :length] for values in self._values]
        self.length = length

    @torch.no_grad()
    def feed(self, tokens: Tensor, every: bool) -> Tensor:
        """Logits, float32 (tokens, vocabulary), or (1, vocabulary) of the last of them."""
        x = self._llama.embedding[tokens].float()
        turns = self._llama.turns(len(tokens), self._start + self.length)
        for i, (block, linears) in enumerate(zip(self._llama.blocks, self._linears, strict=True)):
            x = x + linears["out"](self._attention(i, block, linears, block.norms["before_attention"](x), turns))
            h = block.norms["before_neurons"](x)
            x = x + linears["down"](torch.nn.functional.silu(linears["gate"](h)) * linears["up"](h))
        if not bool(x.square().sum().isfinite()):  # as the norms of the kernel see it
            self.rewind(self.length)
            raise InputError(NOT_FINITE)
        self.length += len(tokens)
        return self._head(self._llama.last_norm(x if every else x[-1:]))

    def _attention(self, i: int, block: Block, linears: Mapping[str, Linear], h: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        n, group = len(h), block.query_heads // block.key_heads
        queries, keys = linears["query"](h).view(n, -1, block.key_width), linears["key"](h).view(n, -1, block.key_width)
        queries = _turned(block.norms["of_query"](queries) if "of_query" in block.norms else queries, *turns)
        keys = _turned(block.norms["of_key"](keys) if "of_key" in block.norms else keys, *turns)
        self._keys[i] = torch.cat([self._keys[i], keys.transpose(0, 1)], 1)
        self._values[i] = torch.cat([self._values[i], linears["value"](h).view(n, -1, block.value_width).transpose(0, 1)], 1)
        later = torch.ones(n, self.length + n, dtype=torch.bool).triu(self.length + 1)
        queries = (block.scaling * queries).view(n, block.key_heads, group, -1).permute(1, 2, 0, 3)
        scores = (queries @ self._keys[i][:, None].transpose(-1, -2)).masked_fill(later, float("-inf"))
        return (scores.softmax(-1) @ self._values[i][:, None]).permute(2, 0, 1, 3).reshape(n, -1)


def _turned(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """The first entries of (tokens, heads, width) turned in pairs i, i + pairs; what is behind them stays."""
    pairs = cosines.shape[1]
    a, b, rest = heads[..., :pairs], heads[..., pairs : 2 * pairs], heads[..., 2 * pairs :]
    c, s = cosines[:, None], sines[:, None]
    return torch.cat([a * c - b * s, b * c + a * s, rest], -1)
