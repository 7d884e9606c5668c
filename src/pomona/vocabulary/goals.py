"""What the user wishes: a price and a ratio; and the budget that an engine makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import inf, log
from typing import Literal, Protocol, get_args

from pomona.vocabulary.errors import InputError
from pomona.vocabulary.scores import Keeps
from pomona.vocabulary.sites import BLOCKS, FAMILIES, Site

CostName = Literal["sparsity", "params", "macs", "latency", "kv", "units"]
_FORMS = "sparsity=0.9, params=0.5x, macs=0.25x, latency=0.5x, latency=12ms, kv=0.5x or heads=0.5,neurons=0.7"


class Price(Protocol):
    """A cost bound to a graph and its sites."""

    @property
    def dense(self) -> float:
        """The price of the untouched model."""
        ...

    def __call__(self, keeps: Keeps) -> float:
        """The price when these counts stay; sites that are not named stay whole."""
        ...


@dataclass(frozen=True)
class Goal:
    """The price of the result is at most `ratio` of the dense price, and of some families only so many units stay.

    Text form: `sparsity=0.9` (share of the linear, convolution and recurrent weights that is gone); `params=0.5x`,
    `macs=0.25x`, `latency=0.5x`, `kv=0.5x` (bytes of the keys and values of a token), `units=0.5x` (what is left);
    `latency=12ms` (`ms`; `ratio` is 1 until the dense model has been timed). `shares` are (family or glob pattern over names
    of sites, share of the units that stays):
    `heads=0.5,neurons=0.7` or `layers.*.fc1*=0.25`. The first that names a site holds for it. What none names stays whole, or
    bears what a price in the same goal, `heads=0.5,macs=0.4x`, asks for beyond that.

    >>> Goal.parse("sparsity=0.9").ratio
    0.1
    >>> str(Goal.parse("heads=0.5x, macs=0.25x")), str(Goal.parse("latency=12ms"))
    ('heads=0.5,macs=0.25x', 'latency=12ms')
    """

    cost: CostName
    ratio: float
    shares: tuple[tuple[str, float], ...] = ()
    ms: float | None = None

    def __post_init__(self) -> None:
        if self.cost not in get_args(CostName):
            raise InputError(f"'{self.cost}' is not a cost; use one of {', '.join(get_args(CostName))}.")
        if not 0 < self.ratio <= 1:
            raise InputError(f"A goal must leave more than 0 and at most 1 of the {self.cost}; this one leaves {self.ratio:g}.")
        for name, share in self.shares:
            if not 0 < share <= 1:
                raise InputError(f"A goal must leave more than 0 and at most 1 of the {name}; this one leaves {share:g}.")

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read `name=number`, several joined by commas, at most one of them a price; raises InputError with what would do."""
        prices: list[tuple[str, float]] = []
        shares: list[tuple[str, float]] = []
        ms = None
        for wish in text.replace(" ", "").split(","):
            name, _, number = wish.rpartition("=")
            known = name in get_args(CostName)
            if not known and not _is_share(name):
                close = get_close_matches(name, [*get_args(CostName), *FAMILIES, *BLOCKS], 1)
                raise InputError(f"'{wish}' is not a goal; " + (f"did you mean {close[0]}=...?" if close else f"write {_FORMS}."))
            if name == "latency" and number.endswith("ms"):
                ms = _milliseconds(wish, number)
                prices.append((name, 1.0))
            else:
                (prices if known else shares).append((name, _number(wish, name, number)))
        if len(prices) > 1:
            raise InputError(f"A goal has one price; '{text}' has {len(prices)} ({', '.join(name for name, _ in prices)}).")
        if shares and dict(prices).get("units"):
            raise InputError(f"'{text}' shares out units twice; leave out units=... or {shares[0][0]}=....")
        twice = next((name for number, (name, _) in enumerate(shares) if name in dict(shares[:number])), None)
        if twice is not None:
            raise InputError(f"The goal '{text}' says twice how much of {twice} stays.")
        # Shares alone: what paces a schedule is the least of them.
        cost, ratio = prices[0] if prices else ("units", min(share for _, share in shares))
        return cls(cost, ratio, tuple(shares), ms)  # type: ignore[arg-type]

    def __str__(self) -> str:
        shares = [f"{name}={share:g}" for name, share in self.shares]
        if self.shares and not self.priced:
            return ",".join(shares)
        price = f"sparsity={round(1 - self.ratio, 12):g}" if self.cost == "sparsity" else f"{self.cost}={self.ratio:g}x"
        return ",".join([*shares, price if self.ms is None else f"latency={self.ms:g}ms"])

    @property
    def priced(self) -> bool:
        """Whether there is a price to meet besides the shares."""
        return not self.shares or self.cost != "units"

    def at(self, ratio: float) -> Goal:
        """The goal of a step on the way, at which `ratio` of the price is to be left; shares go the same part of their way."""
        if ratio == self.ratio or not self.shares:
            return replace(self, ratio=ratio)
        part = log(ratio) / log(self.ratio) if self.ratio < 1 else 1.0
        return replace(self, ratio=ratio, shares=tuple((name, share**part) for name, share in self.shares))


def _is_share(name: str) -> bool:
    return name in FAMILIES or name in BLOCKS or any(sign in name for sign in ".*?[:")


def _milliseconds(wish: str, number: str) -> float:
    try:
        value = float(number.removesuffix("ms"))
    except ValueError:
        raise InputError(f"'{number}' in the goal '{wish}' is not a time; write latency=12ms.") from None
    if not 0 < value < inf:
        raise InputError(f"The goal '{wish}' must be a time above 0 ms.")
    return value


def _number(wish: str, name: str, number: str) -> float:
    try:
        value = float(number.removesuffix("x"))
    except ValueError:
        raise InputError(f"'{number}' in the goal '{wish}' is not a number; write {_FORMS}.") from None
    if not 0 < value < 1 and not (value == 1 and _is_share(name)):
        time = "; a time is written like latency=12ms" if name == "latency" else ""
        raise InputError(f"The goal '{wish}' must lie strictly between 0 and 1{time}.")
    if name == "sparsity" and number.endswith("x"):
        raise InputError(f"'{wish}': sparsity is a share, not a ratio; write sparsity={value:g}.")
    return round(1 - value, 12) if name == "sparsity" else value


@dataclass(frozen=True)
class Limits:
    """What the user allows per site, whatever the scores say.

    `minimum` and `maximum` are shares of the units that may stay, by family or glob pattern over site names (first wins);
    `multiple` rounds the kept counts of axis sites to multiples of itself.
    """

    minimum: Mapping[str, float] = field(default_factory=dict)
    maximum: Mapping[str, float] = field(default_factory=dict)
    multiple: int = 1


@dataclass(frozen=True, eq=False)
class Budget:
    """A goal bound to the model: keep counts whose `price` is at most `limit`, each within [lower, upper].

    `lower`, `upper` and `multiple` are by site name, in units; `limit` is in the units of the price. `even` brings counts
    made site by site to the nearest larger ones that the sites can have together.
    """

    price: Price
    limit: float
    lower: Mapping[str, int]
    upper: Mapping[str, int]
    multiple: Mapping[str, int] = field(default_factory=dict)
    even: Callable[[Keeps], Keeps] = dict

    def least(self, site: Site) -> int:
        """How many units of a site stay at least: its lower bound, rounded up to its multiple."""
        multiple = self.multiple.get(site.name, 1)
        return min(site.units, -(-self.lower.get(site.name, 1) // multiple) * multiple)
