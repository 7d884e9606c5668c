"""transformers models: a folder, or an id on the hub."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from safetensors import SafetensorError
from torch import nn

from pomona.models.source import Source
from pomona.shards import Shards
from pomona.vocabulary import InputError, first_line

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model")
_BESIDE = ("merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "preprocessor_config.json")
_WEIGHT_FILES = (".safetensors", ".bin")  # also the parts of a sharded model


def config_of(text: str) -> Any:
    """What a folder or a hub id says of its model; raises InputError where its numbers do not go together."""
    transformers = import_transformers()  # says what to install, before anything of its kin is asked for
    from huggingface_hub.errors import StrictDataclassError

    try:
        return transformers.AutoConfig.from_pretrained(text)
    except StrictDataclassError as error:
        why = first_line(error.__cause__ or error).rstrip(".")
        raise InputError(f"The config of '{text}' describes no model: {why}.") from None


def load(text: str) -> dict[str, Any]:
    """The model, its tokenizer if it has one, and how pictures are prepared if it looks at pictures.

    Weights become float32: half precision saves memory, not time, on most CPUs, and proofs need the digits. Only
    classes of the transformers package are built, and only safetensors or plain tensor files are read; code that comes
    with a model is never run. A folder with a config and no weights gives shapes only, on the meta device.
    """
    import_transformers()  # before the hub is asked for
    folder = Path(text)
    if not folder.is_dir():
        _check_hub(text)
    check_indices(folder)
    try:
        config = config_of(text)
        kind = model_class(config)
        with quiet():
            if bare := folder.is_dir() and not any(file.suffix in _WEIGHT_FILES for file in folder.iterdir()):
                model, info = shapes(kind, config), {}
            else:
                # Refused below, in our words: transformers' own send one to a report that nobody prints.
                how: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
                model, info = kind.from_pretrained(text, dtype=torch.float32, **how)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        Shards.of(sorted(folder.glob("*.safetensors")))  # names the file where one is no longer whole
        said = first_line(error).partition(" For details look at")[0].rstrip(".")
        raise InputError(f"'{text}' could not be loaded as a transformers model ({said}); is it complete?") from None
    _check_whole(model, info, text)
    if getattr(model.config, "quantization_config", None) is None:
        vars(config).pop("quantization_config", None)  # the weights were unpacked, and the model is a plain one
    missing = sorted(info.get("missing_keys", ()))
    notes = [f"{len(missing)} tensors are not in {text} and have random values: {', '.join(missing[:3])}."] if missing else []
    notes += [f"There are no weights in {text}: this is the shape of the model, which can be inspected."] if bare else []
    return {
        "model": model.eval(),
        "source": Source("transformers", str(folder.resolve()) if folder.is_dir() else text, kind.__name__, _plain(config)),
        "tokenizer": tokenizer(text),
        "pixels": _pixels(folder, config),
        "notes": tuple(notes),
    }


def check_indices(folder: Path) -> None:
    """Raise InputError where a file that says which part holds which tensor cannot be read."""
    for path in sorted(folder.glob("*.index.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not JSON ({first_line(error)}); it may be truncated.") from None
        if not isinstance(found, Mapping) or not isinstance(found.get("weight_map"), Mapping):
            raise InputError(f"{path} has no weight_map, which says in which file each tensor lies.")


def _check_whole(model: Any, info: Mapping[str, Any], text: str) -> None:
    """Raise InputError where a weight is not stored, or in another shape; a head that is new may still be trained.

    Tied tensors, and those that the class computes, are not among the missing.
    """
    for name, there, wanted in sorted(info.get("mismatched_keys", ())):
        raise InputError(f"{name} is {tuple(there)} in {text} and {tuple(wanted)} in the model that its config describes.")
    body, written = f"{model.base_model_prefix}.", getattr(model.get_output_embeddings(), "weight", None)
    for name, value in model.named_parameters():
        is_head = model.base_model is not model and not name.startswith(body) and value is not written
        if name in info.get("missing_keys", ()) and value.dim() > 1 and not is_head:
            raise InputError(f"The weight {name} is not in {text}, and random values would stand in for it; a part is missing.")


def shapes(kind: Any, config: Any) -> nn.Module:
    """The architecture without values: nothing is allocated, however large it is."""
    with torch.device("meta"):
        model: nn.Module = kind._from_config(config, dtype=torch.float32)
    return model


def rebuild(source: Source) -> nn.Module:
    """The architecture that the config in `source.kwargs` describes, float32, random weights; the folder is not needed."""
    transformers = import_transformers()
    data = dict(source.kwargs)
    if data.get("model_type") not in transformers.CONFIG_MAPPING:
        raise InputError(
            f"This transformers ({transformers.__version__}) does not know the model type '{data.get('model_type')}'; update it."
        )
    config = transformers.CONFIG_MAPPING[data["model_type"]].from_dict(data)
    model: nn.Module = model_class(config, source.task)._from_config(config, dtype=torch.float32)
    return model


def import_transformers() -> Any:
    """The transformers package; InputError with the pip line when it is not installed."""
    try:
        import transformers
    except ImportError:
        raise InputError("This model needs transformers: pip install 'pomona[transformers]'.") from None
    return transformers


def _check_hub(text: str) -> None:
    """Raise InputError at once when a hub id is neither in the cache nor can be fetched; the hub's client would try for long."""
    import huggingface_hub

    if huggingface_hub.try_to_load_from_cache(text, "config.json") or getproxies():
        return
    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        raise InputError(f"There is no folder '{text}', and the hub ({host}) cannot be reached to look for it there.") from None


@contextmanager
def quiet() -> Iterator[None]:
    """No bars of transformers' own: its loading report says less than our notes do."""
    from transformers.utils import logging as of_transformers

    logging: Any = of_transformers  # without types
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def model_class(config: Any, name: str | None = None) -> Any:
    """The class that the config's `architectures` names, looked up in transformers only; without one, the bare model."""
    transformers = import_transformers()
    name = name or next(iter(getattr(config, "architectures", None) or ()), None)
    if name is None:
        bare = transformers.MODEL_MAPPING.get(type(config), None)
        if bare is None:
            raise InputError(f"The config of this {config.model_type} model names no architecture; add one to config.json.")
        return bare
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise InputError(
            f"'{name}' is not a model class of transformers {transformers.__version__}; code that models bring is not run."
        )
    return found


def _plain(config: Any) -> dict[str, Any]:
    # to_dict still holds torch dtypes in places; the config's own JSON is what from_pretrained would read.
    plain: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return plain


def tokenizer(text: str) -> Any:
    """The tokenizer of a folder or hub id, None where it has none; raises InputError where its files cannot be read."""
    folder = Path(text)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    transformers = import_transformers()
    try:
        return transformers.AutoTokenizer.from_pretrained(text)
    except (OSError, ValueError, KeyError) as error:
        if folder.is_dir():
            raise InputError(f"The tokenizer in {text} cannot be read: {first_line(error)}.") from None
        return None  # a hub model without a tokenizer: vision, audio


def copy_tokenizer(source: Source, folder: Path) -> None:
    """The files of the tokenizer of a transformers folder, and how a chat is written, into another folder."""
    if source.kind != "transformers" or not source.value:
        return
    for name in (*_TOKENIZER_FILES, *_BESIDE):
        if (Path(source.value) / name).is_file():
            shutil.copy2(Path(source.value) / name, folder / name)


def _pixels(folder: Path, config: Any) -> Mapping[str, Any] | None:
    size = getattr(config, "image_size", None)
    if size is None:
        return None
    file = folder / "preprocessor_config.json"
    given = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {
        "size": size if isinstance(size, int) else size[0],
        "mean": tuple(given.get("image_mean", (0.5, 0.5, 0.5))),
        "std": tuple(given.get("image_std", (0.5, 0.5, 0.5))),
        "crop": 1.0,
        "channels": getattr(config, "num_channels", 3),
    }
