"""A pruned block beside the dense one: what its weights read, and what is missing where their products go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pomona.probes.recording import examples, recording, values
from pomona.probes.tapping import given_tensor, heard
from pomona.vocabulary import Batch, InputError, Loss, Requirement, Seen, Watch
from pomona.vocabulary.beside import Tap, Twin, Waiting
from pomona.vocabulary.precision import single_or_double

_LARGEST = 8.0


@dataclass(frozen=True)
class Paired:
    """The calls of a pruned block, whose targets are the dense one's (`Twin`): a forward pass of each, as far as is needed.

    `missing` at a weight is what its layer gives in the dense model less what it gives here. With `stream`, where the product
    is added to a stream, it is the stream of the dense model less that here: all that went wrong before. Rows of the inputs
    and of what is missing are then divided by the root mean square of the dense stream at that token, as the norms that
    read it do: else the few tokens whose stream is a thousand times that of others would be all that counts. But by no more
    than eight times the median of the batch: attention leans on those few, which relative to their size would be one of many.

    Nothing is missing at weights without a tap, nor at stacks of matrices: nobody knows what the dense model gives there.
    """

    stream: bool = True

    requires: ClassVar[frozenset[Requirement]] = frozenset({"data", "beside"})
    per_example: ClassVar[bool] = False

    @torch.no_grad()
    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """What the watched weights read and miss, at tokens that an attention mask lets be seen.

        Raises InputError where the call has no twin, and where the two models differ in width.
        """
        if isinstance(batch.target, Waiting):
            reads = {name: batch.target.reads[name] for name in sorted(watch.inputs)}
            return self._seen(model, batch, watch, reads, batch.target.taps, *self._ends(model, batch.target))
        twin = batch.target
        if not isinstance(twin, Twin):
            raise InputError(
                "What the dense model gives is known within blocks only, run one by one; leave what lies outside with --keep."
            )
        taps = {name: tap for name in sorted(watch.inputs) if (tap := twin.taps.get(name)) is not None}
        with recording(model, watch) as record:
            given = heard(model, batch, taps, self.stream, through=len(taps) < len(watch.inputs | watch.experts))
        wanted = heard(twin.dense, twin.call, taps, self.stream) if taps else {}
        experts = {name: record.routed(name) for name in sorted(watch.experts)}
        return replace(self._seen(model, batch, watch, record.inputs(watch.inputs), taps, given, wanted), experts=experts)

    def _ends(self, model: nn.Module, here: Waiting) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What there is at the taps of a call that waits, and in the dense model: the layers are called with what they read."""
        given, wanted = {}, {}
        for name, tap in here.taps.items():
            given[name], wanted[name] = _first(model.get_submodule(tap.layer)(here.reads[name])), here.gives[name]
            if self.stream and tap.stream is not None:
                given[name], wanted[name] = here.before[name] + given[name], here.behind[name]
        return given, wanted

    def _seen(
        self,
        model: nn.Module,
        batch: Batch,
        watch: Watch,
        reads: Mapping[str, Tensor],
        taps: Mapping[str, Tap],
        given: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
    ) -> Seen:
        weights, rows = values(model, watch), _Rows(batch.visible)
        inputs = {name: rows(x) if weights[name].dim() == 2 else x for name, x in reads.items()}
        missing: dict[str, Tensor] = {}
        for name, tap in taps.items():
            here, there = rows(given[name]), rows(wanted[name])
            if here.shape != there.shape:
                raise InputError(f"{tap.layer} is of another width than in the dense model, so they cannot be compared.")
            missing[name] = there - here
            if self.stream and tap.stream is not None:
                there = single_or_double(there)
                size = _sizes(there)
                inputs[name], missing[name] = inputs[name] / size, missing[name] / size
        return Seen(examples(batch), inputs=inputs, weights=weights, missing=missing)


def _first(given: Any) -> Tensor:
    found = given_tensor(given)
    assert found is not None  # a tap's layer gave one when the tap was made
    return found


def _sizes(stream: Tensor) -> Tensor:
    """Root mean squares (tokens, 1) of a stream (tokens, width), cut to `_LARGEST` times the median of those that are not 0."""
    tiny = torch.finfo(stream.dtype).tiny
    size = stream.square().mean(-1, keepdim=True).sqrt().clamp_min(tiny)
    some = size[size > tiny]
    return size.clamp_max(_LARGEST * some.median()) if some.numel() else size


class _Rows:
    """(tokens, features) without what the mask (batch, length) hides; one tensor for all that are one tensor."""

    def __init__(self, mask: Any) -> None:
        self._mask = mask.flatten().bool() if isinstance(mask, Tensor) and mask.dim() == 2 and not mask.all() else None
        self._made: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}  # with its source, whose memory is then no other's

    def __call__(self, x: Tensor) -> Tensor:
        same = x.data_ptr(), x.shape, x.stride()
        if same not in self._made:
            rows = x.reshape(-1, x.shape[-1])
            hides = self._mask is not None and len(self._mask) == len(rows)
            self._made[same] = x, rows[self._mask] if hides else rows
        return self._made[same][1]
