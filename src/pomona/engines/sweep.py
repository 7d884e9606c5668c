"""One walk over the blocks of a model, each in its turn with what it reads; what it gives is what the next one reads.

With a walk `beside` it, the blocks as they were before their turn are walked through as well, on what those before them gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pomona.engines.activations import Activations
from pomona.engines.blocks import Chain, NotByBlocks
from pomona.engines.capture import Calls, Done, ready, replaced, wanting
from pomona.engines.memory import available
from pomona.engines.shell import Shell
from pomona.graph.export import without_cache
from pomona.probes.tapping import given_tensor
from pomona.processes import Processes
from pomona.training.batches import seeded
from pomona.training.checkpoint import restore
from pomona.vocabulary import Batch, InputError, finite
from pomona.vocabulary.beside import Tap, Twin

_STREAMS = 6  # how often the stream is there in the middle of a call: as given, read, normed, in parts of attention, ...


class Store(Protocol):
    """Where the weights of blocks are while nobody works on them."""

    def held(self, block: str) -> AbstractContextManager[None]:
        """Within it the block's values are in memory."""
        ...

    def settle(self, block: str) -> Mapping[str, Tensor]:
        """The block is cut: its values stay. Returns what a journal must hold of it."""
        ...

    def recall(self, block: str, saved: Mapping[str, Tensor]) -> None:
        """Be as the block was when it settled."""
        ...

    def fetch(self, names: Iterable[str]) -> None:
        """Have these tensors, which lie outside of blocks, in memory from now on."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """They are all there."""

    model: nn.Module

    def held(self, block: str) -> AbstractContextManager[None]:
        """Nothing to do."""
        return nullcontext()

    def settle(self, block: str) -> Mapping[str, Tensor]:
        """The values themselves."""
        return self.model.get_submodule(block).state_dict()

    def recall(self, block: str, saved: Mapping[str, Tensor]) -> None:
        """Put the values back."""
        restore(self.model.get_submodule(block), saved)

    def fetch(self, names: Iterable[str]) -> None:
        """Nothing to do."""


@dataclass(frozen=True, eq=False)
class Room:
    """How many bytes of what blocks give may stay in memory (None: all), and where the rest goes."""

    budget: int | None = None
    folder: Path | None = None

    def half(self, name: str) -> Room:
        """One of two equal rooms."""
        budget, folder = self.budget, self.folder
        return Room(None if budget is None else budget // 2, None if folder is None else folder / name)


class Walk:
    """The way through the blocks of a model. `batches` is None where nothing needs to be run; `processes` share them.

    `beside`: every block's turn also has the block as it was, with the calls that it has where no block before it was changed.
    """

    def __init__(
        self,
        model: nn.Module,
        chains: Sequence[Chain],
        batches: Iterable[Batch] | None,
        room: Room | None = None,
        store: Store | None = None,
        seed: int = 0,
        processes: Processes | None = None,
        beside: bool = False,
    ) -> None:
        self.model, self.chains, self.seed, self.processes = model, chains, seed, processes or Processes()
        self.batches = None if batches is None else self.processes.share(batches)
        self.store = store or InMemory(model)
        room = room or Room()
        self._kept = _kept(room.half("pruned") if beside else room)
        self._dense = _kept(room.half("dense")) if beside and batches is not None else None
        self._done: tuple[Done, ...] = ()

    def turns(self, alone: bool = False) -> Iterator[Turn]:
        """The blocks one after the other; each must `hand_on` before the next one has its turn. `alone`: with nothing beside."""
        self._done = ()
        dense = None if alone else self._dense
        for place, chain in enumerate(self.chains):
            for number, block in enumerate(chain.blocks):
                with self.store.held(block):
                    own = self.model.get_submodule(block)
                    twin = None if dense is None else self._turn(place, number, deepcopy(own), dense)
                    yield self._turn(place, number, own, self._kept, twin)
            self._done = self._before(place, len(chain.blocks), self._kept)

    def _turn(self, place: int, number: int, module: nn.Module, kept: Activations, twin: Turn | None = None) -> Turn:
        block = self.chains[place].blocks[number]
        done = self._before(place, number, kept)
        calls = None if self.batches is None else Calls(self.model, block, self.batches, done)
        return Turn(block, Shell(block, module), calls, kept, place, self.seed, self.processes, twin)

    def _before(self, place: int, number: int, kept: Activations) -> tuple[Done, ...]:
        """What is done when the block of this number in this chain has its turn."""
        whole = [chain.blocks for chain in self.chains[:place]]
        found = enumerate((*whole, self.chains[place].blocks[:number]))
        return tuple(Done(blocks, partial(_given, kept, at)) for at, blocks in found if blocks)

    def beyond(self) -> Iterator[Batch]:
        """The batches; while one is out, the blocks that had their turn hand on what they gave for it and compute nothing."""
        for number, batch in enumerate(self.batches or ()):
            forwards = {name: partial(_give, one, number) for one in self._done for name in one.blocks}
            with replaced(self.model, forwards), without_cache(self.model):
                yield batch.unlabelled


@dataclass(frozen=True, eq=False)
class Turn:
    """One block in its turn: alone in its shell, with its calls (None where nothing is run)."""

    block: str
    shell: Shell
    calls: Calls | None
    kept: Activations
    place: int
    seed: int
    processes: Processes
    twin: Turn | None = None

    def pairs(self, taps: Mapping[str, Tap]) -> Iterator[Batch]:
        """The calls, whose targets are the dense block with its own; there must be a twin."""
        assert self.calls is not None and self.twin is not None and self.twin.calls is not None
        for own, whole in zip(self.calls, self.twin.calls, strict=True):
            yield replace(own, target=Twin(self.twin.shell, whole, taps))

    def look(self) -> Tensor | None:
        """What the block gives for the first batch as it is now; None where nothing is run."""
        return None if self.calls is None else next((given_tensor(output) for output in self._outputs()), None)

    def holds(self, steps: Sequence[Mapping[str, Tap]]) -> int:
        """How many calls may wait before the layers of these steps: they take half of the memory that there is.

        In the middle of a call there is the stream, several times, and what its layers read; beside a dense block, what those of
        a step give there.
        """
        if self.kept.bounded or self.calls is None:
            return 0
        rows, width = next(((_rows(x), x.shape[-1]) for x in map(given_tensor, self._inputs()) if x is not None), (0, 0))
        shapes = [[sorted(self.shell.get_parameter(name).shape) for name in step] for step in steps]
        each = _STREAMS * width + 2 * max(shape[-1] for step in shapes for shape in step)
        if self.twin is not None:
            each += _STREAMS * width + 2 * max(sum(shape[-1] for shape in step) for step in shapes)
        return int(available() / 2 / max(1, 4 * rows * each))

    def hand_on(self, outputs: Iterable[Any] | None = None, beside: Iterable[Any] | None = None) -> Tensor | None:
        """Run the block as it is now, keep what it gives for the next one, and return what `look` would; its twin likewise.

        `outputs` are what it gives, where that is known, and `beside` what its twin does. Raises InputError where what it gives
        is NaN or infinite.
        """
        if self.twin is not None:
            self.twin.hand_on(beside)
        with seeded(self.seed, 1):
            return self._keep(self._outputs() if outputs is None else outputs)

    def _keep(self, outputs: Iterable[Any]) -> Tensor | None:
        first = None
        for number, output in enumerate(outputs):
            main = given_tensor(output)
            if main is not None and not finite(main):
                place = self.processes.place(number + 1)
                raise InputError(
                    f"{self.block} gives NaN or infinite numbers for batch {place} of the data; check the model on it."
                )
            first = main if number == 0 else first
            self.kept.put((self.place, number), output)
        return first

    def _inputs(self) -> Iterator[Any]:
        with seeded(self.seed, 1), ready(self.shell):
            for call in self.calls or ():
                yield call.args, call.kwargs

    def _outputs(self) -> Iterator[Any]:
        if self.calls is None:
            return
        # Loaders that shuffle by torch's global generator give the same batches in every pass, in a resumed run too.
        with seeded(self.seed, 1), ready(self.shell):
            for call in self.calls:
                tables = [value for value in (*call.args, *call.kwargs.values()) if isinstance(value, MutableMapping)]
                before = [set(table) for table in tables]
                try:
                    output = self.shell(*call.args, **call.kwargs)
                except Exception as error:  # as in `call`
                    if not self.calls.done or isinstance(error, InputError):
                        raise
                    raise wanting(self.block, error) from error
                if [set(table) for table in tables] != before:
                    raise NotByBlocks(
                        f"{self.block} writes what later blocks read into a dict that it is given, not into what it gives"
                    )
                yield output


def change(before: Tensor | None, after: Tensor | None) -> float | None:
    """||after - before|| / ||before||, in float64; None where nothing was run."""
    if before is None or after is None:
        return None
    before = before.double()
    return float((after.double() - before).norm() / before.norm().clamp(min=torch.finfo(torch.float64).tiny))


def _rows(x: Tensor) -> int:
    return x.numel() // max(1, x.shape[-1]) if x.ndim else 0


def _kept(room: Room) -> Activations:
    return Activations(room.budget, room.folder)


def _given(kept: Activations, place: int, number: int) -> Any:
    return kept.get((place, number))


def _give(done: Done, number: int, *args: Any, **kwargs: Any) -> Any:
    return done.outputs(number)
