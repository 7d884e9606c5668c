"""Sites whose units are the elements of one weight, in the weight's own layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from pomona.vocabulary import InputError, Member, Site, Weight


def element_site(weight: Weight, shape: tuple[int, ...] | None = None) -> Site:
    """One site on one weight; units are its elements unless another grid is given."""
    member = Member(weight.tensor, "self", shape=weight.shape)
    return Site(weight.tensor, "element", weight.shape if shape is None else shape, (member,), weight=weight)


def its_elements(site: Site, elements: Mapping[str, Tensor], roles: Sequence[str]) -> Tensor:
    """The element values of the site's weight, float32 or float64; raises InputError where they are not given."""
    name = site.members[0].tensor
    if "self" not in roles or name not in elements:
        raise InputError(f"The units of {site.name} are the elements of {name} itself, and no values were given for them.")
    values = elements[name]
    return values if values.is_floating_point() and values.element_size() >= 4 else values.float()


def weight_of(site: Site) -> Weight:
    """The weight that an element site acts on."""
    assert site.weight is not None, f"{site.name} is not a site on a weight"
    return site.weight
