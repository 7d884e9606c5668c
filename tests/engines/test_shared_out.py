"""Sites shared out over processes."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from handmade import linear_site
from pomona.engines.shared_out import exchanged, owners
from pomona.processes import Processes
from pomona.vocabulary import Decision

SHAPES = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=12)


@given(shapes=SHAPES, number=st.integers(1, 4))
def test_every_site_has_an_owner_and_the_order_stays(shapes, number):
    sites = [linear_site(f"w{i}", shape) for i, shape in enumerate(shapes)]
    found = owners(sites, number)
    assert list(found) == [site.name for site in sites] and set(found.values()) <= set(range(number))


@given(shapes=SHAPES)
def test_nobody_has_more_to_do_than_half_and_the_largest(shapes):
    cost = {f"w{i}": (rows + columns) * columns**2 for i, (rows, columns) in enumerate(shapes)}
    found = owners([linear_site(f"w{i}", shape) for i, shape in enumerate(shapes)], 2)
    loads = [sum(cost[name] for name, owner in found.items() if owner == rank) for rank in (0, 1)]
    assert max(loads) - min(loads) <= max(cost.values())


def test_sites_that_share_a_tensor_have_one_owner():
    a, b, c, d = (linear_site(name, (4, 4)) for name in "abcd")
    joined = replace(b, members=(*b.members, *c.members))  # b reaches into a's neighbour c as well
    biased = replace(d, weight=replace(d.weight, bias="a"))  # d's bias is what a is about
    found = owners([a, joined, c, d], 4)
    assert found["b"] == found["c"] and len(set(found.values())) == 4 - 1
    assert owners([a, biased], 2)["a"] == owners([a, biased], 2)["d"]


def test_alone_the_decisions_are_what_was_made():
    made = {"a": Decision(torch.tensor([True, False]), {"a": torch.ones(2)}, ("a note",), 0.5)}
    found = exchanged(Processes(), {"a": 0}, made, torch.device("cpu"))
    assert found["a"].keep is made["a"].keep and found["a"].notes == ("a note",) and found["a"].error == 0.5
