"""The layers of `torch.nn`: what their integers are, by the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn

from pomona.graph.mend_sizes import Sizes

Read = Callable[[Any, int], Any]  # (layer, its number of groups) -> the attribute's value

_CONV: Mapping[str, Read] = {
    "groups": lambda m, g: g,
    "out_channels": lambda m, g: m.weight.shape[0],
    "in_channels": lambda m, g: m.weight.shape[1] * g,
}
_TRANSPOSED: Mapping[str, Read] = {
    "groups": lambda m, g: g,
    "out_channels": lambda m, g: m.weight.shape[1] * g,
    "in_channels": lambda m, g: m.weight.shape[0],
}
_BATCH: Mapping[str, Read] = {"num_features": lambda m, g: len(m.running_mean if m.running_mean is not None else m.weight)}
_RECURRENT: Mapping[str, Read] = {
    "input_size": lambda m, g: m.weight_ih_l0.shape[1],
    "hidden_size": lambda m, g: m.weight_ih_l0.shape[0] // {"LSTM": 4, "GRU": 3}.get(m.mode, 1),
    "proj_size": lambda m, g: m.weight_hr_l0.shape[0] if m.proj_size else 0,
}
_CELL: Mapping[str, Read] = {"input_size": lambda m, g: m.weight_ih.shape[1], "hidden_size": lambda m, g: m.weight_hh.shape[1]}

_ATTENTION: Mapping[str, Read] = {
    "embed_dim": lambda m, g: (m.q_proj_weight if m.in_proj_weight is None else m.in_proj_weight).shape[1],
    "kdim": lambda m, g: (m.k_proj_weight if m.in_proj_weight is None else m.in_proj_weight).shape[1],
    "vdim": lambda m, g: (m.v_proj_weight if m.in_proj_weight is None else m.in_proj_weight).shape[1],
    "head_dim": lambda m, g: m.embed_dim // m.num_heads,  # once more when the heads are counted
}

LAYERS: Mapping[type, Mapping[str, Read]] = {
    nn.Linear: {"in_features": lambda m, g: m.weight.shape[1], "out_features": lambda m, g: m.weight.shape[0]},
    nn.Bilinear: {
        "in1_features": lambda m, g: m.weight.shape[1],
        "in2_features": lambda m, g: m.weight.shape[2],
        "out_features": lambda m, g: m.weight.shape[0],
    },
    nn.Conv1d: _CONV, nn.Conv2d: _CONV, nn.Conv3d: _CONV,
    nn.ConvTranspose1d: _TRANSPOSED, nn.ConvTranspose2d: _TRANSPOSED, nn.ConvTranspose3d: _TRANSPOSED,
    nn.BatchNorm1d: _BATCH, nn.BatchNorm2d: _BATCH, nn.BatchNorm3d: _BATCH, nn.SyncBatchNorm: _BATCH,
    nn.InstanceNorm1d: _BATCH, nn.InstanceNorm2d: _BATCH, nn.InstanceNorm3d: _BATCH,
    nn.GroupNorm: {"num_groups": lambda m, g: g, "num_channels": lambda m, g: len(m.weight)},
    nn.LayerNorm: {"normalized_shape": lambda m, g: tuple(m.weight.shape)},
    nn.RMSNorm: {"normalized_shape": lambda m, g: tuple(m.weight.shape)},
    nn.Embedding: {"num_embeddings": lambda m, g: m.weight.shape[0], "embedding_dim": lambda m, g: m.weight.shape[1]},
    nn.EmbeddingBag: {"num_embeddings": lambda m, g: m.weight.shape[0], "embedding_dim": lambda m, g: m.weight.shape[1]},
    nn.PReLU: {"num_parameters": lambda m, g: len(m.weight)},
    nn.LSTM: _RECURRENT, nn.GRU: _RECURRENT, nn.RNN: _RECURRENT,
    nn.MultiheadAttention: _ATTENTION,
    nn.LSTMCell: _CELL, nn.GRUCell: _CELL, nn.RNNCell: _CELL,
}  # fmt: skip


_SLIDING = tuple(f"torch.nn.modules.{kind}" for kind in ("conv", "pooling", "fold"))


def mend_layers(model: nn.Module, known: Sizes) -> None:
    """Set the integers of every layer that the table knows, in place.

    Of a layer without its tensors only those are known that its op is told; it keeps the others.
    """
    for path, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)) and not any(True for _ in module.buffers(recurse=False)):
            told = {"normalized_shape": known.normed.get(path), "num_groups": known.groups.get(path)}
            for attribute in (word for word in settled(module) if told.get(word) is not None):
                setattr(module, attribute, told[attribute])
            continue
        divided = known.groups.get(path, getattr(module, "groups", getattr(module, "num_groups", 1)))
        for attribute, read in settled(module).items():
            setattr(module, attribute, read(module, divided))


def settled(module: nn.Module) -> Mapping[str, Read]:
    """The attributes of a layer that its tensors settle."""
    return next((LAYERS[kind] for kind in type(module).__mro__ if kind in LAYERS), {})


def geometry(module: nn.Module) -> Collection[str]:
    """The attributes of a layer that say how a window moves: they are no widths, whatever number they are."""
    slides = any(kind.__module__ in _SLIDING for kind in type(module).__mro__)
    return ("kernel_size", "stride", "padding", "dilation", "output_padding") if slides else ()
