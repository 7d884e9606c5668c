"""ResNet-50 end to end: dense in every engine, and with zeros on Pomona's kernels."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from benchmarks.cpu_runtime.cells import Setting
from benchmarks.cpu_runtime.rows import Result
from torch import Tensor, nn

from pomona.face.accelerate import accelerate
from pomona.models import load_model
from pomona.runtime.engines import engines_here, ready
from pomona.runtime.patterned import patterned
from pomona.runtime.work import work_of
from pomona.vocabulary import InputError

COMPILED = (("8x1", 80), ("8x1", 90))  # what lies between the packed layers is then fused; a minute each
SPARSE = (("8x1", 80), ("8x1", 90), ("4x1", 80), ("4x1", 90), ("weights", 90))


def network(setting: Setting, note: Callable[[str], None]) -> Iterator[tuple[Result, Callable[[], object]]]:
    """Who takes part, made ready. Compiling takes a minute."""
    model, x = resnet50(setting.batch)
    operations = 2 * work_of(model, (x,), {}).macs
    nbytes = sum(p.nbytes for p in model.parameters())
    for engine in engines_here():
        try:
            call = ready(engine, model, (x,), {})
        except InputError as error:
            note(f"{setting}: without {engine} ({error})")
            continue
        yield Result(engine, "dense", 0, "", "f32", nbytes, operations), call
    for pattern, sparsity in SPARSE:
        sparse = zeroed(model, pattern, sparsity)
        made = accelerate(sparse, (x,), threads=setting.threads, latency=False)
        note(f"{setting}: {pattern} {sparsity} %: {made.told}")
        stored = sum(t.nbytes for t in (*made.model.parameters(), *made.model.buffers()))
        # What sparse kernels multiply is not counted here, so no share of a limit is told.
        about = Result(f"accelerate {pattern} {sparsity}", "sparse", sparsity, pattern, "f32", stored, 0)
        yield about, _call(made.model, x)
        if (pattern, sparsity) in COMPILED:
            yield replace(about, name=f"{about.name} compiled"), ready("compile", made.model, (x,), {})


@torch.inference_mode(False)  # exporters refuse tensors that were made within it
def resnet50(batch: int) -> tuple[nn.Module, Tensor]:
    """Random weights and one picture, or more."""
    torch.manual_seed(0)
    model = load_model("timm:resnet50").model.eval()
    return model, torch.randn(batch, 3, 224, 224)


@torch.inference_mode(False)
def zeroed(model: nn.Module, pattern: str, sparsity: float) -> nn.Module:
    """A copy whose convolutions, but the first, have this share of zeros in this pattern."""
    made = copy.deepcopy(model)
    convolutions = [layer for layer in made.modules() if isinstance(layer, nn.Conv2d)]
    for number, layer in enumerate(convolutions[1:]):
        mask = patterned(layer.weight.shape[0], layer.weight[0].numel(), pattern, sparsity, seed=number) != 0
        layer.weight.data *= mask.reshape(layer.weight.shape)
    return made


def old_file(model: nn.Module, x: Tensor, path: Path) -> Path:
    """An ONNX file of an old operator set, by torch's older exporter."""
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x.clone(),), str(path), dynamo=False, opset_version=13)
    return path


def _call(model: nn.Module, x: Tensor) -> Callable[[], object]:
    return lambda: model(x)
