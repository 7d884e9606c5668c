"""transformers' own table of what it makes of the tensors that a folder stores: other names, and stacks of many.

Experts that files hold one by one are one tensor in the models of transformers 5. What is renamed and joined, and how, is asked
of the library for every model and repeated nowhere; before version 5 tensors are stored as the model holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn


class Conversions:
    """What transformers does to stored tensors on their way into a `model`; `state` are the model's own, by name."""

    def __init__(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        self.model, self.state = model, dict(state)
        self.prefix: str = getattr(model, "base_model_prefix", "")
        self._library: Any = None
        self._renamings: list[Any] = []
        self._converters: list[Any] = []
        if find_spec("transformers.core_model_loading") is not None:
            self._library = import_module("transformers.core_model_loading")
            found = import_module("transformers.conversion_mapping").get_model_conversion_mapping(model)
            self._renamings = [one for one in found if isinstance(one, self._library.WeightRenaming)]
            self._converters = [one for one in found if isinstance(one, self._library.WeightConverter)]
            self._by_part = {part: one for one in self._converters for part in one.source_patterns}
            self._all = found

    def in_order(self, keys: Iterable[str]) -> list[str]:
        """Stored names in the order in which tensors are joined: the tenth expert behind the ninth."""
        return sorted(keys, key=self._library.dot_natural_key) if self._library else sorted(keys)

    def target(self, key: str) -> tuple[str, str | None]:
        """(the model's tensor that a stored one becomes, or the first of those; the name of the part that it is in joining it,
        None where it is that tensor).
        """
        if self._library is None:
            return self.spelled(key, self.state) or key, None
        rename = self._library.rename_source_key
        name, part = rename(key, self._renamings, self._converters, self.prefix, self.state)
        if name not in self.state and key in self.state:  # stored as the model holds it, though the table knows such a name
            name, part = rename(key, [], [], self.prefix, self.state)
        return name, part

    def joined(self, target: str, parts: Mapping[str, Sequence[Callable[[], Tensor]]]) -> dict[str, Tensor]:
        """The model's tensors that stored ones become; they are read in here, and forgotten as they are joined."""
        converter = deepcopy(self._by_part[next(iter(parts))])
        for part, reads in parts.items():
            converter.collected_tensors[part].extend(reads)
        made = converter.convert(target, model=self.model, config=self.model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}

    def parted(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The model's tensors by the names and in the pieces in which they are stored, once the `target` of all was asked for."""
        if self._library is None:
            return dict(values)
        # The table is read backwards as far as it was used, which transformers keeps with the model.
        self.model._weight_conversions = [one for one in self._all if one.was_used()]  # type: ignore[assignment]
        found: dict[str, Tensor] = self._library.revert_weight_conversion(self.model, dict(values))
        return found

    def spelled(self, name: str, names: Mapping[str, Any]) -> str | None:
        """How `names` spell it: a bare model's tensors lack the first word of those in a model with a head. None where nohow."""
        word = f"{self.prefix}."
        return next((spelling for spelling in (name, name.removeprefix(word), word + name) if spelling in names), None)
