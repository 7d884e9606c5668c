"""Channels brought into an order, before anything is cut, in which neighbours that are chosen together keep more.

That n of m neighbours stay is the structure's rule, and who are neighbours is nobody's: the producers of an axis can write its
units in any order if all readers follow. One order serves all that read an axis, so it is found on the scores of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.engines.decide import Gather, Ground, scored
from pomona.engines.masks import everyone
from pomona.orders.stripes import kept
from pomona.structures.elements import weight_of
from pomona.vocabulary import Axis, InputError, Member, Order, Prune, Scores, Site
from pomona.vocabulary.layout import to_matrix


@dataclass(frozen=True, eq=False)
class Arranged:
    """`orders`: axis -> whom each place gets, int64 (units,); `kept`: axis -> what its readers keep before and after, summed;
    `left`: axis -> why it stays as it is.
    """

    orders: Mapping[str, Tensor]
    kept: Mapping[str, tuple[float, float]]
    left: Mapping[str, str]


def arranged(
    ground: Ground,
    axes: Mapping[str, Axis],
    why_fixed: Callable[[Axis], str | None],
    order: Order,
    tensors: Mapping[str, Tensor],
    gather: Gather,
) -> Arranged:
    """An order for each axis along which groups of neighbours run, by the recipe's criterion on the whole model.

    `why_fixed` says why an axis must stay as it is. An axis whose readers keep more in no order stays, without a word. Raises
    InputError where the structure chooses no neighbours together.
    """
    for site in ground.sites:
        _pattern(ground, site)
    _, scores = scored(ground, Prune(ground.goal.ratio), tensors, everyone(ground.sites), gather, 0)
    # Searched by one process for all: another kind of machine could differ in a last digit and go another way.
    return Arranged(*ground.processes.of_first(lambda: _searched(ground, axes, why_fixed, order, scores)))


def _searched(
    ground: Ground, axes: Mapping[str, Axis], why_fixed: Callable[[Axis], str | None], order: Order, scores: Mapping[str, Scores]
) -> tuple[dict[str, Tensor], dict[str, tuple[float, float]], dict[str, str]]:
    orders: dict[str, Tensor] = {}
    found: dict[str, tuple[float, float]] = {}
    left: dict[str, str] = {}
    for name, axis in axes.items():
        readers = [(site, member) for site in ground.sites for member in axis.members if _reads(site, member)]
        if not readers:
            continue
        n, m = _pattern(ground, readers[0][0])
        if (why := why_fixed(axis) or _crossed(axis, readers, m)) is not None:
            left[name] = why
            continue
        columns = [_columns(site, scores[site.name].value, member) for site, member in readers if _runs(axis, member, m)]
        if not columns:
            continue
        joined = torch.cat(columns)
        made = order.arrange(joined, n, m)
        before, after = (float(kept(joined[:, o], n, m).sum()) for o in (torch.arange(axis.size, device=made.device), made))
        if after > before:
            orders[name], found[name] = made.cpu(), (before, after)
    return orders, found, left


def _pattern(ground: Ground, site: Site) -> tuple[int, int]:
    """(n, m) of n:m at a site."""
    count, m = ground.recipe.structure.feasible(site), ground.recipe.structure.window(site)
    if count is None or m == 1:
        raise InputError(
            f"An order of channels matters only where n of m neighbours stay, which {ground.recipe.structure} does not ask for; "
            "use --structure 2:4 or --order none."
        )
    return count * m // site.units, m


def _reads(site: Site, member: Member) -> bool:
    """Whether the groups of a site run along this dimension of this tensor."""
    weight = weight_of(site)
    along = len(weight.shape) - 1 if weight.in_dim is None else weight.in_dim
    return member.tensor == weight.tensor and member.dim == along


def _positions(axis: Axis, member: Member) -> Tensor:
    """Where the units lie along the dimension: int64 (units, places of each)."""
    return torch.arange(axis.size)[:, None] if member.index is None else member.index.cpu()


def _runs(axis: Axis, member: Member, m: int) -> bool:
    """Whether units are neighbours: they lie one after the other, and groups of m are of them alone."""
    where = _positions(axis, member)
    return (
        axis.size % m == 0
        and torch.equal(where, where[:1] + torch.arange(axis.size)[:, None])
        and bool((where[0] % m == 0).all())
    )


def _crossed(axis: Axis, readers: Sequence[tuple[Site, Member]], m: int) -> str | None:
    """Why no order can be judged: somewhere groups hold more than neighbours; None where units are neighbours or fill groups."""
    for site, member in readers:
        where = _positions(axis, member)
        filled = where.shape[1] % m == 0 and torch.equal(where // m, (where[:, ::m] // m).repeat_interleave(m, dim=1))
        if not filled and not _runs(axis, member, m):
            return f"its units do not fill whole groups of {m} of {site.name}"
    return None


def _columns(site: Site, scores: Tensor, member: Member) -> Tensor:
    """The scores as (rows, units): a row for each output, kernel position and place of the units."""
    matrix = to_matrix(weight_of(site), scores).movedim(1, -1)  # (out, k, in)
    if member.index is None:
        return matrix.flatten(0, 1)
    return matrix[..., member.index.T.to(scores.device)].flatten(0, 2)
