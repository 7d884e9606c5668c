"""A program from one recorded forward pass: what `torch.export` makes of most models, in a fifth of its time.

Lengths and branches that depend on values, regions with settings of their own and whatever else takes more than a list of ops is
left to torch (`Beyond`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch._export.verifier import TrainingIRVerifier
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from pomona.graph.recorder import Beyond, Recorder
from pomona.graph.rehearsal import unchanged

_PLAIN = (int, float, bool, str, type(None))


def capture(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], stacks: bool = False) -> ExportedProgram:
    """The model's forward pass on inputs like these, as `torch.export.export` gives it, without its regions and assertions.

    The program's state holds the model's own tensors. With `stacks` nodes say which lines called them. Raises Beyond where a
    list of ops cannot say it, and whatever the model's own code raises; the model comes back as it was.
    """
    recorder = Recorder(model, stacks)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    passing = {name: t for name, t in buffers.items() if name in _not_saved(model)}
    saved = {name: t for name, t in buffers.items() if name not in passing}
    held = [_held(InputKind.PARAMETER, f"p_{name}", name, t, None, recorder) for name, t in parameters.items()]
    held += [_held(InputKind.BUFFER, f"b_{name}", name, t, name in saved, recorder) for name, t in buffers.items()]
    names = _names(model, args, kwargs)
    given, in_spec = pytree.tree_flatten((args, kwargs))
    users, faked = zip(*map(_user, _leaf_names(names, [*args, *kwargs.values()]), given, repeat(recorder)), strict=True)
    answers, out_spec = pytree.tree_flatten(_run(model, recorder, *pytree.tree_unflatten(faked, in_spec)))
    outputs, told = zip(*(_answer(answer, recorder) for answer in answers), strict=True) if answers else ((), ())
    recorder.graph.output(tuple(outputs))
    lifted = [InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(n.name), name) for name, (n, _) in recorder.constants.items()]
    return ExportedProgram(
        root=nn.Module(),
        graph=recorder.graph,
        graph_signature=ExportGraphSignature([*held, *lifted, *users], list(told)),
        state_dict=parameters | saved,
        range_constraints={},
        module_call_graph=[ModuleCallEntry("", ModuleCallSignature([], [], in_spec, out_spec, names))],
        example_inputs=(args, kwargs),
        constants={**passing, **{name: t for name, (_, t) in recorder.constants.items()}},
        verifiers=[TrainingIRVerifier],
    )


def _run(model: nn.Module, recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the model's code answers while its tensors are stand-ins."""
    with unchanged(model), _exporting(), recorder.naming_modules():
        stores: list[dict[str, Any]] = [store for m in model.modules() for store in (m._parameters, m._buffers)]
        for store in stores:
            store.update({name: recorder.faked(t) for name, t in store.items() if t is not None})
        before = [dict(store) for store in stores]
        with recorder.fake, torch._C._EnablePythonDispatcher(), recorder:
            answer = model(*args, **kwargs)
        if any(old[name] is not t for store, old in zip(stores, before, strict=True) for name, t in store.items()):
            raise Beyond("a buffer that is replaced")
        if any(isinstance(value, FakeTensor) for module in model.modules() for value in vars(module).values()):
            raise Beyond("a tensor that is left behind")
    return answer


@contextmanager
def _exporting() -> Iterator[None]:
    """Code may ask torch whether it is being exported, and then keeps to ops; fused layers are taken apart."""
    flags = ("_is_compiling_flag", "_is_exporting_flag")
    before, fast = {flag: getattr(torch.compiler, flag) for flag in flags}, torch.backends.mha.get_fastpath_enabled()
    try:
        vars(torch.compiler).update(dict.fromkeys(flags, True))
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        vars(torch.compiler).update(before)
        torch.backends.mha.set_fastpath_enabled(fast)


def _held(kind: InputKind, word: str, name: str, t: Tensor, saved: bool | None, recorder: Recorder) -> InputSpec:
    return InputSpec(kind, TensorArgument(recorder.placeholder(word, recorder.faked(t)).name), name, saved)


def _user(name: str, value: Any, recorder: Recorder) -> tuple[InputSpec, Any]:
    """An input of the program, and what the model is given for it."""
    faked = recorder.faked(value) if isinstance(value, Tensor) else value
    node = recorder.placeholder(name, faked)
    recorder.first = recorder.first or node
    argument = TensorArgument(node.name) if isinstance(value, Tensor) else ConstantArgument(node.name, value)
    return InputSpec(InputKind.USER_INPUT, argument, None), faked


def _answer(value: Any, recorder: Recorder) -> tuple[Any, OutputSpec]:
    """An output of the program: a node, or a value that it always has."""
    if isinstance(value, Tensor):
        node = recorder.node_of(value)
        return node, OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None)
    if not isinstance(value, _PLAIN):
        raise Beyond(f"an output that is a {type(value).__name__}")
    return value, OutputSpec(OutputKind.USER_OUTPUT, ConstantArgument("", value), None)


def _names(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """What the arguments are called, several behind a star by number."""
    signature, found = inspect.signature(model.forward), []
    for name, value in signature.bind_partial(*args).arguments.items():
        starred = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        found += [f"{name}_{number}" for number in range(len(value))] if starred else [name]
    return [*found, *kwargs]


def _leaf_names(names: Sequence[str], values: Sequence[Any]) -> Iterator[str]:
    for name, value in zip(names, values, strict=True):
        leaves = pytree.tree_leaves(value)
        yield from [name] if len(leaves) == 1 and leaves[0] is value else (f"{name}_{k}" for k in range(len(leaves)))


def _not_saved(model: nn.Module) -> set[str]:
    """Names of the buffers that the state of the model leaves out."""
    modules = model.named_modules(remove_duplicate=False)
    return {f"{path}.{name}" if path else name for path, module in modules for name in module._non_persistent_buffers_set}
