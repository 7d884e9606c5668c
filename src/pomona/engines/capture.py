"""What a block is called with: the model's own code runs up to it, and the blocks before it only hand on what they gave.

So every block gets the arguments that the model gives to *it*: masks and positions that differ from layer to layer, biases
that the first layer made, the states of an encoder. Nothing is known about any architecture, and nothing is kept of a call
but the outputs of the block before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pomona.engines.blocks import NotByBlocks
from pomona.graph.export import without_cache
from pomona.probes.recording import main
from pomona.training.batches import onto
from pomona.vocabulary import Batch, InputError, evaluating, finite, first_line


class _Reached(BaseException):
    """The block is called. Not an Exception: what a model's own code catches must not be this."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__("a pass that was stopped on purpose")
        self.args_of_block, self.kwargs_of_block = args, kwargs


@dataclass(frozen=True, eq=False)
class Done:
    """Blocks of one chain that need not run again; `outputs(number)` is a copy of what the last of them gave for a batch."""

    blocks: tuple[str, ...]
    outputs: Callable[[int], Any]

    def instead(self, number: int) -> dict[str, Any]:
        """What each of them hands on. Only what the last one gave is read; the model's code may write to what goes between."""
        *earlier, last = self.blocks
        between = self.outputs(number) if earlier else None
        return {name: between for name in earlier} | {last: self.outputs(number)}


@dataclass(frozen=True, eq=False)
class Calls:
    """The calls of `block`, batch by batch, as often as they are asked for, while the blocks of `done` only hand on.

    Raises InputError where what the block is given is NaN or infinite.
    """

    model: nn.Module
    block: str
    batches: Iterable[Batch]
    done: Sequence[Done] = ()

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.batches):
            made = call(self.model, self.block, batch, _instead(self.done, number))
            given = main(made.args, made.kwargs)[1]
            if given is not None and not finite(given):
                raise InputError(
                    f"The input of {self.block} is NaN or infinite for batch {number + 1} of the data; check the model on it."
                )
            yield made


def call(model: nn.Module, block: str, batch: Batch, done: Mapping[str, Any]) -> Batch:
    """The call of `block` when the model runs on `batch`; `done`: blocks that are not run, with what they hand on.

    Raises InputError where the block is not reached, or where one that is done is called twice: then its outputs cannot be
    told apart. Where the model's code fails, it does so on what is handed on, too,
    once blocks are done; before, what it raises is passed on.
    """
    batch = onto(batch.unlabelled, _device(model))
    with ready(model), replaced(model, {block: _stop} | {name: _once(name, given) for name, given in done.items()}):
        try:
            model(*batch.args, **batch.kwargs)
        except _Reached as reached:
            return Batch(reached.args_of_block, reached.kwargs_of_block, mask=batch.visible)
        # The model's code may raise anything; with all of its blocks it ran.
        except Exception as error:
            if not done or isinstance(error, InputError):
                raise
            raise wanting(block, error) from error
    raise InputError(f"The block {block} is never called on this data; name the blocks that are with --blocks (blocks=).")


def wanting(block: str, error: Exception) -> NotByBlocks:
    """That code behind blocks that are done failed, since more is read of them than what was kept."""
    return NotByBlocks(
        f"{block} fails when the blocks before it only hand on what the last of them gave "
        f"({type(error).__name__}: {first_line(error).rstrip('.')})"
    )


@contextmanager
def ready(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, no caches of keys and values: a call can be repeated and gives the same."""
    with evaluating(model), torch.no_grad(), without_cache(model):
        yield


@contextmanager
def replaced(model: nn.Module, forwards: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Other forward passes for some modules, which stay where they are: the code around them may read their attributes."""
    with ExitStack() as stack:
        for name, forward in forwards.items():
            own = vars(model.get_submodule(name))
            stack.callback(_put_back, own, own.get("forward"))
            own["forward"] = forward
        yield


def _put_back(own: dict[str, Any], forward: Any) -> None:
    """The instance's own forward where it had one (wrappers plant such), else the class's."""
    del own["forward"]
    if forward is not None:
        own["forward"] = forward


def _instead(done: Sequence[Done], number: int) -> dict[str, Any]:
    return {name: given for one in done for name, given in one.instead(number).items()}


def _stop(*args: Any, **kwargs: Any) -> Any:
    raise _Reached(args, kwargs)


def _once(name: str, output: Any) -> Callable[..., Any]:
    calls: list[str] = []

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        if calls:
            raise NotByBlocks(
                f"The block {name} runs more than once in a forward pass, so it cannot be pruned before what follows it"
            )
        calls.append(name)
        return output

    return hand_on


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters() if not p.is_meta), torch.device("cpu"))
