"""The source of a function as a tree, and how a call in it is given other sizes."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from inspect import findsource
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias

from pomona.graph.mend_edits import bounded, named, resize, times
from pomona.graph.mend_kinds import KIND
from pomona.graph.mend_places import Call

NUMBERS = "resized"  # the attribute with the factors of each call
Def: TypeAlias = ast.FunctionDef | ast.Lambda


class Unreadable(Exception):
    """The source of some code cannot be found, or the call cannot be found in it."""


@dataclass(frozen=True, eq=False)
class Source:
    """The source of a function as a tree, with lines and columns as in its file.

    `numbers` is how its code reaches the factors; `itself` is its name for the module.
    """

    tree: ast.FunctionDef
    function: FunctionType
    holder: type
    name: str
    numbers: ast.expr
    itself: str = ""

    @classmethod
    def of(cls, function: FunctionType, holder: type, name: str, held: bool = False) -> Source:
        """Of a method that `holder` is to have under a name, or of a function that a module holds. Raises Unreadable."""
        tree = _tree(function)
        given = [*tree.args.posonlyargs, *tree.args.args]
        if held:
            return cls(tree, function, holder, name, ast.Name(NUMBERS, ast.Load()))
        if not given:
            raise Unreadable(f"{function.__qualname__} takes no module")
        return cls(tree, function, holder, name, _numbers_of(given[0].arg), given[0].arg)

    @classmethod
    def bound(cls, function: FunctionType, holder: type, name: str) -> Source:
        """Of a function that is to be called as a method: it takes the module first."""
        tree, itself = _tree(function), "resized_module"
        (tree.args.posonlyargs or tree.args.args).insert(0, ast.arg(itself))
        return cls(tree, function, holder, name, _numbers_of(itself), itself)

    def call_own(self, site: Call, called: FunctionType, name: str) -> None:
        """Call the module's own method instead of a function, at one place."""
        node = self._found(site)
        if not isinstance(node, ast.Call) or (named(node) != called.__name__ and self._value(node.func) is not called):
            raise Unreadable(f"`{called.__name__}` is not called by its name in line {site.line}")
        node.func = ast.Attribute(ast.Name(self.itself, ast.Load()), name, ast.Load())

    def mend(self, call: Call, number: int, wrong: Sequence[bool]) -> None:
        """Put the factors of one call into it."""
        factors = ast.Subscript(self.numbers, ast.Constant(number), ast.Load())
        node = self._found(call)
        fits = True
        if isinstance(node, ast.Subscript):
            fits = bounded(node, factors, wrong)
        elif isinstance(node, ast.Call) and call.kind == "attention":
            node.keywords.append(ast.keyword("scale", factors))
        elif isinstance(node, ast.Call):
            fits = resize(node, call.kind, factors, wrong, self._is_function(node))
        else:
            times(node, factors, call.kind)
        if not fits:
            raise Unreadable(f"a call in line {call.line} names its sizes in another way")

    def _found(self, call: Call) -> ast.AST:
        candidates = [n for n in ast.walk(self.tree) if _is(n, call.kind, by_name=call.column is None)]
        if call.column is None:
            here = [n for n in candidates if getattr(n, "lineno", 0) <= call.line <= (getattr(n, "end_lineno", None) or 0)]
        else:  # whatever the function is called here
            here = [n for n in candidates if _end(n) == (call.line, call.column)]
            here = [n for n in here if _begin(n) == call.begin] if len(here) > 1 else here
        if len(here) != 1:
            raise Unreadable(f"a call in line {call.line} cannot be told from others: `{call.code.co_name}`")
        return here[0]

    def _value(self, e: ast.expr) -> Any:
        """What a name, or an attribute of a module, stands for in the code; None for all else."""
        if isinstance(e, ast.Name):
            return self.function.__globals__.get(e.id)
        holder = self._value(e.value) if isinstance(e, ast.Attribute) else None
        return getattr(holder, e.attr, None) if isinstance(e, ast.Attribute) and isinstance(holder, (ModuleType, type)) else None

    def _is_function(self, node: ast.Call) -> bool:
        """`torch.split(x, n)` names the tensor first, `x.split(n)` does not."""
        return not isinstance(node.func, ast.Attribute) or isinstance(self._value(node.func.value), (ModuleType, type))

    def compiled(self, cells: Mapping[str, Any] | None = None) -> FunctionType:
        """The function of the changed tree, with the globals, defaults and closure of the old one, and these values as well."""
        function, given = self.function, self.tree.args
        given.defaults = [ast.Constant(None) for _ in given.defaults]
        given.kw_defaults = [None if d is None else ast.Constant(None) for d in given.kw_defaults]
        held = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        held |= {name: _cell(value) for name, value in (cells or {}).items()}
        # Within a class, names with two underscores mean what they mean there.
        within = ([*function.__qualname__.split("."), ""])[-3] if "." in function.__qualname__ else ""
        outer: Any = ast.parse(f"def outer({', '.join(held)}):\n class {within if within.isidentifier() else 'Held'}:\n  pass")
        outer.body[0].body[0].body = [self.tree]
        code = compile(ast.fix_missing_locations(outer), function.__code__.co_filename, "exec")
        inner = _code_named(code, self.tree.name)
        own = tuple(held[name] for name in inner.co_freevars)
        made = FunctionType(inner, function.__globals__, function.__name__, function.__defaults__, own)
        made.__kwdefaults__, made.__doc__, made.__qualname__ = function.__kwdefaults__, function.__doc__, function.__qualname__
        made.__annotations__, made.__module__ = function.__annotations__, function.__module__
        return made


def _numbers_of(itself: str) -> ast.expr:
    return ast.Attribute(ast.Name(itself, ast.Load()), NUMBERS, ast.Load())


def _tree(function: FunctionType) -> ast.FunctionDef:
    """The function's own part of its file, without decorators and annotations."""
    code = function.__code__
    try:
        file = _parsed("".join(findsource(code)[0]))
    except (OSError, SyntaxError) as error:
        raise Unreadable(f"the source of {function.__qualname__} cannot be read ({error})") from None
    here = [n for n in ast.walk(file) if isinstance(n, Def) and _first_line(n) == code.co_firstlineno and _same(n, code)]
    if len(here) != 1:
        raise Unreadable(f"{function.__qualname__} is no plain function")
    tree = deepcopy(here[0])
    if isinstance(tree, ast.Lambda):
        tree = ast.FunctionDef("held", tree.args, [ast.copy_location(ast.Return(tree.body), tree.body)], [])
    tree.decorator_list, tree.returns = [], None
    for argument in ast.walk(tree):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return tree


@lru_cache(maxsize=16)
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _first_line(n: Def) -> int:
    return min([n.lineno, *(d.lineno for d in (n.decorator_list if isinstance(n, ast.FunctionDef) else ()))])


def _same(n: Def, code: CodeType) -> bool:
    """Whether a function of the file may be this one: of its name, or with its body where it has none."""
    if isinstance(n, ast.FunctionDef):
        return n.name == code.co_name
    body = (n.body.lineno, n.body.end_lineno, n.body.col_offset, n.body.end_col_offset)
    return code.co_name == "<lambda>" and (not hasattr(code, "co_positions") or body in set(code.co_positions()))


def _cell(value: Any) -> Any:
    return (lambda: value).__closure__[0]  # type: ignore[index]


def _code_named(code: CodeType, name: str) -> CodeType:
    found = [c for c in code.co_consts if isinstance(c, CodeType)]
    return next((c for c in found if c.co_name == name), None) or _code_named(found[0], name)


def _is(n: ast.AST, kind: str, by_name: bool) -> bool:
    if kind == "slice":
        return isinstance(n, ast.Subscript)
    if isinstance(n, ast.Call):
        return not by_name or kind == "function" or KIND.get(named(n)) == ("split" if kind == "pieces" else kind)
    operation = {"times": ast.Mult, "over": ast.Div}.get(kind)
    return operation is not None and isinstance(n, (ast.BinOp, ast.AugAssign)) and isinstance(n.op, operation)


def _begin(n: ast.AST) -> tuple[int | None, int | None]:
    return getattr(n, "lineno", None), getattr(n, "col_offset", None)


def _end(n: ast.AST) -> tuple[int, int]:
    return getattr(n, "end_lineno", None) or 0, getattr(n, "end_col_offset", None) or 0
