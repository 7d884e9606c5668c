"""A Llama-like folder as one GGUF file, written a tensor at a time and read back before it gets its name."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pomona.runtime.export import appearing, free_path
from pomona.runtime.gguf.architectures import (
    architecture,
    check_equal_layers,
    fields,
    frequency_factors,
    paired,
    rotary_heads,
)
from pomona.runtime.gguf.tokens import add_tokenizer
from pomona.runtime.packing import Checkpoint
from pomona.vocabulary import InputError, Progress, Silent, first_line

TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
_LARGEST = 65504.0  # of float16
_FILE_TYPES = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16", "Q8_0": "MOSTLY_Q8_0"}


def export_gguf(folder: str | Path, path: str | Path, dtype: str = "float16", progress: Progress | None = None) -> dict[str, Any]:
    """Write the model of a transformers (or Pomona) folder as GGUF, for llama.cpp and its kin; read it back and compare.

    `dtype` is that of the matrices: float32, float16, bfloat16 or q8_0 (8 bits and a float16 scale for every 32); norms and
    biases stay float32. The tokenizer goes in where the folder has a tokenizer.json. Returns `max_error`, the largest
    difference to the folder's weights (0: equal; else what rounding to `dtype` costs), `bytes`, `tensors` and `notes`. Raises
    InputError where the package is missing, the file exists, the architecture is unknown, layers differ, or the file that was
    read is not what was to be written; then no file is left.
    """
    if importlib.util.find_spec("gguf") is None:
        raise InputError("GGUF export needs gguf: pip install 'pomona[transformers]'.")
    folder, path = Path(folder), free_path(Path(path))
    config = _config(folder)
    arch, interleaved = architecture(config)
    checkpoint = Checkpoint.of(folder)
    check_equal_layers({name: checkpoint.shape(name) for name in checkpoint.names}, config)
    source = _Source(checkpoint, config, _names(checkpoint, arch, config), interleaved, TYPES[dtype])
    with appearing(path) as partial:
        notes = _write(partial, arch, source, folder, progress or Silent())
        error = _compare(partial, source, progress or Silent())
    return {"max_error": error, "bytes": path.stat().st_size, "tensors": len(source.names), "notes": list(notes)}


class _Source:
    """The tensors of a file, by GGUF name, made when they are asked for."""

    def __init__(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], names: Mapping[str, str], interleaved: bool, kind: str
    ) -> None:
        self.checkpoint, self.config, self.names, self.interleaved, self.kind = checkpoint, config, names, interleaved, kind
        self.factors = frequency_factors(config)

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, theirs in self.names.items():
            yield theirs, self.tensor(name)
        if self.factors is not None:
            yield "rope_freqs.weight", self.factors

    def tensor(self, name: str) -> Tensor:
        """One tensor, float32, rows as GGUF wants them."""
        value = self.checkpoint.tensor(name).float()
        if not bool(value.isfinite().all()):
            raise InputError(f"{name} has values that are not numbers (NaN or infinite).")
        if self.kind == "F16" and value.dim() > 1 and float(value.abs().max()) > _LARGEST:
            raise InputError(f"{name} has values that float16 cannot hold; export it with --dtype bfloat16.")
        heads = rotary_heads(name, self.config) if self.interleaved else None
        return value if heads is None else paired(value, heads)

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """What comes, in the same order, without reading it."""
        for name, theirs in self.names.items():
            yield theirs, self.checkpoint.shape(name)
        if self.factors is not None:
            yield "rope_freqs.weight", tuple(self.factors.shape)

    def type_of(self, shape: tuple[int, ...]) -> Any:
        """Matrices are as asked (or float16, where rows are no blocks of 32), all else is float32."""
        from gguf import GGMLQuantizationType

        kind = self.kind if len(shape) > 1 else "F32"
        return GGMLQuantizationType["F16" if kind == "Q8_0" and shape[-1] % 32 else kind]


def _write(path: Path, arch: str, source: _Source, folder: Path, progress: Progress) -> tuple[str, ...]:
    from gguf import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGUFWriter, LlamaFileType, quants

    writer = GGUFWriter(path, arch)
    writer.add_name(folder.resolve().name)
    writer.add_type("model")
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_file_type(LlamaFileType[_FILE_TYPES[source.kind]])
    for field, number in fields(source.config).items():
        if isinstance(number, float):
            writer.add_float32(f"{arch}.{field}", number)
        else:
            writer.add_uint32(f"{arch}.{field}", number)
    if "rope.scaling.factor" in fields(source.config):
        writer.add_string(f"{arch}.rope.scaling.type", "linear")
    notes = add_tokenizer(writer, folder, int(source.config["vocab_size"]))
    for name, shape in source.shapes():
        kind = source.type_of(shape)
        block, size = GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(name, shape, np.dtype(np.float32), prod(shape) // block * size, kind)
    with closing(writer), progress.stage("writing weights", len(source.names)) as stage:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, value in source:
            kind = source.type_of(tuple(value.shape))
            writer.write_tensor_data(quants.quantize(value.contiguous().numpy(), kind))
            stage.advance()
    return notes


def _compare(path: Path, source: _Source, progress: Progress) -> float:
    """The largest difference between what a reader finds and the weights; InputError where it exceeds what the type costs."""
    from gguf import GGUFReader, quants

    found = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    worst = 0.0
    with progress.stage("reading it back", len(source.names)) as stage:
        for name, value in source:
            stored = found.pop(name)
            read = torch.from_numpy(np.array(quants.dequantize(stored.data, stored.tensor_type)))
            if read.shape != value.shape or not bool(_within(read, value, stored.tensor_type.name)):
                raise InputError(f"{name} does not come back from the GGUF file as it was written; no file was left.")
            worst = max(worst, float((read - value).abs().max()) if value.numel() else 0.0)
            stage.advance()
    return worst


def _within(read: Tensor, value: Tensor, kind: str) -> Tensor:
    """Whether every value is as near as its type allows: half a step, by the value's own size or the largest of its block."""
    if kind == "Q8_0":
        steps = value.reshape(-1, 32).abs().amax(1, keepdim=True) / 127
        allowed = (steps * 0.51 + steps * 127 * 2**-11).expand(-1, 32).reshape(value.shape)  # the scale is rounded to float16
    else:
        share, least = {"F32": (0.0, 0.0), "F16": (2**-11, 2**-24), "BF16": (2**-8, 0.0)}[kind]
        allowed = value.abs() * share + least
    return ((read - value).abs() <= allowed).all()


def _config(folder: Path) -> dict[str, Any]:
    """The config with the defaults of its class."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} has no config.json: GGUF needs a transformers model whose layers are equal; prune uniformly.")
    try:
        from transformers import AutoConfig

        config: dict[str, Any] = AutoConfig.from_pretrained(folder).to_dict()
    except ImportError:
        raise InputError("GGUF export needs transformers: pip install 'pomona[transformers]'.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be read ({first_line(error)}).") from None
    return config


def _names(checkpoint: Checkpoint, arch: str, config: Mapping[str, Any]) -> dict[str, str]:
    """GGUF's name of every tensor; a tied output is left out, as readers take the embedding for it."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(key for key, name in MODEL_ARCH_NAMES.items() if name == arch)
    known = get_tensor_name_map(MODEL_ARCH(number), int(config["num_hidden_layers"]))
    embedding, output = "model.embed_tokens.weight", "lm_head.weight"
    found = {}
    for name in checkpoint.names:
        alone = name == output and embedding not in checkpoint.names  # of tied tensors one is saved, under either name
        if name == output and not alone and config.get("tie_word_embeddings"):
            continue
        theirs = known.get_name(embedding if alone else name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise InputError(f"GGUF has no name for {name} in a {arch} model.")
        found[name] = theirs
    return found
