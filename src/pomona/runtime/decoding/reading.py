"""A causal language model of transformers read as a `Llama`, or refused by what it does otherwise."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pomona.runtime.decoding.llama import LINEARS, Block, Llama, Norm
from pomona.vocabulary import InputError

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_NEURONS = ("gate_proj", "up_proj", "down_proj")
_STEADY = ("default", "linear", "llama3", "yarn")  # kinds of rotary embedding whose frequencies do not depend on the length


def read(model: nn.Module, context: int) -> Llama:
    """The model as a decoder of up to `context` positions needs it; weights are shared with it, not copied.

    What modules are called is looked at only to find them; norms and activations are tried out on numbers. Raises InputError,
    naming the part, for anything that does not compute what a Llama does.
    """
    backbone, head = getattr(model, "model", None), getattr(model, "lm_head", None)
    _only(backbone, ("embed_tokens", "layers", "norm", "rotary_emb"), "The model")
    _refuse_windows(model.config, context)
    _refuse_scaling(model.config, context)
    frequencies, amplitude = _rotary(backbone.rotary_emb)  # type: ignore[union-attr]
    embedding: Tensor = backbone.embed_tokens.weight.detach()  # type: ignore[union-attr, assignment]
    if embedding.device.type != "cpu":
        raise InputError(f"Decoding runs on the CPU; the model is on {embedding.device}. Move it with .to('cpu') first.")
    hidden = embedding.shape[1]
    return Llama(
        embedding=(embedding if embedding.dtype in (torch.float32, torch.bfloat16) else embedding.float()).contiguous(),
        blocks=[_block(layer, f"layer {i}", hidden) for i, layer in enumerate(backbone.layers)],  # type: ignore[union-attr, arg-type]
        last_norm=_norm(backbone.norm, "the last norm", hidden),  # type: ignore[union-attr]
        head=_linear(head, "lm_head"), frequencies=frequencies, amplitude=amplitude,
        positions=int(getattr(model.config, "max_position_embeddings", 0) or context),
    )  # fmt: skip


def _block(layer: nn.Module, where: str, hidden: int) -> Block:
    _only(layer, ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm"), where)
    attention: Any = layer.self_attn
    mlp: Any = layer.mlp
    _only(attention, _ATTENTION, f"The attention of {where}", optional=("q_norm", "k_norm"))
    _only(mlp, _NEURONS, f"The MLP of {where}", optional=("act_fn",))
    x = torch.linspace(-6, 6, 97)
    if not torch.allclose(mlp.act_fn(x), F.silu(x), atol=1e-5):
        raise InputError(f"The MLP of {where} activates by {type(mlp.act_fn).__name__}; decoding knows SiLU only.")
    parts = [(attention, name) for name in _ATTENTION] + [(mlp, name) for name in _NEURONS]
    linears = {short: _linear(getattr(part, name), f"{where}.{name}") for short, (part, name) in zip(LINEARS, parts, strict=True)}
    width = int(attention.head_dim)
    queries, keys, values = (linears[name].out_features for name in ("query", "key", "value"))
    query_heads, key_heads = queries // width, keys // width
    groups = int(getattr(attention, "num_key_value_groups", query_heads // max(key_heads, 1)))
    if queries % width or keys % width or not key_heads or query_heads != key_heads * groups or values % key_heads:
        sizes = f"{queries} query, {keys} key and {values} value rows, heads of {width}, {groups} to a group"
        raise InputError(f"The attention of {where} has {sizes}: these are no whole groups of heads.")
    norms = {
        "before_attention": _norm(layer.input_layernorm, f"input_layernorm of {where}", hidden),
        "before_neurons": _norm(layer.post_attention_layernorm, f"post_attention_layernorm of {where}", hidden),
    }
    for short, name in (("of_query", "q_norm"), ("of_key", "k_norm")):
        if (module := getattr(attention, name, None)) is not None:
            norms[short] = _norm(module, f"{name} of {where}", width)
    return Block(query_heads, key_heads, width, values // key_heads, float(attention.scaling), linears, norms)


def _only(module: Any, names: tuple[str, ...], where: str, optional: tuple[str, ...] = ()) -> None:
    """Raises InputError unless the module has these children, and no others that hold weights."""
    children = dict(module.named_children()) if isinstance(module, nn.Module) else {}
    missing = [name for name in names if name not in children]
    other = [name for name, child in children.items() if name not in (*names, *optional) and [*child.parameters()]]
    if missing or other:
        what = f"has no {' and no '.join(missing)}" if missing else f"has also {' and '.join(other)}"
        where = where[0].upper() + where[1:]
        raise InputError(f"{where} ({type(module).__name__}) {what}; decoding knows Llama-like models only.")


def _linear(module: Any, name: str) -> nn.Linear:
    if type(module) is not nn.Linear:
        raise InputError(f"{name} is a {type(module).__name__}; decoding reads plain nn.Linear layers.")
    return module


def _norm(module: Any, name: str, width: int) -> Norm:
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if isinstance(weight, Tensor) and weight.shape == (width,) and epsilon is not None:
        norm = Norm(weight.detach().float().contiguous(), float(epsilon))
        x = torch.randn(3, width, generator=torch.Generator().manual_seed(0)).to(weight.dtype)
        with torch.no_grad():
            if torch.allclose(module(x).float(), norm(x.float()), rtol=8 * torch.finfo(weight.dtype).eps, atol=1e-5):
                return norm
    what = f"{name} ({type(module).__name__}) is no RMSNorm of {width} weights"
    raise InputError(f"{what[0].upper() + what[1:]}; decoding knows no other norm.")


def _rotary(module: Any) -> tuple[Tensor, float]:
    kind = getattr(module, "rope_type", None)
    if kind not in _STEADY or not isinstance(getattr(module, "inv_freq", None), Tensor):
        raise InputError(f"The rotary embedding is of kind {kind!r}; decoding knows {', '.join(_STEADY)}.")
    return module.inv_freq.detach().float().contiguous(), float(module.attention_scaling)


def _refuse_scaling(config: Any, context: int) -> None:
    """Ministral 3 makes queries larger from some position on; too little for a half type to tell it from rounding."""
    rotary = getattr(config, "rope_parameters", None) or {}
    steady = rotary.get("original_max_position_embeddings") or context
    if rotary.get("llama_4_scaling_beta") and context > steady:
        raise InputError(
            f"The model scales its queries from position {steady} on, which decoding does not: ask for context={steady} or less."
        )


def _refuse_windows(config: Any, context: int) -> None:
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if other := kinds - {"full_attention", "sliding_attention"}:
        raise InputError(f"The model has layers of kind {', '.join(sorted(other))}; decoding knows full attention only.")
    if window is not None and (not kinds or "sliding_attention" in kinds) and window < context:
        raise InputError(
            f"The model attends to its last {window} positions only, decoding to all of a context of {context}: "
            f"ask for context={window} or less."
        )
