"""Laws of the dimension algebra."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pomona.graph.algebra import Misfit, cut, reshape, split, unify
from pomona.graph.expr import Atom, Const, Expr, atoms, freeze, index, leaves, norm, positions, product_of, size, sum_of


@st.composite
def expressions(draw, depth: int = 2) -> Expr:
    kind = draw(st.sampled_from(("const", "atom", "product", "sum") if depth else ("const", "atom")))
    if kind == "const":
        return Const(draw(st.integers(1, 4)))
    if kind == "atom":
        return Atom(draw(st.integers(2, 5)))
    parts = draw(st.lists(expressions(depth - 1), min_size=2, max_size=3))
    return product_of(parts) if kind == "product" else sum_of(parts)


@st.composite
def kept(draw) -> tuple[Expr, dict[Atom, Tensor]]:
    e = draw(expressions())
    keep = {}
    for atom in atoms(e):
        mask = draw(st.lists(st.booleans(), min_size=atom.n, max_size=atom.n))
        keep[atom] = torch.tensor(mask).nonzero().flatten()
    return e, keep


def factorings(n: int) -> list[tuple[int, ...]]:
    return [(n,)] + [(d, *rest) for d in range(2, n) if n % d == 0 for rest in factorings(n // d)]


@given(kept())
def test_size_counts_what_index_lists(case):
    e, keep = case
    kept_positions = index(e, keep)
    assert len(kept_positions) == size(e, keep) == size(e, {a: len(k) for a, k in keep.items()})
    assert torch.equal(kept_positions, kept_positions.unique())
    assert not len(kept_positions) or int(kept_positions[-1]) < e.n


@given(kept())
def test_index_is_what_no_dead_unit_reaches(case):
    e, keep = case
    alive = torch.ones(norm(e).n, dtype=torch.bool)
    for atom, k in keep.items():
        dead = torch.ones(atom.n, dtype=torch.bool)
        dead[k] = False
        alive[positions(e, atom)[dead].flatten()] = False
    assert torch.equal(index(e, keep), alive.nonzero().flatten())


@given(expressions(), expressions())
def test_unify_keeps_sizes_and_makes_indices_equal(x, y):
    n = x.n * y.n
    x, y = product_of((x, Const(y.n))), product_of((y, Const(x.n)))
    unify(x, y)
    assert norm(x).n == norm(y).n == n
    halves = {a: torch.arange(0, a.n, 2) for a in atoms(x, y)}
    assert torch.equal(index(x, halves), index(y, halves))
    unify(x, y)
    assert atoms(x, y).keys() == halves.keys()


@given(expressions(), st.data())
def test_a_view_and_back_is_the_same_dimension(e, data):
    n = e.n
    shape = data.draw(st.sampled_from(factorings(n)))
    there = reshape((e,), shape)
    assert tuple(d.n for d in there) == shape
    (back,) = reshape(there, (n,))
    halves = {a: torch.arange(0, a.n, 2) for a in atoms(e, back)}
    assert torch.equal(index(back, halves), index(e, halves))


@given(expressions(), st.data())
def test_cut_pieces_add_up(e, data):
    k = data.draw(st.integers(0, e.n))
    head, tail = cut(e, k)
    assert (head.n, tail.n) == (k, norm(e).n - k)
    halves = {a: torch.arange(0, a.n, 2) for a in atoms(e)}
    assert torch.equal(index(sum_of((head, tail)), halves), index(e, halves))


def test_an_atom_splits_everywhere_at_once():
    width = Atom(12)
    rows = sum_of((width, width))
    outer, inner = split(width, 3)
    assert [leaf.n for leaf in leaves(rows)] == [3, 4, 3, 4]
    assert size(rows, {outer: 2, inner: 3}) == 12


def test_a_sum_splits_block_by_block_and_its_blocks_are_alike_inside():
    a, b = Atom(4), Atom(6)
    outer, inner = split(sum_of((a, b)), 5)
    assert (outer.n, inner.n) == (5, 2)
    assert size(a, {inner: 1}) == 2 and size(b, {inner: 1}) == 3


def test_frozen_is_being_bound_to_a_reason_and_spreads_by_equality():
    a, b = Atom(6), Atom(6)
    unify(a, b)
    freeze(b, "output")
    assert isinstance(norm(a), Const) and norm(a).why == "output" and norm(a) is norm(b)


def test_a_block_that_does_not_align_freezes_alone():
    a, b, c = Atom(9), Atom(4), Atom(5)
    shape = reshape((c, a, b), (5, 4, 9))
    assert norm(shape[0]) is c and not atoms(a, b)


def test_the_cut_through_a_constant_number_of_blocks_unrolls_one():
    inner = Atom(4)
    head, tail = cut(product_of((Const(3), inner)), 6)
    assert head.n == tail.n == 6 and [leaf.n for leaf in atoms(inner)] == [2, 2]


def test_unequal_lengths_are_a_misfit():
    try:
        unify(Atom(3), Atom(4))
    except Misfit as error:
        assert "3" in str(error) and "4" in str(error)
    else:
        raise AssertionError


def test_a_unit_of_the_inner_factor_lies_once_in_every_outer_block():
    heads, width = Atom(2), Atom(3)
    rows = product_of((Const(2), heads, width))
    assert positions(rows, heads).tolist() == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]
    assert positions(rows, width).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_positions_of_an_atom_squared_count_the_diagonal_once():
    a = Atom(3)
    assert positions(product_of((a, a)), a).tolist() == [[0, 1, 2, 3, 6], [1, 3, 4, 5, 7], [2, 5, 6, 7, 8]]


def test_sizes_multiply_like_the_shape():
    a, b = Atom(3), Atom(5)
    assert size(product_of((a, Const(7), b)), {}) == prod((3, 7, 5))
