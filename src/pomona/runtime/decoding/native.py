"""A decoder's step as one call of a kernel."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.library import Library, threads_of
from pomona.runtime.decoding.llama import LINEARS, NORMS, NOT_FINITE, Llama, Norm
from pomona.runtime.decoding.packed import PackedLlama
from pomona.vocabulary import InputError

_REFUSALS = {
    -1: "There is not enough memory for a context of {context} positions; ask for a shorter one.",
    -2: "The sizes of the model's layers do not go together.",
    -3: "The context has room for {context} positions.",
    -4: "There is a token outside the vocabulary of {vocabulary}.",
    -5: NOT_FINITE,
}
_LAST = -1  # the index of what comes after the layers


class Native:
    """Keeps keys and values of what it was fed, in memory of the library's that is freed with this object.

    `library` has kernels; the instruction set that it has in use stays that of this object. One call at a time.
    """

    def __init__(self, llama: Llama, packed: PackedLlama, context: int, threads: int | None, library: Library) -> None:
        self._library, self._threads = library, threads
        self._vocabulary, self._context, self.length = len(llama.embedding), context, 0
        cosines, sines = (turn.contiguous() for turn in llama.turns(context))
        self._held = (llama, packed, cosines, sines)  # what the kernel's pointers point into
        hidden, pairs = llama.embedding.shape[1], cosines.shape[1]
        self._handle = ctypes.c_void_p()
        self._call(
            "open", size(len(llama.blocks)), size(hidden), size(self._vocabulary), size(context), size(pairs),
            array(llama.embedding, llama.embedding.dtype, (self._vocabulary, hidden), "the embedding"),
            int(llama.embedding.dtype == torch.bfloat16), array(cosines, torch.float32, (context, pairs), "cosines"),
            array(sines, torch.float32, (context, pairs), "sines"), ctypes.byref(self._handle), handle=False,
        )  # fmt: skip
        self._close = weakref.finalize(self, self._kernel("close"), self._handle)
        for i, block in enumerate(llama.blocks):
            sizes = (block.query_heads, block.key_heads, block.key_width, block.value_width, block.linears["gate"].out_features)
            self._call("layer", size(i), *map(size, sizes), ctypes.c_double(block.scaling))
            for name, norm in block.norms.items():
                self._norm(i, NORMS.index(name), norm)
            for name, layer in packed.blocks[i].items():
                self._call("linear", size(i), size(LINEARS.index(name)), ctypes.byref(layer.layer()))
        self._norm(_LAST, 0, llama.last_norm)
        self._call("linear", size(_LAST), size(0), ctypes.byref(packed.head.layer()))
        self._call("ready")

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        self._call("rewind", size(length))
        self.length = length

    def feed(self, tokens: Tensor, every: bool) -> Tensor:
        """Logits, float32 (tokens, vocabulary), or (1, vocabulary) of the last of them.

        Raises InputError, with nothing done, where there is no room or a token is unknown.
        """
        logits = torch.empty(len(tokens) if every else 1, self._vocabulary)
        self._call(
            "feed", array(tokens, torch.int64, (-1,), "tokens"), size(len(tokens)), int(every),
            array(logits, torch.float32, (-1, self._vocabulary), "logits"), threads_of(self._threads),
        )  # fmt: skip
        self.length += len(tokens)
        return logits

    def _norm(self, index: int, which: int, norm: Norm) -> None:
        weight = array(norm.weight, torch.float32, (-1,), "a norm's weight")
        self._call("norm", size(index), size(which), weight, ctypes.c_double(norm.epsilon))

    def _kernel(self, name: str) -> Callable[..., int]:
        kernel = self._library.kernel(f"decode_{name}")
        assert kernel is not None
        return kernel

    def _call(self, name: str, *arguments: Any, handle: bool = True) -> None:
        answer = self._kernel(name)(*((self._handle,) if handle else ()), *arguments)
        if answer:
            raise InputError(_REFUSALS[answer].format(context=self._context, vocabulary=self._vocabulary))
