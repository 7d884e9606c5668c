"""Layers of `torch.nn` whose code cannot say the sizes that pruning leaves, and the classes that take over their tensors.

`nn.MultiheadAttention` insists that all heads together are as wide as what goes in. Where that still holds after a cut the
module stays what it is; otherwise its tensors, under the same names, go on in a subclass that is called in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UnevenAttention(nn.MultiheadAttention):
    """Multi-head attention whose heads may be wider or narrower, taken together, than its input.

    The width of a head is what the tensors make of `num_heads`; values may have another than queries and keys. Scores are
    divided by the root of the width of the queries that are there, as torch does, unless `scale` says by what they are
    multiplied. Nested tensors are not taken.
    """

    scale: float | None = None

    @property
    def inner(self) -> tuple[int, int]:
        """How wide all heads together are: queries and keys, values."""
        values = self.out_proj.weight.shape[1]
        if self.in_proj_weight is None:
            return int(self.q_proj_weight.shape[0]), int(values)
        return int(self.in_proj_weight.shape[0] - values) // 2, int(values)

    @property
    def head_dim(self) -> int:  # type: ignore[override]
        """How wide the queries and keys of one head are."""
        return self.inner[0] // int(self.num_heads)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention`: the output, and the attention weights where they are asked for.

        `is_causal` is a hint about `attn_mask`, which must be there as well. Raises ValueError where it is not.
        """
        if is_causal and attn_mask is None:
            raise ValueError("is_causal says what attn_mask is, so it needs one.")
        alone, swapped = query.dim() == 2, query.dim() == 3 and not self.batch_first
        query, key, value = (x[None] if alone else x.transpose(0, 1) if swapped else x for x in (query, key, value))
        q, k, v = (self._heads(x) for x in self._projected(query, key, value))
        mask = self._mask(attn_mask, key_padding_mask, q, k.shape[2] - key.shape[1])
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * (self.scale or q.shape[-1] ** -0.5)) @ k.transpose(-2, -1)
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout, self.training)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=self.scale)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if alone:
            return out[0], None if weights is None else weights[0]
        return out.transpose(0, 1) if swapped else out, weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads, (batch, length, inner), with the learned and the zero position behind."""
        wide = [self.inner[0], *self.inner]
        packed, bias = self.in_proj_weight, self.in_proj_bias
        apart = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        weights: Sequence[Tensor] = apart if packed is None else _cut(packed, wide)
        biases = [None] * 3 if bias is None else _cut(bias, wide)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (torch.cat([x, b.expand(len(x), 1, -1)], 1) for x, b in ((k, self.bias_k), (v, self.bias_v)))
        if self.add_zero_attn:
            k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
        return q, k, v

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, length, heads * width) -> (batch, heads, length, width)."""
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def _mask(self, attention: Tensor | None, padding: Tensor | None, q: Tensor, more: int) -> Tensor | None:
        """What is added to the scores, of a shape that broadcasts over (batch, heads, queries, keys)."""
        found = None
        if attention is not None:
            found = _added(attention, q)
            found = found[None, None] if found.dim() == 2 else found.view(len(q), self.num_heads, *found.shape[1:])
        if padding is not None:
            hidden = _added(padding, q).view(len(q), 1, 1, -1)
            found = hidden if found is None else found + hidden
        return found if found is None or not more else F.pad(found, (0, more))


def _cut(rows: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
    """Rows in pieces of these lengths."""
    return [rows.narrow(0, sum(lengths[:place]), length) for place, length in enumerate(lengths)]


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as something to add: minus infinity where a mask of truth values is True."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -torch.inf)


def take_over(model: nn.Module) -> None:
    """Give every layer of the table whose sizes its code cannot say the class that can, in place."""
    for module in model.modules():
        if type(module) in UNEVEN:
            cannot_say, settle, kind = UNEVEN[type(module)]
            if cannot_say(module):
                module.__class__ = kind
                settle(module)


def tell_scales(model: nn.Module, widths: Mapping[str, int]) -> None:
    """Let the attention layers of these names multiply scores by the inverse root of these widths, in place."""
    for path, width in widths.items():
        module = model.get_submodule(path)
        if isinstance(module, nn.MultiheadAttention):
            if not isinstance(module, UnevenAttention):
                module.__class__ = UnevenAttention
                _settle(module)
            module.scale = width**-0.5


def _unequal(attention: Any) -> bool:
    inner = UnevenAttention.inner.fget(attention)  # type: ignore[attr-defined]
    widths = {attention.embed_dim, *inner, attention.out_proj.weight.shape[0]}
    return len(widths) > 1


def _settle(attention: Any) -> None:
    del attention.__dict__["head_dim"]  # follows from the number of heads
    attention._qkv_same_embed_dim = False  # what torch's fast paths ask for


UNEVEN: Mapping[type, tuple[Callable[[Any], bool], Callable[[Any], None], type]] = {
    nn.MultiheadAttention: (_unequal, _settle, UnevenAttention),
}


def settle_heads(model: nn.Module) -> None:
    """What follows from the number of heads, in place: their width, and which encoders turn padded batches into nested tensors.

    Torch does so only where all layers of an encoder can take those.
    """
    for module in model.modules():
        if type(module) is nn.MultiheadAttention:
            module.head_dim = module.embed_dim // module.num_heads
        elif isinstance(module, nn.TransformerEncoder) and module.use_nested_tensor:
            module.use_nested_tensor = all(_takes_nested(getattr(layer, "self_attn", None)) for layer in module.layers)


def _takes_nested(attention: Any) -> bool:
    return type(attention) is nn.MultiheadAttention and attention._qkv_same_embed_dim and attention.num_heads % 2 == 0
