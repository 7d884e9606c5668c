"""Sites that must keep equal shares of their units, or multiples of some number: counts are coupled, units are not.

Counts are made as if sites were alone and brought here, upwards, to steps that all members of a team can make together. The
shared cut does so for every threshold that it tries, so the goal is met by what is really cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd, lcm

import torch

from pomona.vocabulary import InputError, Keeps, Site


@dataclass(frozen=True)
class Team:
    """`per_step`: site -> units a step; `total` steps are everything, of which `least` to `most` may stay, by `stride`."""

    per_step: Mapping[str, int]
    total: int
    least: int
    most: int
    stride: int = 1

    @classmethod
    def of(cls, sites: Sequence[Site], lower: Mapping[str, int], upper: Mapping[str, int], multiple: Mapping[str, int]) -> Team:
        """Steps that respect the bounds of every member; raises InputError where there are none."""
        total = gcd(*(site.units for site in sites))
        per_step = {site.name: site.units // total for site in sites}
        multiples = {s.name: lcm(multiple.get(s.name, 1), stride_of(s)) for s in sites}
        stride = lcm(*(m // gcd(m, per_step[n]) for n, m in multiples.items()))
        least = max(-(-lower.get(n, 1) // count) for n, count in per_step.items())
        most = min(upper.get(n, total * count) // count for n, count in per_step.items())
        most = most if most == total else most // stride * stride
        team = cls(per_step, total, min(total, -(-least // stride) * stride), most, stride)
        if team.least > most:
            raise InputError(
                f"{' and '.join(per_step)} must keep {f'multiples of {stride}' if len(sites) == 1 else 'equal shares of their'} "
                "units, which minimum, maximum and multiple do not allow; loosen one of them."
            )
        return team

    def steps(self, keeps: Keeps) -> int:
        """The fewest steps that leave every member at least what it was given."""
        wanted = max(-(-int(keeps[name]) // count) for name, count in self.per_step.items() if name in keeps)
        return max(self.least, min(self.most, -(-wanted // self.stride) * self.stride, self.total))


@dataclass(frozen=True)
class Even:
    """The teams of a run."""

    teams: tuple[Team, ...] = ()

    @classmethod
    def of(
        cls,
        sites: Sequence[Site],
        lower: Mapping[str, int] | None = None,
        upper: Mapping[str, int] | None = None,
        multiple: Mapping[str, int] | None = None,
    ) -> Even:
        """Teams among these sites; one without a partner among them is free, unless a kernel wants multiples of its units."""
        together: dict[str, list[Site]] = {}
        for site in sites:
            if site.axis is not None:
                together.setdefault(site.axis.even or site.name, []).append(site)
        teams = (team for team in together.values() if len(team) > 1 or stride_of(team[0]) > 1)
        return cls(tuple(Team.of(team, lower or {}, upper or {}, multiple or {}) for team in teams))

    def __call__(self, keeps: Keeps) -> Keeps:
        """The same counts with every team at the share of its largest member, rounded up to what all can keep."""
        evened = dict(keeps)
        for team in self.teams:
            there = {name: count for name, count in team.per_step.items() if name in keeps}
            if there:
                steps = team.steps(keeps)
                evened |= {name: torch.tensor(steps * count) for name, count in there.items()}
        return evened


def stride_of(site: Site) -> int:
    """Of what its kept units must be a multiple for kernels to run; 1 for whatever is no axis."""
    return 1 if site.axis is None else site.axis.stride
