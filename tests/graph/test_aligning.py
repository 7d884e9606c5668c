"""Two factorings of one width that do not align: what they share at their ends can still be pruned, the middle cannot."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from halving import Does, halved
from pomona.graph.algebra import reshape, unify
from pomona.graph.expr import Atom, atoms, index, product_of

_LENGTHS = st.sampled_from([2, 3, 4, 6, 8, 9, 12])


@given(a=_LENGTHS, c=_LENGTHS, inner=_LENGTHS, seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_positions_kept_through_a_view_are_the_same_seen_from_both_sides(a, c, inner, seed):
    total = a * c * inner
    one = [Atom(a), Atom(total // a)]
    seen = reshape(one, (c, total // c))
    free = list(atoms(*one))
    random = torch.Generator().manual_seed(seed)
    keep = {x: torch.randperm(x.n, generator=random)[: (x.n + 1) // 2].sort().values for x in free}
    assert [e.n for e in seen] == [c, total // c]
    assert torch.equal(index(product_of(one), keep), index(product_of(seen), keep))


@given(a=_LENGTHS, c=_LENGTHS, inner=_LENGTHS, seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_positions_kept_of_two_factorings_that_were_unified_are_the_same(a, c, inner, seed):
    total = a * c * inner
    one, other = (product_of((Atom(n), Atom(total // n))) for n in (a, c))
    unify(one, other)
    random = torch.Generator().manual_seed(seed)
    keep = {x: torch.randperm(x.n, generator=random)[: (x.n + 1) // 2].sort().values for x in atoms(one, other)}
    assert torch.equal(index(one, keep), index(other, keep))


def test_what_groups_and_heads_share_can_go():
    """A convolution in 4 groups over a width that attention sees as 6 heads: two halves, and every fourth channel, are free."""

    def forward(m, x):
        x = m.into(x)
        x = x + m.places(x.transpose(1, 2)).transpose(1, 2)
        heads = x.view(*x.shape[:2], 6, 8).transpose(1, 2)
        return m.out((heads @ heads.transpose(-1, -2) @ heads).transpose(1, 2).reshape(x.shape))

    torch.manual_seed(0)
    model = Does(forward, into=nn.Linear(5, 48), places=nn.Conv1d(48, 48, 3, padding=1, groups=4), out=nn.Linear(48, 4))
    found = halved(model, torch.randn(2, 7, 5))
    assert sorted(a.size for a in found.graph.axes.values() if a.frozen is None) == [2, 4]
    assert found.proof.passed and found.small.state_dict()["into.weight"].shape == (12, 5)
