"""A plain forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pomona.probes.recording import examples, recording, tokens, values
from pomona.vocabulary import Batch, InputError, Loss, Requirement, Seen, Watch, evaluating
from pomona.vocabulary.beside import Waiting


@dataclass(frozen=True)
class Forward:
    """One forward pass in evaluation mode, without gradients. Memory: the watched inputs of one batch.

    What matrices read is without the tokens that an attention mask hides, one row a token, unless it is `whole`: then
    padding stays, and with it the shape (examples, tokens, features). Rows that are sent to experts have lost their place in
    the sequence, so padding stays among them.
    """

    whole: bool = False

    requires: ClassVar[frozenset[Requirement]] = frozenset({"data"})
    per_example: ClassVar[bool] = False

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """What the watched weights read and what the watched blocks did, at tokens that an attention mask lets be seen.

        A call that waits before layers (`Waiting`) is not run: what these read is all that there is to see.
        """
        if isinstance(batch.target, Waiting):
            return self._seen(model, batch, watch, {name: batch.target.reads[name] for name in sorted(watch.inputs)})
        with evaluating(model), torch.no_grad(), recording(model, watch) as record:
            model(*batch.args, **batch.kwargs)
        missing = watch.blocks - record.blocks.keys()
        if missing:
            raise InputError(f"The block {min(missing)} is never called on this data, so its influence is unknown; skip it.")
        mask = self._mask(batch)
        blocks = {name: (tokens(a, mask), tokens(b, mask)) for name, (a, b) in record.blocks.items()}
        experts = {name: record.routed(name) for name in sorted(watch.experts)}
        return replace(self._seen(model, batch, watch, record.inputs(watch.inputs)), blocks=blocks, experts=experts)

    def _seen(self, model: nn.Module, batch: Batch, watch: Watch, inputs: Mapping[str, Tensor]) -> Seen:
        # Convolutions have channels where token sequences have positions, so only what matrices read is looked at.
        weights, seen = values(model, watch), _Visible(self._mask(batch))
        inputs = {name: seen(x) if weights[name].dim() == 2 else x for name, x in inputs.items()}
        return Seen(examples(batch), inputs=inputs, weights=weights)

    def _mask(self, batch: Batch) -> Any:
        return None if self.whole else batch.visible


class _Visible:
    """Tokens that the mask lets be seen; weights that read one tensor go on reading one tensor."""

    def __init__(self, mask: Any) -> None:
        self._mask = mask
        self._made: dict[tuple[Any, ...], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        same = x.data_ptr(), x.shape, x.stride()
        if same not in self._made:
            self._made[same] = tokens(x, self._mask)
        return self._made[same]


@dataclass(frozen=True)
class LabelledForward:
    """`Forward(whole=True)` that passes the targets of the batch on. Needs labels, but no loss and no gradients."""

    requires: ClassVar[frozenset[Requirement]] = frozenset({"data", "labels"})
    per_example: ClassVar[bool] = False

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """Raises InputError where the batch has no targets."""
        if batch.target is None:
            raise InputError("This method compares activations with labels and the data has none; give (input, target) pairs.")
        return replace(Forward(whole=True).run(model, batch.unlabelled, loss, watch), target=batch.target)
