"""What is written into the tree of a function where a call in it needs other sizes: `* p // q` behind those that are wrong."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from pomona.graph.mend_kinds import KINDS, Kind


def resize(node: ast.Call, kind: str, factors: ast.expr, wrong: Sequence[bool], function: bool) -> bool:
    """Multiply the sizes that a call lists; where they come as one value, every one of them. Whether it has such a form.

    `function` says that the tensor is among the arguments, as in `torch.split(x, n)`.
    """
    if kind in ("times", "over"):
        last = node.args[-1:]
        node.args[-1:] = [ast.BinOp(e, ast.Mult(), factors) for e in last]
        return bool(last)
    if kind == "chunk":
        return _in_parts(node, factors, function)
    where = KINDS["split" if kind == "pieces" else kind]
    start = where.at - (where.at > 0 and not function)
    if where.single:
        return _each(node, where, start, factors, wrong)
    words = [k for k in node.keywords if k.arg in where.words]
    given = [k.value for k in words] or node.args[start : None if where.rest else start + 1]
    if not given or any(k.arg is None for k in node.keywords):
        return False
    new = _pieces(given[0], factors) if kind == "pieces" else _resized(given, where.rest and not words, factors, wrong)
    if words:
        words[0].value = new[0]
    else:
        node.args[start : start + len(given)] = new
    return True


def _resized(given: list[ast.expr], rest: bool, factors: ast.expr, wrong: Sequence[bool]) -> list[ast.expr]:
    listed = isinstance(given[0], (ast.Tuple, ast.List))
    if not rest and len(wrong) == 1 and not listed:
        return [times_fraction(given[0], factors, 0)]
    if len(given) == 1 and (not rest or len(wrong) > 1 or listed):
        return [_whole(given[0], factors, wrong)]
    if len(given) == len(wrong) and not any(isinstance(e, ast.Starred) for e in given):
        return [times_fraction(e, factors, k) if bad else e for k, (e, bad) in enumerate(zip(given, wrong, strict=True))]
    return [_whole(ast.Tuple(given, ast.Load()), factors, wrong)]


def _each(node: ast.Call, where: Kind, start: int, factors: ast.expr, wrong: Sequence[bool]) -> bool:
    """Sizes that are arguments of their own."""
    words = {k.arg: k for k in node.keywords}
    for place, (word, bad) in enumerate(zip(where.words, wrong, strict=True)):
        if word in words:
            words[word].value = times_fraction(words[word].value, factors, place) if bad else words[word].value
        elif len(node.args) > start + place and not isinstance(node.args[start + place], ast.Starred):
            node.args[start + place] = (
                times_fraction(node.args[start + place], factors, place) if bad else node.args[start + place]
            )
        else:
            return False
    return True


def bounded(node: ast.Subscript, factors: ast.expr, wrong: Sequence[bool]) -> bool:
    """Multiply the bounds of slices. Whether they are written there."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if len(wrong) != 2 * len(parts):
        return False
    for place, bad in enumerate(wrong):
        part, side = parts[place // 2], ("lower", "upper")[place % 2]
        if bad and (not isinstance(part, ast.Slice) or getattr(part, side) is None):
            return False
        if bad:
            setattr(part, side, times_fraction(getattr(part, side), factors, place))
    return True


def times(node: ast.AST, factors: ast.expr, kind: str) -> None:
    """`x * s` -> `x * s * factor`."""
    if isinstance(node, ast.AugAssign):
        node.value = ast.BinOp(node.value, ast.Mult(), factors)
        return
    assert isinstance(node, ast.BinOp)
    inner = ast.BinOp(node.left, node.op, node.right)
    node.left, node.op, node.right = inner, ast.Mult() if kind == "times" else ast.Div(), factors


def _in_parts(node: ast.Call, factors: ast.expr, function: bool) -> bool:
    """`x.chunk(3, dim)` -> `(lambda whole: whole.split([whole.shape[dim] * p // q for p, q in factors], dim))(x)`.

    The tensor is an argument, so that it is worked out once wherever the call stands, what a comprehension goes over included.
    """
    words = {k.arg: k.value for k in node.keywords}
    behind = node.args[2:] if function else node.args[1:]
    dim = behind[0] if behind else words.get("dim", ast.Constant(0))
    tensor = node.func.value if isinstance(node.func, ast.Attribute) and not function else node.args[0]
    whole = ast.Name("resized_whole", ast.Load())
    length = ast.Subscript(ast.Attribute(whole, "shape", ast.Load()), dim, ast.Load())
    split = ast.Call(ast.Attribute(whole, "split", ast.Load()), [*_pieces(length, factors), dim], [])
    taken = ast.arguments(posonlyargs=[], args=[ast.arg("resized_whole")], kwonlyargs=[], kw_defaults=[], defaults=[])
    node.func, node.args, node.keywords = ast.Lambda(taken, split), [tensor], []
    return True


def _pieces(size: ast.expr, factors: ast.expr) -> list[ast.expr]:
    return [_listed("[n * p // q for p, q in factors]", size, factors)]


def _whole(sizes: ast.expr, factors: ast.expr, wrong: Sequence[bool]) -> ast.expr:
    """One value that lists all sizes: place by place where it is written out, otherwise whatever it holds."""
    if isinstance(sizes, ast.Starred):
        sizes = sizes.value
    written = sizes.elts if isinstance(sizes, (ast.Tuple, ast.List)) else []
    if len(written) == len(wrong) and not any(isinstance(e, ast.Starred) for e in written):
        pairs = enumerate(zip(written, wrong, strict=True))
        return ast.Tuple([times_fraction(e, factors, k) if bad else e for k, (e, bad) in pairs], ast.Load())
    return _listed("[n * p // q for n, (p, q) in zip(sizes, factors)]", sizes, factors)


def _listed(pattern: str, sizes: ast.expr, factors: ast.expr) -> ast.expr:
    """A comprehension in which `n` or `sizes`, and `factors`, stand for expressions."""

    class Filled(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.expr:
            single = name.id == "n" and "zip" not in pattern
            return sizes if name.id == "sizes" or single else factors if name.id == "factors" else name

    filled: ast.Expression = Filled().visit(ast.parse(pattern, mode="eval"))
    return filled.body


def named(node: ast.Call) -> str:
    """The name by which a function is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def times_fraction(e: ast.expr, factors: ast.expr, place: int) -> ast.expr:
    """`e * p // q`."""

    def part(number: int) -> ast.expr:
        return ast.Subscript(ast.Subscript(factors, ast.Constant(place), ast.Load()), ast.Constant(number), ast.Load())

    return ast.BinOp(ast.BinOp(e, ast.Mult(), part(0)), ast.FloorDiv(), part(1))
