"""One batch of the user's data, whatever form it came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pomona.vocabulary.errors import InputError

Loss: TypeAlias = Callable[[Any, Any], Tensor]  # (model output, target) -> scalar


@dataclass(frozen=True, eq=False)
class Batch:
    """`model(*args, **kwargs)` is the forward pass, `target` what the loss compares it with (None: unlabelled).

    `mask` (examples, length) says which tokens are no padding, where the arguments themselves do not (see `visible`).
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    target: Any = None
    mask: Tensor | None = None

    @property
    def visible(self) -> Any:
        """Which tokens are no padding: `mask`, or the attention mask among the arguments; None where all count."""
        return self.kwargs.get("attention_mask") if self.mask is None else self.mask

    @classmethod
    def of(cls, raw: Any) -> Batch:
        """A tensor is the input; a pair is (input, target); a dict is keyword arguments, `labels` being the target.

        A pair's input may itself be a tuple (positional) or a dict (keywords). Raises InputError on anything else.
        """
        if isinstance(raw, Batch):
            return raw
        if isinstance(raw, Tensor):
            return cls(args=(raw,))
        if isinstance(raw, Mapping):
            return cls(kwargs=dict(raw), target=raw.get("labels"))
        if isinstance(raw, (tuple, list)) and len(raw) in (1, 2):
            given, target = raw[0], raw[1] if len(raw) == 2 else None
            if isinstance(given, Mapping):
                return cls(kwargs=dict(given), target=target)
            if isinstance(given, (tuple, list)):
                return cls(args=tuple(given), target=target)
            return cls(args=(given,), target=target)
        raise InputError(
            f"A batch must be a tensor, an (input, target) pair or a dict of keyword arguments; got {type(raw).__name__}."
        )

    def check(self, tokens: int | None = None, number: int | None = None) -> Batch:
        """The batch itself, the data's `number`-th; raises InputError where it is all padding, or holds a token beyond `tokens`.

        `tokens` is how many the model knows, where that is known.
        """
        this = "A batch" if number is None else f"Batch {number}"
        if isinstance(self.visible, Tensor) and self.visible.dim() == 2 and not bool(self.visible.any()):
            raise InputError(f"{this} of the data is all padding: its attention mask is zero everywhere; leave it out.")
        first = self.args[:1] if all(isinstance(x, Tensor) and x.dtype == torch.int64 for x in self.args[:1]) else ()
        for ids in (*first, *(given for name, given in self.kwargs.items() if name.endswith("input_ids"))):
            if tokens is None or not isinstance(ids, Tensor) or not ids.numel():
                continue
            if int(ids.max()) >= tokens or int(ids.min()) < 0:
                wrong = int(ids.max()) if int(ids.max()) >= tokens else int(ids.min())
                raise InputError(
                    f"{this} of the data holds the token {wrong} and the model knows 0 to {tokens - 1}: "
                    "the tokenizer is not that of the model."
                )
        return self

    @property
    def unlabelled(self) -> Batch:
        """Without `labels` among the inputs, the target kept: what to give a model whose own loss nobody reads.

        Transformers models would spend time on it, and programs that were traced without labels would refuse them.
        """
        return replace(self, kwargs={name: value for name, value in self.kwargs.items() if name != "labels"})
