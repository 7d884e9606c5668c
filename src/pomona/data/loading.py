"""What users call DATA, loaded: this file sends a text to the loader that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pomona.data import documents, fashion, shipped, tokens
from pomona.data.arrays import load_arrays
from pomona.data.checks import check_batch
from pomona.data.choices import are_choices, load_choices
from pomona.data.data import Data
from pomona.data.pictures import ENDINGS, load_folder
from pomona.data.text import load_text
from pomona.entrypoint import call, is_entrypoint
from pomona.vocabulary import Batch, InputError

NAMES = ("fashion-mnist", "digits", "foolbox-imagenet", "lee", "wordsim353", "lee-text")
FORMS = (
    "an image folder, a .npz or .pt file with x and y, text (.txt, .md, .jsonl, .parquet, .arrow or a folder of them), "
    f"tokens (.npy or .safetensors), module:function, or one of {', '.join(NAMES)}"
)


def load_data(
    text: str,
    *,
    tokenizer: Any = None,
    pixels: Mapping[str, Any] | None = None,
    batch: int | None = None,
    length: int = 128,
    seed: int = 0,
    draws: int | None = None,
) -> Data:
    """The data that DATA names.

    DATA is a folder of class folders of pictures, `.npz` or `.pt` arrays x and y, text (`documents.SUFFIXES`, alone or in a
    folder; a `.jsonl` with `choices` is questions), tokens in `.npy` or `.safetensors`, `module:function` returning batches
    or a dict with `train` and `test`, or a built-in name. `tokenizer` and `pixels` come from the model; `batch` is the batch
    size (None: one that suits the kind), `length` the tokens of a text window. Text is cut into windows, shuffled by `seed`; with
    `draws`, so many windows are drawn instead as SparseGPT draws them: a document at random, and a place in it at random. Raises
    InputError when DATA is nothing of these, is empty, or holds NaN, and for draws from what is no text.
    """
    if draws is not None:
        _check_draws(text, draws)
    if batch is not None and batch < 1:
        raise InputError(f"A batch holds at least one example; got --batch {batch}.")
    if text in NAMES:
        return _built_in(text, tokenizer, pixels, batch, length, seed, draws)
    path = Path(text)
    if path.is_dir() and not _is_text(path):
        return load_folder(path, pixels, batch or 32, seed)
    if path.suffix == ".jsonl" and path.is_file() and are_choices(path):
        return load_choices(path, tokenizer, batch or 8)
    if path.is_dir() or (path.is_file() and path.suffix in documents.SUFFIXES):
        return load_text(path, tokenizer, length, batch or 8, seed, draws)
    if path.is_file():
        if path.suffix in (".npz", ".pt"):
            return load_arrays(path, batch or 64, seed)
        if path.suffix in tokens.SUFFIXES:
            return tokens.load_tokens(path, length, batch or 8, seed, draws)
        raise InputError(f"{text} is a '{path.suffix}' file; data is {FORMS}.")
    if is_entrypoint(text):
        return from_object(call(text), text)
    close = get_close_matches(text, NAMES, 1)
    hint = f"did you mean '{close[0]}'? Data" if close else "data"
    raise InputError(f"There is no data '{text}'; {hint} is {FORMS}.")


def from_object(made: Any, name: str) -> Data:
    """Data from what a function returned or a caller holds: Data itself, a dict with train (and test), or batches.

    A generator is read into memory, since it can be read only once. The metric is guessed from the first batch's target:
    whole numbers are classes.
    """
    if isinstance(made, Data):
        return made
    if isinstance(made, Mapping) and "train" in made:
        unknown = sorted(set(made) - {"train", "test", "metric", "classes"})
        if unknown:
            raise InputError(
                f"{name} returned a dict with the unknown key '{unknown[0]}'; it may have train, test, metric and classes."
            )
        train = _batches(made["train"], name)
        test = _batches(made["test"], name) if "test" in made else train
        return Data(train, test, made.get("metric") or _metric(test), name, tuple(made.get("classes", ())))
    train = _batches(made, name)
    return Data(train, train, _metric(train), name)


def _check_draws(text: str, draws: int) -> None:
    """Raise InputError where there is nothing to draw windows from, before anything is read."""
    if draws < 1:
        raise InputError(f"At least one window is drawn; got {draws}.")
    path = Path(text)
    questions = path.suffix == ".jsonl" and path.is_file() and are_choices(path)
    readable = (path.is_dir() and _is_text(path)) or path.suffix in (*documents.SUFFIXES, *tokens.SUFFIXES)
    if text != "lee-text" and (questions or not path.exists() or not readable):
        raise InputError(f"Random windows are drawn from text and {text} is none; leave --sample random out (draws= in Python).")


def _built_in(
    name: str,
    tokenizer: Any,
    pixels: Mapping[str, Any] | None,
    batch: int | None,
    length: int,
    seed: int,
    draws: int | None,
) -> Data:
    makers: dict[str, Callable[[], Data]] = {
        "fashion-mnist": lambda: fashion.fashion_mnist(batch or 128, seed),
        "digits": lambda: fashion.digits(batch or 64, seed),
        "foolbox-imagenet": lambda: shipped.foolbox_imagenet(pixels, batch or 20),
        "lee": lambda: shipped.lee(tokenizer, batch or 16),
        "wordsim353": lambda: shipped.wordsim353(tokenizer, batch or 64),
        "lee-text": lambda: shipped.lee_text(tokenizer, length, batch or 8, seed, draws),
    }
    return makers[name]()


def _is_text(folder: Path) -> bool:
    """Whether a folder holds text, and not pictures with notes beside them."""
    endings = {file.suffix.lower() for file in folder.rglob("*")}
    return bool(endings & set(documents.SUFFIXES)) and not endings & ENDINGS


def _batches(made: Any, name: str) -> Iterable[Any]:
    if isinstance(made, (str, bytes)) or not isinstance(made, Iterable):
        raise InputError(f"{name} must return batches or a dict with train and test; it returned {type(made).__name__}.")
    batches = list(made) if iter(made) is made else made
    first = next(iter(batches), None)
    if first is None:
        raise InputError(f"{name} gave no batches; at least one is needed.")
    check_batch(first, name)
    return batches


def _metric(batches: Iterable[Any]) -> str:
    batch = Batch.of(next(iter(batches)))
    if batch.target is None:
        return "agreement"
    ids = batch.kwargs.get("decoder_input_ids", batch.kwargs.get("input_ids"))
    if ids is not None and ids.shape == batch.target.shape:
        return "perplexity"
    return "mse" if batch.target.is_floating_point() else "accuracy"
