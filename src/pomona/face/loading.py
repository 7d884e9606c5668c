"""A saved folder becomes a model again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.face.choice import CHOICE, with_choice
from pomona.graph import trace
from pomona.graph.biases import Biases, biased
from pomona.graph.surgery import realise
from pomona.graph.untie import untied
from pomona.models import Source, load_model, rebuild
from pomona.runtime.packing import Checkpoint, fill, weight_files
from pomona.vocabulary import InputError, Plan, evaluating, sha256

FORMAT = 1  # of pomona.json
# What pomona.json has the checksums of; the plan has its own.
SEALED = ("model*.safetensors", "model.pt2", "example.safetensors", CHOICE)


def load(folder: str | Path, *, packed: bool = True) -> nn.Module:
    """The pruned model of a folder that `Result.save` or `pomona export --to packed` wrote, in eval mode, bit for bit.

    Rebuilt from its source (a transformers config, a timm name, a function) and the plan, or read as an exported
    program; transformers folders, packed or streamed, are opened by their config. Raises InputError on folders that are neither,
    or whose files are missing, truncated or altered.

    Layers that were accelerated are packed again where there are native kernels; elsewhere they are dense, which is faster then,
    as they are without `packed`.
    """
    folder = Path(folder)
    if _is_transformers(folder):
        return load_model(str(folder)).model
    about = _about(folder)
    if about["form"] == "program":
        return rebuild(Source("program", str(_sealed(folder, about, "model.pt2"))))
    dense = rebuild(Source.from_json(about["source"]))
    plan = Plan.load(_file(folder, "plan.safetensors"))
    dense = untied(dense, plan.provenance.get("untied", ()))
    dense = biased(dense, Biases.from_json(plan.provenance.get("biases", {})))
    model = dense
    if about["form"] == "eager":
        args, kwargs = load_example(_sealed(folder, about, "example.safetensors"))
        model = realise(dense, trace(dense, args, kwargs, release=plan.provenance.get("release")), plan).model
    weights = Checkpoint([_sealed(folder, about, path.name) for path in weight_files(folder)])
    try:
        fill(model, weights)
    except InputError as error:
        raise InputError(
            f"The weights in {folder} do not fit the model that its pomona.json describes, so its source has changed: {error}"
        ) from None
    if CHOICE not in about["sha256"] or not packed:
        return model.eval()
    args, kwargs = load_example(_sealed(folder, about, "example.safetensors"))
    return with_choice(model.eval(), _sealed(folder, about, CHOICE), args, kwargs)


@torch.no_grad()
def check_opens(folder: Path, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Open a folder just written and compare answers bit for bit; raises InputError where its source builds another model."""
    with evaluating(model):
        written, ours = (tree_leaves(m(*args, **kwargs)) for m in (load(folder), model))
    if not all(torch.equal(a, b) for a, b in zip(ours, written, strict=True) if isinstance(a, Tensor)):
        raise InputError(
            "The saved model does not answer as this one does; its source builds another architecture, so pass source=None."
        )


def load_example(path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inverse of `save_example`."""
    try:
        with safe_open(str(path), framework="pt") as file:
            layout = json.loads((file.metadata() or {}).get("layout", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not readable ({error}); it may be truncated.") from None
    if layout is None:
        raise InputError(f"{path} does not hold example inputs.")
    return tuple(_lower(a, tensors) for a in layout["args"]), {k: _lower(v, tensors) for k, v in layout["kwargs"].items()}


def _lower(entry: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if "tensor" in entry:
        return tensors[entry["tensor"]]
    if "list" in entry:
        return tuple(_lower(e, tensors) for e in entry["list"])
    if "dict" in entry:
        return {k: _lower(e, tensors) for k, e in entry["dict"].items()}
    return entry["value"]


def _is_transformers(folder: Path) -> bool:
    """Whether a folder has only a config to go by; with a plan it is one of ours that lost its description."""
    return (folder / "config.json").is_file() and not any(
        (folder / name).is_file() for name in ("pomona.json", "plan.safetensors")
    )


def _about(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    try:
        about: dict[str, Any] = json.loads(_file(folder, "pomona.json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{folder / 'pomona.json'} is damaged; it is no longer JSON.") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT or not {"form", "source", "sha256"} <= about.keys():
        raise InputError(f"{folder / 'pomona.json'} is not of a form that this Pomona reads (format {FORMAT}).")
    return about


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise InputError(f"{folder} has no {name}; it is not a folder that Pomona saved, or it is incomplete.")
    return folder / name


def _sealed(folder: Path, about: Mapping[str, Any], name: str) -> Path:
    """A file that is byte for byte as it was written."""
    path = _file(folder, name)
    if about["sha256"].get(name) != sha256(path):
        raise InputError(f"{path} is not what Pomona wrote: its checksum does not match; it may be truncated or altered.")
    return path
