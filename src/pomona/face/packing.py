"""A saved folder with its weights written anew: packed, plain again, in another type or in smaller files; all else is kept."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pomona.face.folders import whole_folder
from pomona.face.loading import SEALED
from pomona.face.streamed import PLANS
from pomona.runtime.packing import FORMAT, INDEX, METHOD, Checkpoint, rewrite, weight_files
from pomona.vocabulary import InputError, Plan, Progress, sha256

LARGEST = 10**9  # bytes in a file of weights, which is what writing holds in memory
_PROGRAM = "model.pt2"


def export_folder(
    source: Path,
    folder: Path,
    *,
    packed: bool,
    dtype: torch.dtype | None = None,
    largest: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A new folder with all that `source` (a Pomona or transformers folder) holds, and its weights packed, or plain again.

    What a plan in the folder keeps lives, zeros among it; where there is no plan, what is not zero. Plans go along without what
    solvers made of the weights, which the weights themselves are. `dtype` is that of the weights and `largest` the bytes of a
    file (None: as stored, and 1 GB). Returns what `rewrite` does. Raises InputError where the folder has no safetensors
    weights, or nothing in it is smaller when packed; then nothing is written.
    """
    if (source / _PROGRAM).is_file():
        raise InputError(f"{source} holds an exported program, whose weights cannot be rewritten; export the model itself.")
    old = {path.name for path in weight_files(source)} | {INDEX}
    plans = [path for path in (source / "plan.safetensors", *sorted((source / PLANS).glob("*.safetensors"))) if path.is_file()]
    with whole_folder(folder) as target:
        for path in source.iterdir():
            if path.is_file() and path.name not in old and path not in plans:
                shutil.copy2(path, target / path.name)
        for path in plans:
            (target / path.relative_to(source)).parent.mkdir(exist_ok=True)
            Plan.load(path).unsolved().save(target / path.relative_to(source))
        masks = Masks.of(plans) if packed else {}
        found = rewrite_weights(source, target, masks, packed=packed, dtype=dtype, largest=largest, progress=progress)
        if packed and not found["weights"]:
            raise InputError(
                f"No weight in {source} is sparse enough to be smaller packed; prune it, or export it to safetensors."
            )
        if (target / "pomona.json").is_file():
            about = {**json.loads((target / "pomona.json").read_text(encoding="utf-8")), "sha256": sealed(target)}
            (target / "pomona.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return found


def rewrite_weights(
    source: Path,
    target: Path,
    masks: Mapping[str, Tensor],
    *,
    packed: bool,
    dtype: torch.dtype | None = None,
    largest: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The weights of one folder into another, or into the same; its config then says what they are. See `rewrite`."""
    with tempfile.TemporaryDirectory(dir=target, prefix=".weights.") as new:
        checkpoint = Checkpoint.of(source)
        found = rewrite(
            checkpoint, Path(new), packed=packed, dtype=dtype, largest=largest or LARGEST, masks=masks, progress=progress
        )
        del checkpoint
        if source == target:
            for path in [*weight_files(source), source / INDEX]:
                path.unlink(missing_ok=True)
        for path in Path(new).iterdir():
            path.replace(target / path.name)
    if (target / "config.json").is_file():
        declare_packed(target / "config.json", bool(found["weights"]), dtype)
    return found


class Masks(Mapping[str, Tensor]):
    """The masks of plans in files, of which one at a time is in memory."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self.places = places
        self._path: Path | None = None
        self._held: Mapping[str, Tensor] = {}

    @classmethod
    def of(cls, plans: Sequence[Path]) -> Masks:
        """Raises InputError where a plan is damaged."""
        return cls({name: path for path in plans for name in masks_of(Plan.load(path))})

    def __getitem__(self, name: str) -> Tensor:
        if self._path != self.places[name]:
            self._path, self._held = self.places[name], masks_of(Plan.load(self.places[name]))
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def masks_of(plan: Plan) -> dict[str, Tensor]:
    """Which elements of which weights a plan keeps, where it decides about single elements."""
    sites = [(name, site) for name, site in plan.sites.items() if site.kind == "element"]
    return {site.members[0].tensor: plan.keep(name) for name, site in sites if site.shape == site.members[0].shape}


def sealed(folder: Path) -> dict[str, str]:
    """The checksums of the files that must be as they were written."""
    return {path.name: sha256(path) for pattern in SEALED for path in sorted(folder.glob(pattern))}


def declare_packed(path: Path, packed: bool, dtype: torch.dtype | None) -> None:
    """Say in a config that weights are packed, so that transformers asks for Pomona, or no longer; and their type."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("quantization_config", None)
    if packed:
        config["quantization_config"] = {"quant_method": METHOD, "format": FORMAT}
    declare_type(config, dtype)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def declare_type(config: dict[str, Any], dtype: torch.dtype | None) -> None:
    """Say in a config that the weights are of this type (None: of the one that it says)."""
    if dtype is not None:
        name = str(dtype).removeprefix("torch.")
        _retype(config, name)
        if "torch_dtype" not in config:
            config["dtype"] = name


def _retype(config: dict[str, Any], name: str) -> None:
    """The type of the weights, under the names that old and new versions of transformers read, parts of a model included."""
    config.update({field: name for field in ("dtype", "torch_dtype") if field in config})
    for part in config.values():
        if isinstance(part, dict):
            _retype(part, name)
