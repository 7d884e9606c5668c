"""A wish and its limits, bound to sites: bounds in units and a price that must not be passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, lcm

from pomona.engines.even import Even, stride_of
from pomona.structures.chosen import goes_by, title_of
from pomona.vocabulary import Budget, Goal, InputError, Limits, Price, Site

SLACK = 1e-12  # 0.29 * 100 is 28.999999999999996; a whole unit must not be lost to that


def budget(goal: Goal, limits: Limits, price: Price, sites: Sequence[Site]) -> Budget:
    """Bounds by site in units: at least `least` of each site stay; `multiple` and what a kernel wants bind axis sites only.

    Raises InputError on a pattern that names no site, a share outside [0, 1], or a minimum above the maximum.
    """
    for wish, shares in (("minimum", limits.minimum), ("maximum", limits.maximum)):
        _check(wish, shares, sites)
    if limits.multiple < 1:
        raise InputError(f"Kept counts can be multiples of 1 or more, not of {limits.multiple}.")
    lower = {s.name: max(s.least, ceil(_first(limits.minimum, s, 0.0) * s.units - SLACK * s.units)) for s in sites}
    upper = {s.name: floor(_first(limits.maximum, s, 1.0) * s.units + SLACK * s.units) for s in sites}
    for site in sites:
        if lower[site.name] > upper[site.name]:
            raise InputError(
                f"{site.name} must keep at least {lower[site.name]} and at most {upper[site.name]} of its {site.units} units; "
                f"raise its maximum or lower its minimum."
            )
    wanted = {s.name: lcm(limits.multiple, stride_of(s)) for s in sites if s.kind == "axis"}
    multiple = {name: number for name, number in wanted.items() if number > 1}
    return Budget(price, goal.ratio * price.dense * (1 + SLACK), lower, upper, multiple, Even.of(sites, lower, upper, multiple))


def _check(wish: str, shares: Mapping[str, float], sites: Sequence[Site]) -> None:
    for pattern, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"The {wish} of '{pattern}' is a share of the units, from 0 to 1; it is {share:g}.")
        if not any(goes_by(title_of(site), (pattern,)) for site in sites):
            example = sites[0].name if sites else "nothing"
            raise InputError(f"The {wish} '{pattern}' names no site; sites are called like {example}.")


def _first(shares: Mapping[str, float], site: Site, otherwise: float) -> float:
    return next((share for pattern, share in shares.items() if goes_by(title_of(site), (pattern,))), otherwise)
