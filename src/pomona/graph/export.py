"""The model as a graph of ATen ops, traced on fake tensors: nothing is computed and no weight is copied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from linecache import getline
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from pomona.graph.capture import capture
from pomona.graph.causal import unlooked
from pomona.graph.lengths import settle
from pomona.graph.nodes import tensor_names
from pomona.graph.quiet import quiet
from pomona.graph.records import make_known
from pomona.graph.rehearsal import tables
from pomona.graph.tables import emptied
from pomona.vocabulary import InputError, Untraceable, evaluating

# What goes wrong there was called from somewhere else.
_TORCH, _OURS = str(Path(torch.__file__).parent), str(Path(__file__).parents[1])


def export(model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None = None, *, stacks: bool = False) -> ExportedProgram:
    """The evaluation-mode forward pass of the model on these inputs.

    `args` is a tensor, a tuple of positional inputs, or a dict of keyword inputs. The model comes back as it was. The
    program's state holds the model's own tensors. With `stacks` every node says which line of code called it, which takes a
    fifth of the time. Raises Untraceable where the model cannot be traced, naming the module.
    """
    positional, keywords = inputs_of(args, kwargs)
    left = tables(model, positional, keywords)
    with evaluating(model), without_cache(model), emptied(model, left), quiet(), unlooked(), _with_stacks(stacks):
        try:
            program = _exported(model, positional, keywords, stacks)
        # Tracing runs the user's own forward pass, which may raise anything; it all means the same: no graph.
        except Exception as error:
            raise Untraceable(_explain(model, error)) from error
    _without_dead_code(program)
    try:
        settle(program)
    except RuntimeError as error:  # lengths that depend on data, where there are shapes alone
        raise Untraceable(_explain(model, error)) from error
    return program


def _without_dead_code(program: ExportedProgram) -> None:
    """Erase what nobody reads: what is computed for its shape alone holds nothing.

    A weight that meets the input stays, and what leads there, although its answer is unread (the pooler of a model that is not
    asked for it): the model's own code calls that layer, so its sizes must go on fitting.
    """
    names = tensor_names(program)
    held = {n for n in program.graph.find_nodes(op="placeholder") if n.name in names}
    live = set(program.graph.find_nodes(op="placeholder")) - held
    for n in program.graph.nodes:
        if not live.isdisjoint(n.all_input_nodes):
            live.add(n)
        elif not held.isdisjoint(n.all_input_nodes):
            held.add(n)

    def stays(n: fx.Node) -> bool:
        return n.is_impure() or (n in live and not held.isdisjoint(n.all_input_nodes))

    if program.graph.eliminate_dead_code(stays):
        program.graph_module.recompile()


def runnable(program: ExportedProgram) -> nn.Module:
    """The program as a module. `train` and `eval` set flags and nothing else: the mode was settled when it was exported."""
    module = program.module()
    for name in ("train", "eval"):  # torch plants ones that raise
        vars(module).pop(name, None)
    return module.eval()


def inputs_of(args: Any, kwargs: Mapping[str, Any] | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as (positional, keywords); raises InputError when there is no tensor to start from."""
    keywords = dict(kwargs or {})
    if isinstance(args, Tensor):
        positional: tuple[Any, ...] = (args,)
    elif isinstance(args, Mapping):
        positional, keywords = (), {**args, **keywords}
    elif args is None and keywords:
        positional = ()
    elif isinstance(args, Sequence) and not isinstance(args, str):
        positional = tuple(args)
    else:
        raise InputError(f"Example inputs must be a tensor, a tuple or a dict of keyword inputs; got {type(args).__name__}.")
    make_known((positional, keywords))
    if not any(isinstance(leaf, Tensor) for leaf in torch.utils._pytree.tree_leaves((positional, keywords))):
        raise InputError("Example inputs must hold at least one tensor.")
    return positional, keywords


def _exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], stacks: bool) -> ExportedProgram:
    """The program, recorded where that is enough; once more where a dataclass that came out was in the way."""
    # Whatever goes wrong there, in torch or in the model's code, torch's own way may not mind, and it has the last word.
    try:
        return capture(model, args, kwargs, stacks)
    except Exception:
        pass
    try:
        return torch.export.export(model, args, kwargs, strict=False)
    except Exception:
        if not make_known(_answer(model, args, kwargs)):
            raise
    return torch.export.export(model, args, kwargs, strict=False)


@torch.no_grad()
def _answer(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the model's own code gives for these inputs; on a copy, since models may write to what they hold and get."""
    copy, args, kwargs = deepcopy((model, args, dict(kwargs)))
    return copy(*args, **kwargs)


@contextmanager
def _with_stacks(wanted: bool) -> Iterator[None]:
    """Whether torch writes the Python stack down at every op."""
    config: Any = torch.fx.config
    before = getattr(config, "do_not_emit_stack_traces", False)  # older releases do not look at it
    config.do_not_emit_stack_traces = not wanted
    try:
        yield
    finally:
        config.do_not_emit_stack_traces = before


@contextmanager
def without_cache(model: nn.Module) -> Iterator[None]:
    """Turn off key-value caches where a configuration has them: they are state, not part of the function."""
    configs = {id(c): c for m in model.modules() if (c := _config(m)) is not None and hasattr(c, "use_cache")}
    before = [(config, config.use_cache) for config in configs.values()]
    for config, _ in before:
        config.use_cache = False
    try:
        yield
    finally:
        for config, use in before:
            config.use_cache = use


def _config(module: nn.Module) -> Any:
    # What a module does not have takes it long to say.
    return module.config if "config" in vars(module) or hasattr(type(module), "config") else None


def _explain(model: nn.Module, error: Exception) -> str:
    place = where(model, error)
    reason = re.split(r"\n\s*\n|\n(?=\s*(?:While executing|The following|Suggested|For more|User code))", str(error).strip())[0]
    reason = " ".join(reason.split("(unhinted")[0].split())[:300].rstrip(".")
    return (
        f"{type(model).__name__} cannot be traced{place}: {type(error).__name__}: {reason}; "
        "give inputs that its forward accepts, or a forward without branches on tensor values."
    )


def where(model: nn.Module, error: Exception) -> str:
    """The innermost module of the model whose forward was running when the error arose, and the user's own line in it."""
    names = {id(module): name for name, module in model.named_modules()}
    inside, line = "", ""
    for frame, number in (place for raised in _chain(error) for place in walk_tb(raised.__traceback__)):
        code = frame.f_code
        running = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if id(running) not in names or code.co_name in ("_call_impl", "_wrapped_call_impl", "__getattr__"):
            continue
        if code.co_filename.startswith(_OURS):
            continue
        path = names[id(running)]
        inside = f" at module '{path}' ({type(running).__name__})" if path else ""
        if not code.co_filename.startswith(_TORCH):
            line = f", {Path(code.co_filename).name} line {number}, `{getline(code.co_filename, number).strip()}`"
    return inside + line


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those that it was raised from, the first cause last."""
    found = [error]
    while (cause := found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found
