"""transformers opens packed folders by itself: `from_pretrained` unpacks each weight as it comes by.

transformers sees a packed weight as its ticket, which goes through the model's own renaming and merging of tensors (experts,
say) like any other tensor, and is changed for the dense weight first of all. So no architecture is known here, and memory is
that of the dense model and one weight. This module imports transformers, and is imported by nobody but `pomona.on_import`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from pomona.runtime.packing.checkpoint import FORMAT, METHOD, PARTS, Checkpoint
from pomona.vocabulary import InputError


class Swap(ConversionOps):  # type: ignore[misc]
    """Changes tickets for weights, of the type that the parameter has, on the device that the ticket was sent to."""

    def __init__(self, checkpoint: Checkpoint, names: Mapping[int, str]) -> None:
        self.checkpoint, self.names = checkpoint, names
        self.dtype: torch.dtype | None = None

    def convert(self, input_dict: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        """Every ticket among lists of tensors, or single ones."""
        return {k: [self._dense(t) for t in v] if isinstance(v, list) else self._dense(v) for k, v in input_dict.items()}

    def _dense(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.int64 or tensor.dim() != 1:
            return tensor
        return self.checkpoint.tensor(self.names[int(tensor[0])]).to(dtype=self.dtype, device=tensor.device)

    def __deepcopy__(self, _: Any) -> Swap:
        return Swap(self.checkpoint, self.names)  # transformers copies conversions for every parameter; files are opened once


@register_quantization_config(METHOD)
class PomonaConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """What `quantization_config` of a packed folder says: the format of its packed weights."""

    def __init__(self, format: int = FORMAT, **_: Any) -> None:
        if format != FORMAT:
            raise InputError(f"This folder has packed weights of format {format}; this Pomona reads {FORMAT}.")
        self.quant_method: Any = METHOD  # theirs is a list of the methods that they know
        self.format = format
        self.dequantize = True  # what is loaded is a plain dense model, which can be trained and saved


@register_quantizer(METHOD)
class PomonaQuantizer(HfQuantizer):  # type: ignore[misc]
    """Loads a packed folder as the dense model that it is."""

    checkpoint: Checkpoint

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Any = None, **_: Any) -> None:
        self.checkpoint = Checkpoint([Path(file) for file in checkpoint_files or ()])
        if not self.checkpoint.packed:
            raise InputError("The config of this folder promises packed weights and there are no packed weights in its files.")
        for name in self.checkpoint.packed:  # before anything is loaded: transformers answers what fails later with a traceback
            self.checkpoint.parts(name)
        ignored = {rf"_{part}$" for part in PARTS}
        model._keys_to_ignore_on_load_unexpected = set(model._keys_to_ignore_on_load_unexpected or ()) | ignored

    def update_weight_conversions(self, weight_conversions: list[Any], model: Any = None) -> list[Any]:
        """The model's conversions with tickets changed for weights before each; and the same for tensors that have none."""
        swap = Swap(self.checkpoint, {self.checkpoint.number(name): name for name in self.checkpoint.packed})
        for conversion in weight_conversions:
            if isinstance(conversion, WeightConverter):
                conversion.operations = [swap, *conversion.operations]
        last = dict.fromkeys(name.rpartition(".")[2] for name in self.checkpoint.packed)
        return [*weight_conversions, *(WeightConverter(name, name, [swap]) for name in last)]

    def get_new_dtype(self, converter: Any, param: Any, dtype: torch.dtype | None) -> torch.dtype | None:
        """What transformers wants a tensor to be; tickets stay whole numbers and remember it for their weight."""
        for operation in getattr(converter, "operations", ()):
            if isinstance(operation, Swap):
                operation.dtype = dtype
        wanted: torch.dtype | None = super().get_new_dtype(converter, param, dtype)
        return wanted

    def is_serializable(self) -> bool:
        """It is a dense model by then."""
        return True

    @property
    def is_trainable(self) -> bool:
        """It is a dense model by then."""
        return True
