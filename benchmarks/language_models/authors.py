"""The authors' own code, run on the same model, windows and measure: `locuslab/wanda` and `IST-DASLab/sparsegpt`.

Nothing of it is here: it is imported from clones, and what 2023 took for granted is put in its place around it, without a change
to what is computed. Both loops want their data by a function or a list (they get our windows), a CUDA device to wait for (where
there is none, waiting is nothing), `hf_device_map` and `seqlen` on the model, and layers that work out rotary embeddings by
themselves (those of newer versions of transformers are given them: a hook adds what the model itself gave its first layer).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from pomona.vocabulary import InputError

GET = (
    "git clone https://github.com/locuslab/wanda FOLDER/wanda"
    " && git clone https://github.com/IST-DASLab/sparsegpt FOLDER/sparsegpt"
)

# Of their command lines.
_WANDA = {"use_variant": False}
_SPARSEGPT = {"true_sequential": False, "minlayer": -1, "maxlayer": 1000, "prune_only": "", "invert": False, "wbits": 16}
_DEFAULTS = {**_WANDA, **_SPARSEGPT, "percdamp": 0.01, "blocksize": 128}


def prune(model: nn.Module, method: str, folder: Path, calibration: Tensor, share: float, pattern: tuple[int, int]) -> None:
    """Prune a Llama-like model in place by "authors-wanda" or "authors-sparsegpt"; `calibration` is int64 (windows, length).

    `share` of the weights goes, or, where `pattern` is not (0, 0), as many as its first number of every so many as its second:
    their n counts those that go. Raises InputError where the clone is not there.
    """
    drawn = {"nsamples": len(calibration), "seed": 0}  # the seed is that of their loader, which ours stands in for
    given = SimpleNamespace(**_DEFAULTS, **drawn, sparsity_ratio=share, sparsity=share, prunen=pattern[0], prunem=pattern[1])
    loader, device = [(row[None], None) for row in calibration], torch.device("cpu")
    with _as_in_2023(model, calibration), redirect_stdout(StringIO()):
        if method == "authors-wanda":
            code = _imported(folder / "wanda", "lib.prune")
            with patch.object(code, "get_loaders", lambda *_, **__: (loader, None)):
                code.prune_wanda(given, model, None, device, prune_n=pattern[0], prune_m=pattern[1])
        else:
            code = _imported(folder / "sparsegpt", "llama")
            with patch.object(code, "args", given, create=True):  # their loop reads the command line's
                code.llama_sequential(model, loader, device)


@contextmanager
def _as_in_2023(model: Any, calibration: Tensor) -> Iterator[None]:
    model.seqlen, model.hf_device_map = calibration.shape[1], {}
    rotary = _rotary(model, calibration[:1])

    def add(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {"position_embeddings": rotary, **kwargs}

    hooks = [layer.register_forward_pre_hook(add, with_kwargs=True) for layer in model.model.layers]
    try:
        if torch.cuda.is_available():
            yield
        else:
            with patch.object(torch.cuda, "synchronize", lambda *_: None):
                yield
    finally:
        for hook in hooks:
            hook.remove()
        del model.seqlen, model.hf_device_map


@torch.no_grad()
def _rotary(model: Any, ids: Tensor) -> Any:
    """What the model gives its layers as `position_embeddings`; the same for all windows of one length."""
    seen: list[Any] = []
    hook = model.model.layers[0].register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["position_embeddings"]), with_kwargs=True
    )
    model(ids)
    hook.remove()
    return seen[0]


def _imported(clone: Path, name: str) -> ModuleType:
    if not (clone / f"{name.replace('.', '/')}.py").is_file():
        raise InputError(f"The authors' code is not in {clone}; get it with: {GET}")
    # Their loaders of data import a library that our windows make needless.
    stub: Any = ModuleType("datasets")
    stub.load_dataset = None
    known = sys.modules.setdefault("datasets", stub)
    try:
        with patch.object(sys, "path", [str(clone), *sys.path]):
            return importlib.import_module(name)
    finally:
        if known is stub:
            del sys.modules["datasets"]
