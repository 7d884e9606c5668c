"""Example inputs: what one forward pass takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pomona.entrypoint import call, is_entrypoint
from pomona.models.functions import as_call
from pomona.models.loading import Loaded
from pomona.vocabulary import InputError

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
_DTYPES = {
    "float": torch.float32, "float32": torch.float32, "float64": torch.float64, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "int": torch.int64, "int64": torch.int64, "int32": torch.int32, "bool": torch.bool,
}  # fmt: skip
_TOKENS = 32


def example_inputs(model: nn.Module, loaded: Loaded | None = None, spec: str | None = None) -> Call:
    """(args, kwargs) for one forward pass of `model`, the same at every call.

    `spec` wins: shapes as in `--input 1,3,224,224` (`;` between several inputs, `:int64` after one), or
    `module:function`. Then what the source brought. Then, for transformers models, token ids of shape (1, 32) with an
    attention mask, or pixels of the config's size. They have no values where the model's weights have none. Raises
    InputError when none of these is there.
    """
    found = _found(model, loaded, spec)
    bare = next((p.is_meta for p in model.parameters()), False)
    made: Call = pytree.tree_map(lambda x: x.to("meta") if bare and isinstance(x, Tensor) else x, found)
    return made


def _found(model: nn.Module, loaded: Loaded | None, spec: str | None) -> Call:
    if spec is not None:
        return as_call(call(spec), spec) if is_entrypoint(spec) and not spec[0].isdigit() else (_shapes(spec, model), {})
    if loaded is not None and loaded.example is not None:
        return loaded.example
    config = getattr(model, "config", None)
    if getattr(config, "image_size", None) is not None and getattr(model, "main_input_name", "") == "pixel_values":
        return (), {"pixel_values": _pixels(config)}
    if getattr(config, "vocab_size", None) is not None:
        return (), _tokens(config)
    raise InputError("The shape of this model's input is not known; give it with --input, like 1,3,224,224 or module:function.")


def _shapes(spec: str, model: nn.Module) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(_tensor(part.strip(), model, generator) for part in spec.split(";"))


def _tensor(part: str, model: nn.Module, generator: torch.Generator) -> Tensor:
    if not re.fullmatch(r"\d+(,\d+)*(:\w+)?", part.replace(" ", "")):
        raise InputError(f"'{part}' is not an input; write its shape like 1,3,224,224, with :int64 behind it for whole numbers.")
    numbers, _, name = part.replace(" ", "").partition(":")
    if (name or "float") not in _DTYPES:
        raise InputError(f"'{name}' is not a type of input; use one of {', '.join(_DTYPES)}.")
    shape, dtype = tuple(int(n) for n in numbers.split(",")), _DTYPES[name or "float"]
    if 0 in shape:
        raise InputError(f"The input shape {numbers} holds nothing; every dimension must be at least 1.")
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    if dtype is torch.bool:
        return torch.ones(shape, dtype=dtype)
    return torch.randint(0, _valid_ids(model.modules()), shape, generator=generator, dtype=dtype)


def _valid_ids(modules: Iterable[nn.Module]) -> int:
    """Whole numbers below this are safe: the length of the shortest embedding table."""
    return min((m.num_embeddings for m in modules if isinstance(m, nn.Embedding)), default=2)


def _pixels(config: Any) -> Tensor:
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(1, getattr(config, "num_channels", 3), height, width, generator=torch.Generator().manual_seed(0))


def _tokens(config: Any) -> dict[str, Any]:
    most = getattr(config, "max_position_embeddings", None) or 0  # XLNet says -1 for any length
    length = min(_TOKENS, most) if most > 0 else _TOKENS
    # Low ids are special tokens in most vocabularies (padding, masks) and some models treat them apart.
    low = min(1000, config.vocab_size // 2)
    ids = torch.randint(low, config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(config, "is_encoder_decoder", False):
        given["decoder_input_ids"] = ids[:, : length // 2]
    if getattr(config, "use_cache", False):
        given["use_cache"] = False  # a cache among the outputs can be neither exported nor compared
    return given
