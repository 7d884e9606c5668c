"""Ops written down as a model calls them, on tensors that have shapes and no values.

Whatever a call makes of arguments of these shapes is worked out once: the next call like it costs some twenty microseconds, and
networks repeat themselves.
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils._mode_utils import no_dispatch

_LIFT = torch.ops.aten.lift_fresh.default


class Beyond(Exception):
    """What is being traced needs more than ops written down one after the other."""


@dataclass(frozen=True, eq=False)
class _Made:
    """One output of a call: its form, and the place of the tensor among those that went in that it is or lies in the memory of.

    A form is what calls depend on: (shape, strides, dtype, device, whether it needs a gradient). `offset` is counted from where
    the other begins.
    """

    form: tuple[Any, ...]
    same: int | None = None
    within: int | None = None
    offset: int = 0


@dataclass(frozen=True, eq=False)
class _Known:
    """What a tensor knows of itself: the node that it comes from, its form, and a tensor that lies in the same memory."""

    node: Any  # None before there is one
    form: tuple[Any, ...]
    inside: Tensor


class Recorder(ProxyTorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it every call of an op becomes a node of `graph`, before torch takes composite ops apart.

    Each tensor knows its node; an op in place moves it on to its own. `constants` has the tensors that are no parameters,
    buffers or inputs, by name. Raises Beyond where more than ops happens: autocast, a region without gradients that parameters
    reach, tensors from nowhere.
    """

    def __init__(self, model: nn.Module, stacks: bool) -> None:
        super().__init__(None, "fake", True)  # type: ignore[arg-type]
        self.graph, self.fake, self.stacks = fx.Graph(), FakeTensorMode(allow_non_fake_inputs=True), stacks
        self._fakes: dict[int, FakeTensor] = {}  # by the id of what they stand for
        self.constants: dict[str, tuple[fx.Node, Tensor]] = {}
        self.model = model
        self.first: fx.Node | None = None  # of the user's inputs
        self._seen: dict[Any, tuple[list[_Made | None], type | None]] = {}
        self._grad = torch.is_grad_enabled()
        self._paths: dict[nn.Module, list[str]] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            self._paths.setdefault(module, []).append(path)
        self._running: dict[str, tuple[str, str]] = {}  # modules, the innermost last

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # a wrapper around every call, which takes as long as the rest
        return False

    def faked(self, tensor: Tensor) -> FakeTensor:
        """A stand-in for a tensor, the same whenever it is asked for."""
        found = self._fakes.get(id(tensor))
        if found is None:
            plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
            if not plain or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
                raise Beyond(f"a {type(tensor).__name__}")
            form = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad)
            inside = _memory(form)
            found = self._fakes[id(tensor)] = self._fake(form, inside)
            self._mark(found, _Known(None, form, inside))
            if isinstance(tensor, nn.Parameter):
                found._is_param = True  # type: ignore[attr-defined]
        return found

    def placeholder(self, name: str, value: Any) -> fx.Node:
        """An input of the program."""
        node = self.graph.placeholder(re.sub(r"\W", "_", name))
        node.target = node.name
        node.meta["val"] = value
        if isinstance(value, FakeTensor):
            known: _Known = vars(value)["known"]
            self._mark(value, replace(known, node=node))
        return node

    def node_of(self, tensor: Tensor) -> fx.Node:
        """Where a tensor comes from."""
        node: fx.Node = self._read(tensor)[1].node
        return node

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Write the call down and return what it makes."""
        kwargs = kwargs or {}
        if func is _LIFT:
            return self._lifted(args[0])
        if torch._C._is_any_autocast_enabled():
            raise Beyond("autocast")
        tensors: list[FakeTensor] = []
        given = [self._argument(a, tensors) for a in args]
        named = {name: self._argument(a, tensors) for name, a in kwargs.items()}
        key = (func, *[k for _, k, _ in given], *[(name, k) for name, (_, k, _) in named.items()], torch.is_grad_enabled())
        found, out = self._seen.get(key), None
        if found is None:
            with torch.no_grad():
                out = func(*[a for _, _, a in given], **{name: a for name, (_, _, a) in named.items()})
            if not any(isinstance(t, Tensor) for t in (out if isinstance(out, (list, tuple)) else (out,))):
                return out
            found = self._look(out, tensors)
            if all(t.constant is None for t in tensors):  # torch follows the values of those, and what they make has values, too
                self._seen[key], out = found, None
        node = self._node(func, tuple([a for a, _, _ in given]), {name: a for name, (a, _, _) in named.items()})
        return self._write(node, tensors, *found, out)

    def _look(self, out: Any, tensors: list[FakeTensor]) -> tuple[list[_Made | None], type | None]:
        """What a call made of these tensors, and in what it came: a list, a tuple or neither."""
        grows = any(t.requires_grad for t in tensors)
        if grows and self._grad and not torch.is_grad_enabled():
            raise Beyond("a part without gradients")
        kind = type(out) if type(out) in (list, tuple) else None
        memories = [t.untyped_storage()._cdata for t in tensors]
        made: list[_Made | None] = []
        for t in out if kind else (out,):
            if not isinstance(t, FakeTensor):
                made.append(None)
                continue
            form = (t.shape, t.stride(), t.dtype, t.fake_device, grows and (t.is_floating_point() or t.is_complex()))
            same = next((place for place, other in enumerate(tensors) if other is t), None)
            if same is not None and form[:4] != self._read(t)[1].form[:4]:
                raise Beyond("a tensor that gets another shape in place")
            memory = t.untyped_storage()._cdata
            within = memories.index(memory) if memory in memories else None
            begins = 0 if within is None else tensors[within].storage_offset()
            made.append(_Made(form, same, within, int(t.storage_offset() - begins)))
        return made, kind

    def _write(self, node: fx.Node, tensors: list[FakeTensor], made: list[_Made | None], kind: type | None, out: Any) -> Any:
        """The outputs: what torch gave (`out`) or new ones; each knows where it comes from, and the nodes show what it is."""
        ready = [None] * len(made) if out is None else list(out) if kind else [out]
        pictures: list[FakeTensor | None] = []
        for place, m in enumerate(made):
            if m is None:
                pictures.append(None)
                continue
            inside = self._inside(m, tensors)
            # Nodes show a tensor of its own: where torch wraps a new tensor anew it must be its only owner.
            pictures.append(self._fake(m.form, inside))
            fake = ready[place]
            if fake is None:
                fake = self._fake(m.form, inside) if m.same is None else tensors[m.same]
            if m.form[4] and not fake.requires_grad:
                fake.requires_grad = True
            source = node
            if kind is not None:
                source = self._node(operator.getitem, (node, place), {})
                source.meta["val"] = pictures[-1]
            self._mark(fake, _Known(source, m.form, inside))
            ready[place] = fake
        node.meta["val"] = kind(pictures) if kind else pictures[0]
        return kind(ready) if kind else ready[0]

    def _node(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        name = None if target is operator.getitem else target.overloadpacket.__name__
        node = self.graph.create_node("call_function", target, args, kwargs, name)
        node.meta["nn_module_stack"] = self._running
        if self.stacks:
            node.meta["stack_trace"] = _stack(sys._getframe(1))
        return node

    def _argument(self, a: Any, tensors: list[FakeTensor]) -> tuple[Any, Any, Any]:
        """An argument (as the node has it, as calls are told apart by it, as the op gets it)."""
        if isinstance(a, Tensor):
            fake, known = self._read(a)
            tensors.append(fake)
            return known.node, known.form, fake
        if type(a) in (list, tuple):
            parts = [self._argument(part, tensors) for part in a]
            return [n for n, _, _ in parts], tuple([k for _, k, _ in parts]), [value for _, _, value in parts]
        return a, (type(a), a), a  # 1, 1.0 and True are equal

    def _read(self, t: Tensor) -> tuple[FakeTensor, _Known]:
        if not isinstance(t, FakeTensor):
            t = self._fakes[id(t)] if id(t) in self._fakes else self._constant(t)
        found = vars(t).get("known")
        if found is None or found.node is None:
            raise Beyond("a tensor from nowhere")
        return t, found

    def _mark(self, t: FakeTensor, known: _Known) -> None:
        t.known = known  # type: ignore[attr-defined]

    def _constant(self, tensor: Tensor) -> FakeTensor:
        """A tensor that a module holds as a plain attribute, or that code wrote down, is one more input of the program."""
        held = (
            f"{path}.{name}" if path else name
            for path, module in self.model.named_modules()
            for name, value in vars(module).items()
            if value is tensor
        )
        written = sum(name.startswith("lifted_tensor") for name in self.constants)
        name = next(held, None) or f"lifted_tensor_{written}"
        fake = self.faked(tensor)
        with self.graph.inserting_before(self.first):  # type: ignore[arg-type]
            self.constants[name] = self.placeholder(f"c_{name}", fake), tensor
        return fake

    def _lifted(self, tensor: Tensor) -> Any:
        """What `torch.tensor` made: a copy, since code may write into it. Torch follows the value of a single number."""
        source = self.node_of(tensor)
        with torch.no_grad():
            out = _LIFT(tensor)
        node = self._node(torch.ops.aten.lift_fresh_copy.default, (source,), {})
        return self._write(node, [], *self._look(out, []), out)

    def _inside(self, m: _Made, tensors: list[FakeTensor]) -> Tensor:
        """A tensor on no device that lies where an output does."""
        if m.within is None:
            return _memory(m.form)
        other = self._read(tensors[m.within])[1].inside
        with no_dispatch():
            begins = other.storage_offset() + m.offset if other.dtype == m.form[2] else 0  # complex numbers as pairs, say
            return torch.empty(0, dtype=m.form[2], device="meta").set_(other.untyped_storage(), begins, m.form[0], m.form[1])

    def _fake(self, form: tuple[Any, ...], inside: Tensor) -> FakeTensor:
        made = FakeTensor(self.fake, inside, form[3])
        if form[4]:
            made.requires_grad = True
        return made

    @contextmanager
    def naming_modules(self) -> Iterator[None]:
        """Within it nodes know which modules' forward is running. One with several names goes by that inside its caller."""
        plain = nn.Module.__call__

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            outer, names = self._running, self._paths.get(module)
            if names is not None:
                inner = f"{next(reversed(outer.values()))[0]}." if outer else ""
                path = names[0] if len(names) == 1 else next((name for name in names if name.startswith(inner)), names[0])
                kind = f"{type(module).__module__}.{type(module).__qualname__}"
                self._running = {**outer, f"L__self__{path}": (path, kind)}
            try:
                return plain(module, *args, **kwargs)
            finally:
                self._running = outer

        nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = plain  # type: ignore[method-assign]


def _memory(form: tuple[Any, ...]) -> Tensor:
    shape, strides, dtype, _, _ = form
    with no_dispatch():
        return torch.empty_strided(shape, strides, dtype=dtype, device="meta")


def _stack(frame: FrameType | None) -> str:
    """The lines of modules' forward on the way to a call, outermost first, as torch writes them."""
    lines: list[str] = []
    while frame is not None:
        if frame.f_code.co_name == "forward":
            lines.append(f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in forward')
        frame = frame.f_back
    return "\n".join(reversed(lines))
