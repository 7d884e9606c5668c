"""Products with packed weights as operations of torch, so that torch.compile and torch.export take them as they are.

Defined by `torch.library.define` and not by `custom_op`: the same for compilers, a third of the time in eager mode.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pomona.runtime.formats.conv_format import ConvFormat
from pomona.runtime.formats.format import Format
from pomona.runtime.sparse.packed import About, Packed, made, unflat
from pomona.vocabulary import InputError

_WEIGHT = "Tensor[] parts, str[] names, str layout, str values, int[] shape, int[] geometry"
torch.library.define("pomona::sparse_linear", f"(Tensor x, Tensor? bias, {_WEIGHT}) -> Tensor")
torch.library.define("pomona::sparse_conv2d", f"(Tensor x, Tensor? bias, Tensor? residual, bool relu, {_WEIGHT}) -> Tensor")
torch.library.define("pomona::sparse_dense", f"({_WEIGHT}) -> Tensor")


@dataclass(frozen=True, eq=False)
class _Seen:
    """A weight that has been checked: its first part, and where every part lay and how often it had been written to."""

    first: weakref.ref[Tensor]
    about: About
    marks: list[tuple[int, int | None]]
    format: Format | ConvFormat

    def holds(self, parts: list[Tensor], about: About) -> bool:
        """Whether these are the parts, as they were."""
        if self.first() is not parts[0] or self.about != about:
            return False
        for part, (address, version) in zip(parts, self.marks, strict=True):
            if part.data_ptr() != address or (version is not None and part._version != version):
                return False
        return True


_seen: dict[int, _Seen] = {}  # by the id of the first part; an entry goes when that part goes


def checked(parts: list[Tensor], about: About) -> Any:
    """The format of these parts: checked in full when they are first seen or have been written to, not at every call.

    Raises InputError where they do not belong together.
    """
    key = id(parts[0])
    seen = _seen.get(key)
    if seen is None or not seen.holds(parts, about):
        marks = [(part.data_ptr(), None if part.is_inference() else part._version) for part in parts]
        # Of aliases: were it of the parts themselves, a weight would keep itself alive.
        found = made([part.detach() for part in parts], *about)
        seen = _seen[key] = _Seen(weakref.ref(parts[0], lambda gone: _forget(key, gone)), about, marks, found)
    return seen.format


def _forget(key: int, gone: weakref.ref[Tensor]) -> None:
    if key in _seen and _seen[key].first is gone:  # else another tensor has got the number since
        del _seen[key]


def _linear(x: Tensor, bias: Tensor | None, parts: list[Tensor], *about: Any) -> Tensor:
    found: Tensor = checked(parts, about).linear(x, bias)
    return found


def _fake_linear(
    x: Tensor, bias: Tensor | None, parts: list[Tensor], names: Any, layout: str, values: str, shape: Any, _: Any
) -> Tensor:
    return x.new_empty(x.shape[0], shape[0])


def _conv2d(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool, parts: list[Tensor], *about: Any
) -> Tensor:  # fmt: skip
    found: Tensor = checked(parts, about).conv(x, bias, residual, relu)
    return found


def _fake_conv2d(
    x: Tensor, bias: Any, residual: Any, relu: bool, parts: Any, names: Any, layout: str, values: str, shape: Any, geometry: Any
) -> Tensor:
    height, width = unflat(geometry).output((shape[2], shape[3]), (x.shape[2], x.shape[3]))
    return x.new_empty(x.shape[0], shape[0], height, width)


def _dense(parts: list[Tensor], *about: Any) -> Tensor:
    found: Tensor = checked(parts, about).dense()
    return found


def _fake_dense(parts: list[Tensor], names: Any, layout: str, values: str, shape: list[int], geometry: Any) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _elsewhere(x: Tensor, *about: Any) -> Tensor:
    raise InputError(f"Packed weights are multiplied on the CPU; the input is on {x.device}.")


torch.library.impl("pomona::sparse_linear", "CPU", _linear)
torch.library.impl("pomona::sparse_conv2d", "CPU", _conv2d)
torch.library.impl("pomona::sparse_dense", "CPU", _dense)
torch.library.impl("pomona::sparse_linear", "CUDA", _elsewhere)
torch.library.impl("pomona::sparse_conv2d", "CUDA", _elsewhere)
torch.library.register_fake("pomona::sparse_linear", _fake_linear)
torch.library.register_fake("pomona::sparse_conv2d", _fake_conv2d)
torch.library.register_fake("pomona::sparse_dense", _fake_dense)


def _keep_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.weight = inputs[2:]


def _linear_back(ctx: Any, gradient: Tensor) -> Any:
    return gradient @ sparse_dense(*ctx.weight), None, *_no_weight(ctx)


def _keep_conv2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, residual, relu, *ctx.weight = inputs
    ctx.residual = residual is not None
    ctx.save_for_backward(x, output if relu else None)


def _conv2d_back(ctx: Any, gradient: Tensor) -> Any:
    x, found = ctx.saved_tensors
    gradient = gradient if found is None else gradient * (found > 0)
    g = unflat(ctx.weight[-1])
    back = torch.ops.aten.convolution_backward(
        gradient, x, sparse_dense(*ctx.weight), None, g.stride, g.padding, g.dilation,
        False, (0, 0), g.groups, (True, False, False),
    )  # fmt: skip
    return back[0], None, gradient if ctx.residual else None, None, *_no_weight(ctx)


def _no_weight(ctx: Any) -> list[Any]:
    """No gradients for what makes up a weight, in lists where torch takes the arguments for lists of tensors."""
    return [[None] * len(w) if isinstance(w, list) and all(isinstance(t, Tensor) for t in w) else None for w in ctx.weight]


torch.library.register_autograd("pomona::sparse_linear", _linear_back, setup_context=_keep_linear)
torch.library.register_autograd("pomona::sparse_conv2d", _conv2d_back, setup_context=_keep_conv2d)
_ops = torch.ops.pomona
sparse_dense = _ops.sparse_dense.default


def sparse_linear(x: Tensor, bias: Tensor | None, parts: list[Tensor], *about: Any) -> Tensor:
    """X W^T + bias for float32 x (batch, columns); gradients go to x alone. Raises InputError within torch.jit.trace."""
    found: Tensor = (_linear if unheard(x) and not pulled(x) else _traceable(_ops.sparse_linear.default))(x, bias, parts, *about)
    return found


def sparse_conv2d(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool, parts: list[Tensor], *about: Any
) -> Tensor:  # fmt: skip
    """The convolution of float32 x (batch, channels, height, width), as `ConvFormat.conv`, and as `sparse_linear`."""
    direct = all(unheard(t) and not pulled(t) for t in (x, residual) if t is not None)
    found: Tensor = (_conv2d if direct else _traceable(_ops.sparse_conv2d.default))(x, bias, residual, relu, parts, *about)
    return found


def _traceable(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    if not _compiling() and _traced() is not None:
        raise InputError("torch.jit.trace has no words for packed layers; torch.export and torch.compile take them.")
    return operation


def unheard(x: Tensor) -> bool:
    """Whether an operation on x is nothing but its kernel: x is a plain tensor on the CPU, and nobody listens to torch.

    Then the way through torch's dispatcher, which costs more than a small layer, can be left out.
    """
    return (
        not _compiling()
        and type(x) is Tensor
        and x.is_cpu
        and not differentiated()
        and not _dispatch_modes()
        and not _function_modes()
        and not _profiled()
        and _traced() is None
    )


def pulled(x: Tensor) -> bool:
    """Whether a gradient is to go to x."""
    return x.requires_grad and torch.is_grad_enabled()


def differentiated() -> bool:
    """Whether torch.func is at work, or a forward-mode derivative: for these, torch multiplies by the dense weight."""
    return not _compiling() and (_transforms() is not None or forward_ad._current_level >= 0)


def plain_weight(packed: Packed) -> Tensor:
    """The dense weight, which is a constant to whatever `differentiated` says is at work."""
    with torch._C._DisableFuncTorch():
        dense: Tensor = packed()
    return dense


_compiling = torch.compiler.is_dynamo_compiling  # what exports without it has a mode
_transforms = torch._C._functorch.peek_interpreter_stack
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._is_torch_function_mode_enabled
_profiled = torch._C._autograd._profiler_enabled
_traced = torch._C._get_tracing_state
