"""What users name, opened: a model with its inputs and its tokenizer, and data as that model takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pomona.data import Data, load_data
from pomona.data.overlap import check_apart
from pomona.data.pairs import Pairs, paired
from pomona.data.text import TooShort
from pomona.face.loading import load, load_example
from pomona.models import Loaded, Source, example_inputs, load_model
from pomona.models.decoder import decoder_inputs
from pomona.models.hub import tokenizer
from pomona.models.pretrained import smollm2_folder
from pomona.models.skeleton import skeleton as empty
from pomona.vocabulary import InputError, Progress

_WINDOW, _SHORTEST = 2048, 32  # tokens


@dataclass(frozen=True, eq=False)
class Opened:
    """A model with the arguments of one forward pass; `loaded` says where it came from (None: a folder of ours).

    `tokenizer` is what came with it, or lies in the folder.
    """

    model: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    loaded: Loaded | None
    tokenizer: Any = None

    @property
    def source(self) -> Source | None:
        """Where it came from, so that it can be built again."""
        return self.loaded.source if self.loaded else None


def open_model(text: str, shape: str | None, progress: Progress, *, inputs: bool = True, packed: bool = True) -> Opened:
    """The model that MODEL names, and the inputs that `shape` (as `--input`) or its source gives; none without `inputs`.

    Layers that were accelerated are dense unless `packed`.
    """
    if (Path(text) / "pomona.json").is_file():
        return _open_ours(Path(text), shape, packed)
    loaded = load_model(text)
    for note in loaded.notes:
        progress.note(note)
    args, kwargs = example_inputs(loaded.model, loaded, shape) if inputs else ((), {})
    return Opened(loaded.model, args, kwargs, loaded, loaded.tokenizer)


def skeleton(text: str) -> Opened:
    """What is known of a transformers folder without its weights: an empty model with its config, and the tokenizer."""
    folder = smollm2_folder() if text == "smollm2" else Path(text)
    if not (folder / "config.json").is_file():
        raise InputError(f"--max-memory streams the weights of a transformers folder, and {text} is none; leave it out.")
    model, _ = empty(folder)
    loaded = Loaded(model, Source("transformers", str(folder)), tokenizer=tokenizer(str(folder)))
    return Opened(model, (), {}, loaded, loaded.tokenizer)


def _open_ours(folder: Path, shape: str | None, packed: bool) -> Opened:
    model = load(folder, packed=packed)
    args, kwargs = example_inputs(model, None, shape) if shape else load_example(folder / "example.safetensors")
    return Opened(model, args, kwargs, None, tokenizer(str(folder)))


def open_data(text: str, opened: Opened, progress: Progress, seed: int = 0, length: int = 128, drawn: int | None = None) -> Data:
    """The data that DATA names, as the model takes them; text in windows of `length` tokens, long ones some 4096 at once.

    Of a window, an encoder-decoder reads the first half and writes the second.

    `drawn` is how many batches of windows are drawn at random from text (None: text is cut from one end to the other).
    """
    pixels = opened.loaded.pixels if opened.loaded else None
    if opened.tokenizer is not None:
        _check_reach(opened.model, length)
    # 64 batches are then 128 windows of 2048, as in the papers.
    batch = max(1, 4096 // length) if opened.tokenizer is not None and length > 512 else None
    draws = None if drawn is None else drawn * (batch or 8)
    data = load_data(text, tokenizer=opened.tokenizer, pixels=pixels, seed=seed, length=length, batch=batch, draws=draws)
    for note in data.notes:
        progress.note(note)
    later = decoder_inputs(opened.model)
    return data if later is None else paired(data, later)


def _check_reach(model: Any, length: int) -> None:
    """Raises InputError for windows longer than a table of positions; rotary positions have none."""
    reach = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if not isinstance(reach, int) or length <= reach:
        return
    words = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not words]
    if any(reach <= table.num_embeddings <= reach + 2 for table in tables):  # OPT's begins two later
        raise InputError(
            f"{type(model).__name__} knows {reach} positions, so windows of {length} tokens are too long (--length)."
        )


def calibration(
    text: str, opened: Opened, progress: Progress, seed: int = 0, length: int | None = None, drawn: int | None = None
) -> tuple[Data, int]:
    """The data to prune on, and the windows it came in: `length` tokens, or 2048 at the most where none was asked for.

    Never the most that the model could read, which may be a hundred times as much memory; a text that fills no two windows of
    2048 is cut into windows half as long, and so on.
    """
    if length is not None:
        return open_data(text, opened, progress, seed, length, drawn), length
    reach = getattr(getattr(opened.model, "config", None), "max_position_embeddings", None) or _WINDOW
    length = min(_WINDOW, reach)
    while True:
        try:
            found = open_data(text, opened, progress, seed, length, drawn)
        except TooShort:
            if length <= _SHORTEST:
                raise
            length = max(_SHORTEST, length // 2)
            continue
        return found, length


@dataclass(frozen=True, eq=False)
class Brought:
    """What a caller passed, with names opened."""

    model: Any
    args: Any
    kwargs: Mapping[str, Any] | None
    data: Any
    test: Any
    source: Source | None


def brought(
    model: Any,
    args: Any,
    kwargs: Mapping[str, Any] | None,
    data: Any,
    test: Any,
    source: Source | None,
    seed: int,
    progress: Progress,
    overlap: bool = False,
) -> Brought:
    """Names of models and data become what they name; everything else stays as it is. Inputs that are given win.

    Data by name need a model by name, whose tokenizer reads them. Raises InputError where test and data that are named share
    passages, unless `overlap` allows it.
    """
    if not isinstance(model, (str, Path)):
        if isinstance(data, (str, Path)) or isinstance(test, (str, Path)):
            raise InputError("Data are named where the model is named as well; pass batches, or the model's name or folder.")
        return Brought(model, args, kwargs, taken(data, model), taken(test, model), source)
    bare = args is None and kwargs is None
    opened = open_model(str(model), None, progress, inputs=bare)
    window = 128
    if isinstance(data, (str, Path)):
        data, window = calibration(str(data), opened, progress, seed)
    if isinstance(test, (str, Path)):
        test = open_data(str(test), opened, progress, seed, window)
        if isinstance(data, Data) and not overlap:
            check_apart(data, test)
    if bare:
        args, kwargs = opened.args, opened.kwargs
    return Brought(opened.model, args, kwargs, taken(data, opened.model), taken(test, opened.model), source or opened.source)


def taken(data: Any, model: Any) -> Any:
    """The caller's own batches with what the decoder reads, for a model that has one."""
    later = decoder_inputs(model) if isinstance(model, nn.Module) else None
    if later is None or isinstance(data, (Tensor, Data)) or not isinstance(data, Iterable):
        return data
    return Pairs(list(data) if isinstance(data, Iterator) else data, later)
