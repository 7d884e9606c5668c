"""The calls of a block, each stopped before the layers that are to be decided: what they read is known, nothing is made of it.

So a block is cut layer by layer in one pass, where running it anew for every layer and once more at the end takes five. A
call that is stopped lies in a thread of its own, with the model's code in the middle; one thread runs at a time.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from pomona.engines.capture import Calls, ready
from pomona.probes.tapping import End, hearing, stream_end
from pomona.vocabulary import Batch, InputError
from pomona.vocabulary.beside import Tap, Twin, Waiting

Steps: TypeAlias = Sequence[Mapping[str, Tap]]  # the layers that read the same, by weight, in the order of reading
_Kind: TypeAlias = Literal["reads", "before", "gives", "behind"]  # as in `Waiting`

_this = threading.local()


@dataclass(frozen=True, eq=False)
class Block:
    """One that is called: alone in its shell, with its calls."""

    shell: nn.Module
    calls: Calls


class Paused:
    """A block in the middle of all its calls, and the `dense` one beside it, if there is one, in the middle of its own.

    `most` calls wait where they are, with all that their code holds there; more are run anew for every step as far as they must
    be, one at a time in memory, to the same bits. Within the context the hooks are there, and at its end no threads.
    """

    def __init__(self, own: Block, steps: Steps, dense: Block | None = None, most: int = 0) -> None:
        self._steps = steps
        self._own = _Side(own, [_read(step) for step in steps], most, first=True)
        self._dense = None if dense is None else _Side(dense, [_compared(step) for step in steps], most, first=False)

    def __enter__(self) -> Paused:
        with ExitStack() as stack:
            for side in self._sides:
                stack.enter_context(side)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reading(self, step: int) -> Iterator[Batch]:
        """The calls, whose targets are what the layers of this step read (`Waiting`); all steps before it are decided.

        Those that do not wait beside a dense block are the block's own, for a pass of both (`Twin`). Raises InputError where a
        call comes to layers in another order than the first one, or more than once.
        """
        taps = self._steps[step]
        if self._dense is None:
            for call in self._own.started():
                yield replace(call.batch, target=Waiting(_one(taps, call.until(step))))
            return
        for call, other in zip(self._own.started(), self._dense.started(), strict=True):
            if not self._own.holds(call):
                yield replace(call.batch, target=Twin(self._dense.block.shell, other.batch, taps))
                continue
            here, there = call.until(step), other.until(step)
            yield replace(call.batch, target=Waiting(_one(taps, here), taps, there["gives"], there["behind"], here["before"]))

    @property
    def outputs(self) -> list[Iterator[Any]]:
        """What the block gives once all steps are decided, and the dense one."""
        return [side.ends() for side in self._sides]

    @property
    def _sides(self) -> list[_Side]:
        return [self._own] if self._dense is None else [self._own, self._dense]


@dataclass(frozen=True)
class _Note:
    """Something to be noted when it goes by; a call waits for those that are `due`."""

    place: tuple[str, End]
    kind: _Kind
    weight: str
    due: bool = True


def _one(taps: Mapping[str, Tap], found: Mapping[_Kind, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What all layers of a step read: a call waits before the first of them."""
    return dict.fromkeys(taps, next(iter(found["reads"].values())))


def _read(step: Mapping[str, Tap]) -> list[_Note]:
    """What layers read, before which a call waits, and the stream as it was before them."""
    reads = [_Note((tap.layer, "reads"), "reads", name) for name, tap in step.items()]
    return reads + [_Note((tap.base, "reads"), "before", name, False) for name, tap in step.items() if tap.base is not None]


def _compared(step: Mapping[str, Tap]) -> list[_Note]:
    """What layers give, and the stream behind them."""
    gives = [_Note((tap.layer, "gives"), "gives", name) for name, tap in step.items()]
    streams = {name: tap.stream for name, tap in step.items() if tap.stream is not None}
    return gives + [_Note((place, stream_end(place)), "behind", name) for name, place in streams.items()]


class _Side:
    """A block with hooks, and its calls that wait. Those of a step wait for the `first` of its notes, or for all of them."""

    def __init__(self, block: Block, steps: Sequence[Sequence[_Note]], most: int, first: bool) -> None:
        self.block, self.steps, self._most, self._waiting = block, steps, most, list[_Call]()
        self.due = [1 if first else sum(note.due for note in notes) for notes in steps]
        self.strict = first  # the order of layers must be that of the steps
        self.notes: dict[tuple[str, End], list[tuple[int, _Note]]] = defaultdict(list)
        for number, notes in enumerate(steps):
            for note in notes:
                self.notes[note.place].append((number, note))

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(ready(self.block.shell))
            stack.enter_context(hearing(self.block.shell, {place for place, _ in self.notes}, _hear))
            self._stack = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for call in self._waiting:
                call.close()

    def started(self) -> Iterator[_Call]:
        """The calls that wait, and new ones, of which the first do from now on."""
        yield from list(self._waiting)
        if len(self._waiting) == len(self.block.calls):
            return
        for number, batch in enumerate(self.block.calls):
            if number >= len(self._waiting):
                call = _Call(self, batch)
                if number < self._most:
                    self._waiting.append(call)
                try:
                    yield call
                finally:
                    if not self.holds(call):
                        call.close()

    def holds(self, call: _Call) -> bool:
        """Whether the call waits."""
        return call in self._waiting

    def ends(self) -> Iterator[Any]:
        """What the calls give, which are over then; those that do not wait are run as usual."""
        held = len(self._waiting)
        while self._waiting:
            yield self._waiting[0].end()
            self._waiting.pop(0)
        if held < len(self.block.calls):
            for batch in islice(self.block.calls, held, None):
                yield self.block.shell(*batch.args, **batch.kwargs)


class _Call:
    """One call of a block, in its thread."""

    def __init__(self, side: _Side, batch: Batch) -> None:
        self.batch, self._side = batch, side
        self._step, self._due, self._heard = -1, list(side.due), Counter[tuple[str, End]]()
        self._found: dict[_Kind, dict[str, Tensor]] = {"reads": {}, "before": {}, "gives": {}, "behind": {}}
        self._output: Any = None
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def until(self, step: int) -> Mapping[_Kind, Mapping[str, Tensor]]:
        """Run on to the layers of a step; what was noted for it by then. Raises what the code of the block raises."""
        if step > self._step:
            later = {note.weight for notes in self._side.steps[step:] for note in notes}
            self._found = {kind: {n: x for n, x in found.items() if n in later} for kind, found in self._found.items()}
            self._step = step
            if self._due[step] > 0:
                self._turn()
        if self._due[step] > 0:
            raise _unlike("a layer")
        return self._found

    def end(self) -> Any:
        """Run on to the end; what the block gives."""
        self._step = len(self._side.steps)
        self._found.clear()
        if not self._ended:
            self._turn()
        return self._output

    def hear(self, place: str, end: End, tensor: Tensor) -> None:
        """Called by the call's own thread when this goes by: note it, and wait where a step has all that it is due."""
        self._heard[place, end] += 1
        complete = False
        for step, note in self._side.notes.get((place, end), ()):
            if note.due and self._side.strict and (step > self._step or self._heard[place, end] > 1):
                raise _unlike(place)
            if step >= self._step:  # what comes next may write to it, but not to what a layer is about to read
                self._found[note.kind].setdefault(note.weight, tensor if note.kind == "reads" else tensor.clone())
            self._due[step] -= note.due
            complete |= note.due and self._due[step] == 0 and step == self._step
        if complete:
            self._back.release()
            self._go.acquire()
            if self._closed:
                raise _Closed

    def close(self) -> None:
        """Leave the code where it is; nothing is left of the thread."""
        self._closed = True
        if self._thread.ident is not None:
            if not self._ended:
                self._pass()
            self._thread.join()

    def _turn(self) -> None:
        """Let the call run until it waits or ends."""
        self._pass()
        if self._error is not None:
            raise self._error

    def _pass(self) -> None:
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()

    def _run(self) -> None:
        _this.call = self
        try:
            with suppress(_Closed), torch.no_grad():  # gradients are each thread's own
                self._output = self._side.block.shell(*self.batch.args, **self.batch.kwargs)
        # The code is the user's; what it raises is raised where the call is asked for.
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            self._back.release()


class _Closed(BaseException):
    """Nobody waits for the call any more. Not an Exception: what a model's own code catches must not be this."""


def _hear(place: str, end: End, tensor: Tensor) -> None:
    call: _Call | None = getattr(_this, "call", None)
    if call is not None:
        call.hear(place, end, tensor)


def _unlike(what: str) -> InputError:
    return InputError(
        f"For one of the batches {what} is called in another order than for the first one, or more or less often, so layers "
        "cannot be decided one by one; leave out --true-sequential (true_sequential=), or take a method that reads whole blocks."
    )
