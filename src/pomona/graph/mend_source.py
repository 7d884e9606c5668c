"""The source of a function as a tree, and how a call in it is given other sizes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import getsource
from textwrap import dedent
from types import CodeType, FunctionType

from pomona.graph.mend_calls import KIND, Call

NUMBERS = "resized"  # the attribute with the factors of each call


class Unreadable(Exception):
    """The source of some code cannot be found, or the call cannot be found in it."""


@dataclass(frozen=True, eq=False)
class Source:
    """The source of a function as a tree, with lines and columns as in its file."""

    tree: ast.FunctionDef
    indent: int
    function: FunctionType
    holder: type
    name: str

    @classmethod
    def of(cls, function: FunctionType, holder: type, name: str) -> Source:
        """Of a function that `holder` is to have under a name. Raises Unreadable."""
        try:
            text = getsource(function)
            tree = ast.parse(dedent(text)).body[0]
        except (OSError, SyntaxError, IndexError) as error:
            raise Unreadable(f"the source of {function.__qualname__} cannot be read ({error})") from None
        if not isinstance(tree, ast.FunctionDef):
            raise Unreadable(f"{function.__qualname__} is no plain function")
        ast.increment_lineno(tree, function.__code__.co_firstlineno - 1)
        return cls(tree, len(text) - len(text.lstrip(" ")), function, holder, name)

    def bound(self) -> Source:
        """A function that is to be called as a method takes the module first."""
        code = self.function.__code__
        if "self" in (*code.co_varnames, *code.co_freevars, *code.co_names):
            raise Unreadable(f"{code.co_name} has a `self` of its own")
        given = self.tree.args
        (given.posonlyargs or given.args).insert(0, ast.arg("self"))
        return self

    def call_own(self, site: Call, called: str, name: str) -> None:
        """Call the module's own method instead of a function, at one place."""
        node = self._found(site)
        if not isinstance(node, ast.Call) or _called(node) != called:
            raise Unreadable(f"`{called}` is not called by its name in line {site.line}")
        node.func = ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load())

    def mend(self, call: Call, number: int, wrong: Sequence[bool]) -> None:
        """Put the factors of one call into it."""
        factors = ast.Subscript(
            ast.Attribute(ast.Name("self", ast.Load()), NUMBERS, ast.Load()), ast.Constant(number), ast.Load()
        )
        node = self._found(call)
        if isinstance(node, ast.Call) and call.kind == "attention":
            node.keywords.append(ast.keyword("scale", factors))
        elif isinstance(node, ast.Call) and call.kind in ("shape", "expand", "split", "pieces", "made", "normed"):
            _resize(node, factors, wrong, call.kind)
        elif isinstance(node, (ast.BinOp, ast.AugAssign)):
            self._replace(node, ast.Mult() if call.kind == "times" else ast.Div(), factors)
        else:
            raise Unreadable(f"a call in line {call.line} has no form that is known")

    def _found(self, call: Call) -> ast.AST:
        if call.column is None:
            candidates = [n for n in ast.walk(self.tree) if _is(n, call.kind, by_name=True)]
            here = [n for n in candidates if getattr(n, "lineno", 0) <= call.line <= (getattr(n, "end_lineno", None) or 0)]
        else:  # whatever the function is called here
            candidates = [n for n in ast.walk(self.tree) if _is(n, call.kind, by_name=False)]
            here = [n for n in candidates if (_end(n)[0], _end(n)[1] + self.indent) == (call.line, call.column)]
        if len(here) != 1:
            raise Unreadable(f"a call in line {call.line} cannot be told from others: `{call.code.co_name}`")
        return here[0]

    def _replace(self, old: ast.AST, op: ast.operator, factors: ast.expr) -> None:
        """`x * s` -> `x * s * factor`."""
        if isinstance(old, ast.AugAssign):
            old.value = ast.BinOp(old.value, ast.Mult(), factors)
            return
        assert isinstance(old, ast.BinOp)
        inner = ast.BinOp(old.left, old.op, old.right)
        old.left, old.op, old.right = inner, op, factors

    def compiled(self) -> FunctionType:
        """The function of the changed tree, with the globals, defaults and closure of the old one."""
        function = self.function
        self.tree.decorator_list = []
        self.tree.returns = None
        for argument in ast.walk(self.tree):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        given = self.tree.args
        given.defaults = [ast.Constant(None) for _ in given.defaults]
        given.kw_defaults = [None if d is None else ast.Constant(None) for d in given.kw_defaults]
        free = function.__code__.co_freevars
        outer: ast.Module = ast.parse(f"def outer({', '.join(free)}):\n    return None")
        outer.body[0].body.insert(0, self.tree)  # type: ignore[attr-defined]
        code = compile(ast.fix_missing_locations(outer), function.__code__.co_filename, "exec")
        inner = _code_named(code, function.__name__)
        cells = dict(zip(free, function.__closure__ or (), strict=True))
        made = FunctionType(
            inner, function.__globals__, function.__name__, function.__defaults__, tuple(cells[n] for n in inner.co_freevars)
        )
        made.__kwdefaults__, made.__doc__, made.__qualname__ = function.__kwdefaults__, function.__doc__, function.__qualname__
        made.__annotations__, made.__module__ = function.__annotations__, function.__module__
        return made


def _code_named(code: CodeType, name: str) -> CodeType:
    outer = next(c for c in code.co_consts if isinstance(c, CodeType))
    return next(c for c in outer.co_consts if isinstance(c, CodeType) and c.co_name == name)


def _is(n: ast.AST, kind: str, by_name: bool) -> bool:
    if kind in ("times", "over"):
        operation = ast.Mult if kind == "times" else ast.Div
        return isinstance(n, (ast.BinOp, ast.AugAssign)) and isinstance(n.op, operation)
    return isinstance(n, ast.Call) and (
        not by_name or kind == "function" or KIND.get(_called(n)) == ("split" if kind == "pieces" else kind)
    )


def _called(n: ast.Call) -> str:
    return n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "")


def _end(n: ast.AST) -> tuple[int, int]:
    return getattr(n, "end_lineno", None) or 0, getattr(n, "end_col_offset", None) or 0


def _resize(node: ast.Call, factors: ast.expr, wrong: Sequence[bool], kind: str) -> None:
    """Multiply the sizes that a call lists; where they come as one value, every one of them."""
    start = int(kind != "made" and _is_function(node))  # `torch.split(x, n)` names the tensor first
    given = node.args[start:]
    if not given or (node.keywords and kind in ("shape", "expand")):
        raise Unreadable(f"a call in line {node.lineno} names its sizes")
    if kind == "pieces":
        node.args[start] = _listed("[n * p // q for p, q in factors]", given[0], factors)
    elif kind in ("split", "normed") and len(wrong) == 1 and not isinstance(given[0], (ast.Tuple, ast.List)):
        node.args[start] = _times(given[0], factors, 0)
    elif kind in ("split", "normed") or (len(given) == 1 and (len(wrong) > 1 or isinstance(given[0], (ast.Tuple, ast.List)))):
        node.args[start] = _whole(given[0], factors, wrong)
    elif len(given) == len(wrong) and not any(isinstance(e, ast.Starred) for e in given):
        node.args[start:] = [_times(e, factors, k) if bad else e for k, (e, bad) in enumerate(zip(given, wrong, strict=True))]
    else:
        node.args[start:] = [_whole(ast.Tuple(given, ast.Load()), factors, wrong)]


def _whole(sizes: ast.expr, factors: ast.expr, wrong: Sequence[bool]) -> ast.expr:
    """One value that lists all sizes: place by place where it is written out, otherwise whatever it holds."""
    if isinstance(sizes, ast.Starred):
        sizes = sizes.value
    written = sizes.elts if isinstance(sizes, (ast.Tuple, ast.List)) else []
    if len(written) == len(wrong) and not any(isinstance(e, ast.Starred) for e in written):
        pairs = enumerate(zip(written, wrong, strict=True))
        return ast.Tuple([_times(e, factors, k) if bad else e for k, (e, bad) in pairs], ast.Load())
    return _listed("[n * p // q for n, (p, q) in zip(sizes, factors)]", sizes, factors)


def _listed(pattern: str, sizes: ast.expr, factors: ast.expr) -> ast.expr:
    """A comprehension in which `n` or `sizes`, and `factors`, stand for expressions."""

    class Filled(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.expr:
            single = name.id == "n" and "zip" not in pattern
            return sizes if name.id == "sizes" or single else factors if name.id == "factors" else name

    filled: ast.Expression = Filled().visit(ast.parse(pattern, mode="eval"))
    return filled.body


def _is_function(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) or (
        isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) in ("torch", "F", "nn.functional", "torch.nn.functional")
    )


def _times(e: ast.expr, factors: ast.expr, place: int) -> ast.expr:
    """`e * p // q`."""

    def part(number: int) -> ast.expr:
        return ast.Subscript(ast.Subscript(factors, ast.Constant(place), ast.Load()), ast.Constant(number), ast.Load())

    return ast.BinOp(ast.BinOp(e, ast.Mult(), part(0)), ast.FloorDiv(), part(1))
