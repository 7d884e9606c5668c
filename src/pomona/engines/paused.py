"""The calls of a block, each stopped before the layers that are to be decided: what they read is known, nothing is made of it.

So a block is cut layer by layer in one pass, where running it anew for every layer and once more at the end takes five. A
call that is stopped lies in a thread of its own, with the model's code in the middle; one thread runs at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pomona.engines.capture import Calls, ready
from pomona.probes.recording import main
from pomona.vocabulary import Batch, InputError
from pomona.vocabulary.beside import Tap, Waiting

_this = threading.local()


class _Closed(BaseException):
    """Nobody waits for the call any more. Not an Exception: what a model's own code catches must not be this."""


class Paused:
    """A block (`shell`) in the middle of all its `calls`; `steps` are the layers that read the same, in the order of reading.

    `held`: every call waits where it is, with all that its code holds there. Otherwise calls are run anew for every step as
    far as they must be, and one at a time is in memory. Within the context the hooks are there, and at its end no threads.
    """

    def __init__(self, shell: nn.Module, calls: Calls, steps: Sequence[Mapping[str, Tap]], held: bool) -> None:
        self._shell, self._calls, self._steps, self._held = shell, calls, steps, held
        self._places = {tap.layer: number for number, step in enumerate(steps) for tap in step.values()}
        self._waiting: list[_Call] = []
        self._stack = ExitStack()

    def __enter__(self) -> Paused:
        self._stack.enter_context(ready(self._shell))
        for layer, number in self._places.items():
            module = self._shell.get_submodule(layer)
            self._stack.callback(module.register_forward_pre_hook(_gate(layer, number), with_kwargs=True).remove)
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for call in self._waiting:
                call.close()

    def reading(self, step: int) -> Iterator[Batch]:
        """The calls, whose targets are what the layers of this step read (`Waiting`); all steps before it are decided.

        Raises InputError where a call comes to layers in another order than the first one, or more than once.
        """
        for call in self._started():
            try:
                read = dict.fromkeys(self._steps[step], call.until(step))
                yield replace(call.batch, target=Waiting(read))
            finally:
                if not self._held:
                    call.close()

    def outputs(self) -> Iterator[Any] | None:
        """What the block gives once all steps are decided; None where nothing waits, so that it must be run as usual."""
        return self._ends() if self._waiting else None

    def _started(self) -> Iterator[_Call]:
        if self._waiting:
            yield from self._waiting
            return
        for batch in self._calls:
            call = _Call(self._shell, batch, len(self._steps))
            if self._held:
                self._waiting.append(call)
            yield call

    def _ends(self) -> Iterator[Any]:
        while self._waiting:
            yield self._waiting[0].until(len(self._steps))
            self._waiting.pop(0)


class _Call:
    """One call of a block, which runs on to the layers of a `step` and waits before them."""

    def __init__(self, shell: nn.Module, batch: Batch, steps: int) -> None:
        self.batch, self._shell, self._steps = batch, shell, steps
        self._step, self._called = -1, set[str]()
        self._found: Any = None
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def until(self, step: int) -> Any:
        """What the layers of this step read, or what the block gives after the last; raises what its own code raises."""
        if step > self._step:
            self._step = step
            self._turn()
        if self._error is not None:
            raise self._error
        if self._ended and step < self._steps:
            raise _unlike("a layer")
        return self._found

    def gate(self, layer: str, number: int, read: Tensor | None) -> None:
        """Called by the call's own thread before this layer is: wait while its step is not decided."""
        if layer in self._called or number > self._step or read is None:
            raise _unlike(layer)
        self._called.add(layer)
        if number == self._step:
            self._found = read
            self._back.release()
            self._go.acquire()
            if self._closed:
                raise _Closed

    def close(self) -> None:
        """Leave the code where it is; nothing is left of the thread."""
        self._closed = True
        if self._thread.ident is not None:
            if not self._ended:
                self._turn()
            self._thread.join()

    def _turn(self) -> None:
        """Let the call run until it waits or ends."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()

    def _run(self) -> None:
        _this.call = self
        try:
            with torch.no_grad():  # which is each thread's own
                self._found = self._shell(*self.batch.args, **self.batch.kwargs)
        except _Closed:
            pass
        # The code is the user's; what it raises is raised where the call is asked for.
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            self._back.release()


def _gate(layer: str, number: int) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call: _Call | None = getattr(_this, "call", None)
        if call is not None:
            call.gate(layer, number, main(args, kwargs)[1])

    return hook


def _unlike(what: str) -> InputError:
    return InputError(
        f"For one of the batches {what} is called in another order than for the first one, or more or less often, so layers "
        "cannot be decided one by one; leave out --true-sequential (true_sequential=)."
    )
