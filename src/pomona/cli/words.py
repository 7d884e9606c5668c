"""The text of options turned into the objects that the face takes; everything here refuses before work starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.cli.refusal import Interrupted, one_of, refused

if TYPE_CHECKING:
    from pomona.data import Data
    from pomona.evaluate import Tasks
    from pomona.face.opening import Opened
    from pomona.runtime.timing import Clocks
    from pomona.vocabulary import Limits, Loss, Progress


def open_model(text: str, shape: str | None, progress: Progress, *, packed: bool = True) -> Opened:
    """The model that MODEL names, and the inputs that `--input` or its source gives; dense unless `packed`."""
    from pomona.face import opening

    return opening.open_model(text, shape, progress, packed=packed)


def skeleton(text: str) -> Opened:
    """What is known of a transformers folder without its weights."""
    from pomona.face import opening

    return opening.skeleton(text)


def open_data(text: str, opened: Opened, progress: Progress, seed: int = 0, length: int = 128) -> Data:
    """The data that `--data` names, as the model takes them; text in windows of `length` tokens."""
    from pomona.face import opening

    return opening.open_data(text, opened, progress, seed, length)


def calibration(
    text: str, opened: Opened, progress: Progress, seed: int, length: int | None, drawn: int | None = None
) -> tuple[Data, int]:
    """The data to prune on, and the windows it came in."""
    from pomona.face import opening

    return opening.calibration(text, opened, progress, seed, length, drawn)


def tasks(text: str | None, opened: Opened, include: Path | None, limit: int | None, shots: int | None) -> Tasks | None:
    """The tasks that `--tasks` names, known to the harness, with the model's tokenizer."""
    from pomona.evaluate import Tasks

    if text is None:
        stray = {"--include-path": include, "--limit": limit, "--shots": shots}
        if asked := [option for option, value in stray.items() if value is not None]:
            raise refused(f"{asked[0]} says how tasks are asked; name some with --tasks.")
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    made = Tasks(names, opened.tokenizer, include, limit, shots)
    made.check()
    return made


def drawn(sample: str, calibrate: int) -> int | None:
    """How many batches of text `--sample` draws at random; None where text is read from one end to the other."""
    return calibrate if one_of(sample, ("windows", "random"), "a way to sample text") == "random" else None


def apart(learn: Data, held_out: Data) -> None:
    """Refuse to measure on text that was calibrated on."""
    from pomona.data.overlap import check_apart

    check_apart(learn, held_out)


def streamed(out: Path | None, unfit: Mapping[str, Any]) -> Path:
    """The output folder of a streamed run, which cannot go without one, nor with what needs the whole model."""
    asked = [option for option, given in unfit.items() if given]
    if asked:
        raise refused(f"{asked[0]} needs the whole model in memory; leave it or --max-memory out.")
    if out is None:
        raise refused("A run with --max-memory writes its result as it goes; say where with --out.")
    return out


def target(name: str | None, values: str) -> None:
    """Refuse a target or a kind of values that is not there, values without a target, and a GPU that cannot."""
    exact = one_of(values, ("f32", "bf16", "int8"), "a kind of values") == "f32"
    if name is None:
        if not exact:
            raise refused("--values says how sparse kernels store weights; ask for them with --target cpu-sparse.")
        return
    if one_of(name, ("cpu-sparse", "gpu-2:4", "gpu-sparse"), "a target") == "cpu-sparse":
        return
    from pomona.runtime.gpu.device import gpu_for

    if values == "int8":
        raise refused("On a GPU, weights are not rounded to int8; take --values bf16.")
    gpu_for(name)


def loss(text: str | None) -> Loss | None:
    """A loss by name, or the user's own `module:function` of (output, target)."""
    from torch.nn import functional

    from pomona.entrypoint import is_entrypoint, resolve

    if text is None:
        return None
    if is_entrypoint(text):
        return resolve(text)
    losses: dict[str, Loss] = {"cross-entropy": functional.cross_entropy, "mse": functional.mse_loss}
    chosen = losses[one_of(text, losses, "a loss or module:function")]
    return lambda output, target: chosen(getattr(output, "logits", output), target)


def limits(minimum: Sequence[str], maximum: Sequence[str], multiple: int) -> Limits:
    """Shares of the units that must or may stay, as `PATTERN=SHARE`, and the number that counts are rounded to."""
    from pomona.vocabulary import Limits

    return Limits(dict(_share(text, "--min") for text in minimum), dict(_share(text, "--max") for text in maximum), multiple)


def _share(text: str, option: str) -> tuple[str, float]:
    pattern, _, number = text.rpartition("=")
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise refused(f"{option} {text} is not a share from 0 to 1; write {option} 0.1 or {option} 'layer1.*=0.25'.")
    return pattern or "*", share


def clock(text: str) -> Clocks:
    """What seconds are."""
    return "cpu" if one_of(text, ("wall", "cpu"), "a clock") == "cpu" else "wall"


def engines(names: Sequence[str]) -> list[str]:
    """The engines beside torch's eager mode that `--engine` names; all that are installed for "all"."""
    from pomona.runtime.engines import ENGINES, engines_here

    if "all" in names:
        return [engine for engine in engines_here() if engine != "eager"]
    return [one_of(name, (*ENGINES[1:], "all"), "an engine") for name in dict.fromkeys(names)]


def deployed(names: Sequence[str]) -> str | list[str]:
    """The engines of a table of them: those that `--engine` names, or "all"."""
    from pomona.face.bench import ALL

    if not names or "all" in names:
        return "all"
    return [one_of(name, (*ALL, "all"), "an engine") for name in names]


def size(text: str, option: str) -> int:
    """Bytes from a number with a unit: 500MB, 2GB, 1.5GiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise refused(f"{option} {text} is not a size; write {option} 500MB or {option} 2GB.")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " "))


def given(**settings: Any) -> dict[str, Any]:
    """The settings that the user gave; the face's own defaults stand for the others."""
    return {name: value for name, value in settings.items() if value is not None}


def free(path: Path) -> Path:
    """The path itself, or the first of path-2, path-3, ... that does not exist."""
    names = chain([path], (path.with_name(f"{path.name}-{number}") for number in count(2)))
    return next(name for name in names if not name.exists())


@contextmanager
def new(path: Path | None, checkpoint: Path | None = None) -> Iterator[None]:
    """Refuse a place that exists or cannot be written before the work that fills it; on Ctrl-C say what is there."""
    if path is not None:
        from pomona.face.folders import check_free

        check_free(path)
    try:
        yield
    except KeyboardInterrupt:
        state = "nothing was written" if path is None else f"{path} is complete" if path.exists() else f"{path} was not written"
        onward = f"; the same command goes on from {checkpoint}" if checkpoint is not None and checkpoint.exists() else ""
        raise Interrupted(f"Interrupted; {state}{onward}.") from None
