"""A result as a folder: weights, plan, report and what it takes to build the model again. Whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona import __version__, report
from pomona.face.accelerated import Accelerated
from pomona.face.choice import save_choice
from pomona.face.configured import takes
from pomona.face.folders import check_outside, whole_folder
from pomona.face.loading import FORMAT, check_opens
from pomona.face.origin import origin
from pomona.face.packing import masks_of, rewrite_weights, sealed
from pomona.models import Source, copy_tokenizer
from pomona.runtime import export_program
from pomona.runtime.packing import stored
from pomona.vocabulary import InputError

if TYPE_CHECKING:
    from pomona.face.result import Result


def save_result(
    result: Result,
    folder: Path,
    *,
    shown: Path | None = None,
    packed: bool = False,
    largest: int | None = None,
    fast: Accelerated | None = None,
) -> Path:
    """Write the folder and check that it opens; raises InputError where it exists already or cannot be written.

    `shown` is the path that the report tells, where the folder is still to be moved. With `packed`, sparse weights are stored
    packed; `largest` is how many bytes a file of weights may have (None: one file). What `fast` packed for sparse kernels is told
    in a file beside the weights, which stay what they are: layers are packed anew when they are loaded. An exported program
    holds the packed layers themselves.
    """
    shown = shown or folder
    source = result.source or origin(result.dense)
    program = source is None or source.kind == "program" or result.form == "graph"
    if program and packed:
        raise InputError("This model is saved as an exported program, whose weights cannot be packed; save it with packed=False.")
    if source is not None and source.kind == "transformers":
        check_outside(folder, source.value or "")
    plain = False
    with whole_folder(folder) as partial:
        if program or source is None:
            export_program(result.model if fast is None else fast.model, result.args, dict(result.kwargs), partial / "model.pt2")
        else:
            save_file(stored(result.model), partial / "model.safetensors", metadata={"format": "pt"})
            plain = write_config(result.model, result.args, result.kwargs, partial)
            copy_tokenizer(source, partial)
            if packed or largest is not None:
                rewrite_weights(partial, partial, masks_of(result.plan), packed=packed, largest=largest)
        save_example(result.args, result.kwargs, partial / "example.safetensors")
        result.plan.save(partial / "plan.safetensors")
        notes = [*result.report["notes"], *([] if plain or source is None else _only_ours(source, program, shown))]
        told = {**result.report, "notes": notes, "plan": str(shown / "plan.safetensors"), "out": str(shown)}
        report.write(told, partial)
        if fast is not None and fast.packed and not program:
            save_choice(fast.packed, fast.fused > 0, partial)
        about = {
            "format": FORMAT,
            "pomona": __version__,
            "torch": torch.__version__,
            "form": "program" if program else result.form,
            "source": None if program or source is None else source.to_json(),
            "sha256": sealed(partial),
        }
        (partial / "pomona.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if not program:  # programs were checked as they were exported
            check_opens(partial, result.model if fast is None else fast.model, result.args, result.kwargs)
    return folder


def notes_of(folder: Path) -> list[str]:
    """What the report in a folder of ours notes: what the run did, and how the folder is opened where that is not plain."""
    found: list[str] = json.loads((folder / "report.json").read_text(encoding="utf-8"))["notes"]
    return found


def _only_ours(source: Source, program: bool, folder: Path) -> list[str]:
    """How a transformers model is opened that plain `from_pretrained` does not open, and why it does not."""
    if source.kind != "transformers":
        return []
    why = "it is an exported program" if program else "no config.json can say the sizes that its layers have now, or their biases"
    return [f"Plain from_pretrained does not open this result, since {why}: use pomona.load('{folder}')."]


def write_config(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], folder: Path) -> bool:
    """The files that plain `from_pretrained` reads, and True, where a transformers model is what its config says."""
    if not is_uniform(model, args, kwargs):
        return False
    config: Any = deepcopy(model.config)
    config.architectures = [type(model).__name__]  # as transformers' own save says: other readers choose the class by it
    config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(folder)  # type: ignore[union-attr, operator]
    return True


@torch.no_grad()
def is_uniform(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a transformers model, built from its own config and given its weights, answers as it does.

    Equal shapes are not enough: a config may imply another attention scale or other rotary frequencies.
    """
    config: Any = getattr(model, "config", None)
    if not type(model).__module__.startswith("transformers.") or not hasattr(config, "save_pretrained"):
        return False
    if hasattr(config, "validate") and not takes(config):
        return False
    try:
        with torch.random.fork_rng(devices=[]):
            built = type(model)(config).eval()  # type: ignore[call-arg]
        built.load_state_dict(model.state_dict())
        ours, theirs = (tree_leaves(m(*args, **kwargs)) for m in (model, built))
    # A config that no uniform model has is refused by the class's own checks, in words of its own, or does not fit the weights.
    except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError):
        return False
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, Tensor))


def save_example(args: tuple[Any, ...], kwargs: Mapping[str, Any], path: Path) -> None:
    """Example inputs as one safetensors file: tensors by place, everything else as JSON in its header."""
    tensors: dict[str, Tensor] = {}
    layout = json.dumps(
        {
            "args": [_lift(a, f"args/{n}", tensors) for n, a in enumerate(args)],
            "kwargs": {k: _lift(v, f"kwargs/{k}", tensors) for k, v in kwargs.items()},
        }
    )
    save_file(tensors, str(path), metadata={"layout": layout})


def _lift(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[place] = value.detach().contiguous().clone()
        return {"tensor": place}
    if isinstance(value, (tuple, list)):
        return {"list": [_lift(v, f"{place}/{n}", tensors) for n, v in enumerate(value)]}
    if isinstance(value, Mapping):
        return {"dict": {k: _lift(v, f"{place}/{k}", tensors) for k, v in value.items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise InputError(
        f"The example input {place} is a {type(value).__name__}, which cannot be saved; use tensors and plain values."
    )
