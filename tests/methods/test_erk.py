"""ER and ERK (Mocanu et al., 2018; Evci et al., 2020)."""

import pytest

from budgets import counts, on, wish
from papergraph import conv, linear
from pomona.allocations.erk import Erk
from pomona.structures.axes import Axes
from pomona.vocabulary import InputError

LAYERS = {w.tensor: on(w) for w in (conv("a", 16, 3), conv("b", 32, 16), conv("c", 10, 32, kernel=1))}


def densities(sites, ratio, allocation=None):
    found = (allocation or Erk()).allocate(sites, {}, wish(sites, ratio))
    return [k / s.units for k, s in zip(counts(found), sites.values(), strict=True)]


@pytest.mark.parametrize(
    ("density", "expected"), [(0.1, (0.25218, 0.05107, 0.59920)), (0.2, (0.55087, 0.11155, 1.0))], ids=["free", "one clamped"]
)
def test_densities_of_the_reference_layers(density, expected):
    got = densities(LAYERS, density)
    for site, share, wanted in zip(LAYERS.values(), got, expected, strict=True):
        assert abs(share - wanted) <= 1 / site.units
    total = sum(s.units for s in LAYERS.values())
    assert sum(share * s.units for share, s in zip(got, LAYERS.values(), strict=True)) == int(density * total)


def test_er_leaves_the_kernel_out():
    sites = {w.tensor: on(w) for w in (conv("a", 8, 8, kernel=1), conv("b", 8, 8, kernel=3))}
    one, nine = densities(sites, 0.3, Erk(kernel=False))
    assert abs(one - nine) <= 1 / 64
    one, nine = densities(sites, 0.3)
    # r of a 1x1 kernel counts its two dimensions of 1: 18/64 against 22/576
    assert one == 1.0 > nine


def test_equal_linear_layers_are_cut_alike_and_narrow_ones_less():
    sites = {w.tensor: on(w) for w in (linear("a", 100, 100), linear("b", 100, 100), linear("c", 10, 100))}
    a, b, c = densities(sites, 0.2)
    assert abs(a - b) <= 1e-4
    assert abs(c / a - (110 / 1000) / (200 / 10000)) < 0.02


def test_axes_are_refused():
    from papergraph import graph

    sites = {s.name: s for s in Axes().sites(graph())}
    with pytest.raises(InputError, match="conv1 is neither"):
        Erk().allocate(sites, {}, wish(sites, 0.5))
