"""Text from a pruned language model, one native call a token."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Collection, Sequence
from math import inf
from numbers import Real
from operator import index
from typing import Literal, NoReturn, SupportsIndex

import torch
from torch import Tensor, nn

from pomona.native.library import library, threads_of
from pomona.runtime.decoding.llama import LINEARS
from pomona.runtime.decoding.native import Native
from pomona.runtime.decoding.packed import pack
from pomona.runtime.decoding.plain import Plain
from pomona.runtime.decoding.proof import prove
from pomona.runtime.decoding.reading import read
from pomona.vocabulary import InputError, first_line

Kind = Literal["f32", "bf16", "int8"]
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


class Decoder:
    """A causal language model of the Llama family (Llama, Mistral, Qwen2, Qwen3, ...) for one sequence at a time.

    Weights are packed once, each layer as a bitmask or dense, whichever is faster here at its share of zeros. `values` are "f32"
    (exact), "bf16" or "int8" (a scale a row; activations are quantised on the fly); `head` is the same for the layer that makes
    logits, and defaults to `values`. Of long prompts up to 120 tokens are read at once, with activations as they are. Keys and
    values of up to `context` positions are kept in float32. `threads` defaults to torch's number.

    Raises InputError for a model that computes anything else than a Llama does (another norm or activation, experts, sliding
    windows shorter than the context, rotary embeddings that change with the length), in a sentence that names it: before anything
    is packed the model and what was read of it are compared on a few tokens. Changes of the model afterwards are not seen.

    Threads of a program may share one: each call runs to its end before the next. It can be neither copied nor pickled.
    """

    def __init__(
        self, model: nn.Module, values: Kind = "f32", *, head: Kind | None = None, context: int = 2048, threads: int | None = None
    ) -> None:
        context = _whole("The context", context, 1)
        if threads is not None:
            threads_of(threads)
        llama = read(model, context)
        if context > llama.positions:
            raise InputError(f"The model was made for {llama.positions} positions; a context of {context} is too long.")
        prove(model, llama, context)
        packed = pack(llama, values, head or values)
        found = library()
        self.context, self.vocabulary = context, len(llama.embedding)
        self.bytes_per_token = packed.nbytes + llama.embedding[0].nbytes
        self.layouts = {f"{i}.{name}": block[name].weight.name for i, block in enumerate(packed.blocks) for name in LINEARS}
        self.layouts["head"] = packed.head.weight.name
        native = found.isa is not None
        self._steps = Native(llama, packed, context, threads, found) if native else Plain(llama, packed.blocks, packed.head)
        self._stop, self._lock = _ends(model), threading.RLock()

    def __reduce__(self) -> NoReturn:
        raise InputError("A Decoder cannot be copied or pickled, for its memory is the library's; make another of the model.")

    @property
    def length(self) -> int:
        """Positions in the cache."""
        return self._steps.length

    def reset(self, length: int = 0) -> None:
        """Forget all but the first `length` positions. Raises InputError where there are fewer."""
        with self._lock:
            length = _whole("The length", length, 0)
            if length > self.length:
                raise InputError(f"There are {self.length} positions to go back in; got {length}.")
            self._steps.rewind(length)

    def feed(self, ids: Tensor | Sequence[int]) -> Tensor:
        """The logits behind the last of these tokens, float32 (vocabulary,), which join what was fed before.

        Raises InputError, with nothing done, for no tokens, unknown ones, or more than the context has room for.
        """
        with self._lock:
            return self._steps.feed(self._checked(ids), False)[0]

    def logits(self, ids: Tensor | Sequence[int]) -> Tensor:
        """The logits behind each token of a new sequence, float32 (tokens, vocabulary)."""
        tokens = self._checked(ids, new=True)
        with self._lock:
            self.reset()
            return self._steps.feed(tokens, True)

    def generate(
        self, ids: Tensor | Sequence[int], n: int, temperature: float = 0.0, seed: int = 0, stop: Collection[int] | None = None
    ) -> list[int]:
        """Up to `n` tokens behind the prompt `ids`: the likeliest each time, or drawn at a temperature above 0 from a seed.

        The last one may be of `stop`, by default what the model's own configuration ends texts with. Raises InputError where
        prompt and text do not fit into the context.
        """
        prompt = self._checked(ids, new=True)
        n, drawn = _whole("n", n, 0), torch.Generator().manual_seed(_whole("The seed", seed) % 2**64)
        if not isinstance(temperature, Real) or not 0 <= temperature < inf:
            raise InputError(f"A temperature is a finite number from 0 on; got {temperature!r}.")
        if len(prompt) + n - 1 > self.context:
            raise InputError(f"A prompt of {len(prompt)} and {n} tokens more do not fit into a context of {self.context}.")
        ends, made = self._stop if stop is None else _stops(stop), list[int]()
        with self._lock:
            self.reset()
            while len(made) < n and not (made and made[-1] in ends):
                logits = self._steps.feed(torch.tensor(made[-1:]) if made else prompt, False)[0]
                made.append(_choice(logits, temperature, drawn))
        return made

    def tokens_per_second(self, n: int = 64, behind: int = 32, clock: Callable[[], float] = time.perf_counter) -> float:
        """How fast text is made, one token at a time behind a prompt of `behind`: 1 / the median of n tokens' seconds by `clock`.

        The sequence in the cache is lost.
        """
        n, behind = _whole("n", n, 1), _whole("behind", behind, 1)
        if behind + n > self.context:
            raise InputError(f"{behind} and {n} tokens do not fit into a context of {self.context}.")
        tokens = torch.arange(behind + n) * 7919 % self.vocabulary
        seconds = []
        with self._lock:
            self.reset()
            self._steps.feed(tokens[:behind], False)
            for i in range(behind, behind + n):
                start = clock()
                self._steps.feed(tokens[i : i + 1], False)
                seconds.append(clock() - start)
        return 1 / statistics.median(seconds)

    def _checked(self, ids: Tensor | Sequence[int], new: bool = False) -> Tensor:
        """As int64 (tokens,), known to the vocabulary and within the context."""
        try:
            tokens = torch.as_tensor(ids, device="cpu")
        # Whatever torch says of what is no tensor: there are several errors for that.
        except Exception as error:
            why = first_line(error).rstrip(".")
            raise InputError(f"Decoding takes one sequence of token ids, not this {type(ids).__name__} ({why}).") from error
        tokens = tokens[0] if tokens.dim() == 2 and len(tokens) == 1 else tokens
        if tokens.dim() != 1 or not len(tokens) or tokens.dtype not in _WHOLE:
            raise InputError(f"Decoding takes one sequence of token ids; got {tokens.dtype} of shape {tuple(tokens.shape)}.")
        tokens = tokens.to(torch.int64).contiguous()
        if not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocabulary:
            raise InputError(f"Token ids are from 0 to {self.vocabulary - 1}; got {int(tokens.min())} to {int(tokens.max())}.")
        room = self.context - (0 if new else self.length)
        if len(tokens) > room:
            raise InputError(f"The context of {self.context} has room for {room} more tokens; got {len(tokens)}.")
        return tokens


def _whole(what: str, value: SupportsIndex, least: int | None = None) -> int:
    """As an int. Raises InputError for what is no whole number, or below `least`."""
    try:
        if least is None or index(value) >= least:
            return index(value)
    except TypeError:
        pass
    raise InputError(f"{what} is a whole number{'' if least is None else f' from {least} on'}; got {value!r}.")


def _stops(stop: Collection[int]) -> frozenset[int]:
    try:
        return frozenset(map(index, stop))
    except TypeError:
        raise InputError(f"stop is a collection of token ids; got {stop!r}.") from None


def _choice(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    logits = logits.double() - logits.max()  # of which no temperature makes infinities of both signs
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))


def _ends(model: nn.Module) -> frozenset[int]:
    for config in (getattr(model, "generation_config", None), model.config):
        found = getattr(config, "eos_token_id", None)
        if found is not None:
            return frozenset(found if isinstance(found, (list, tuple)) else [found])
    return frozenset()
