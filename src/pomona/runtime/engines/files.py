"""The files that engines read a model from, each written once."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from pomona.graph.export import export
from pomona.runtime.export import quiet
from pomona.runtime.onnx import write
from pomona.runtime.packing import first_names, stored


class Files:
    """A model in evaluation mode with example inputs, and an empty folder; a file appears when it is asked for."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], folder: Path) -> None:
        self.model, self.args, self.kwargs, self.folder = model, args, dict(kwargs), folder

    @property
    def tensors(self) -> list[Tensor]:
        """The example inputs that are tensors, in order."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]

    @cached_property
    def weights(self) -> Path:
        """The model's parameters and buffers as safetensors, each under the first of its names."""
        path = self.folder / "model.safetensors"
        save_file(stored(self.model), path)
        return path

    @cached_property
    def program(self) -> ExportedProgram:
        """The forward pass as torch.export gives it, for inputs of these shapes."""
        with quiet(), torch.inference_mode(False), torch.no_grad():
            return export(self.model, self.args, self.kwargs)

    @cached_property
    def onnx(self) -> Path:
        """That program as ONNX."""
        path = self.folder / "model.onnx"
        with quiet(), torch.inference_mode(False), torch.no_grad():
            write(self.program, self.model, path)
        return path

    def again(self) -> nn.Module:
        """A copy of the model with all that the file of weights holds, and nothing else."""
        copy = deepcopy(self.model)
        with torch.no_grad():
            for tensor in copy.state_dict().values():
                tensor.zero_()  # what the file does not bring is then wrong, and seen
        found = load_file(self.weights)
        copy.load_state_dict({name: found[first] for name, first in first_names(copy).items()})
        return copy
