"""What the user wishes: a price and a ratio; and the budget that an engine makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from pomona.vocabulary.errors import InputError
from pomona.vocabulary.scores import Keeps

CostName = Literal["sparsity", "params", "macs"]


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
    """The price of the result is at most `ratio` of the dense price.

    Text form: `sparsity=0.9` (share of the linear, convolution and recurrent weights that is gone), `params=0.5x`,
    `macs=0.25x` (what is left).

    >>> Goal.parse("sparsity=0.9")
    Goal(cost='sparsity', ratio=0.1)
    >>> str(Goal.parse("macs=0.25x"))
    'macs=0.25x'
    """

    cost: CostName
    ratio: float

    def __post_init__(self) -> None:
        if self.cost not in get_args(CostName):
            raise InputError(f"'{self.cost}' is not a cost; use one of {', '.join(get_args(CostName))}.")
        if not 0 < self.ratio <= 1:
            raise InputError(f"A goal must leave more than 0 and at most 1 of the {self.cost}; this one leaves {self.ratio:g}.")

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read `cost=number`; raises InputError with the forms that would do."""
        name, _, number = text.replace(" ", "").partition("=")
        forms = "sparsity=0.9, params=0.5x or macs=0.25x"
        if name not in get_args(CostName) or not number:
            raise InputError(f"'{text}' is not a goal; write {forms}.")
        try:
            value = float(number.removesuffix("x"))
        except ValueError:
            raise InputError(f"'{number}' in the goal '{text}' is not a number; write {forms}.") from None
        if not 0 < value < 1:
            raise InputError(f"The goal '{text}' must lie strictly between 0 and 1.")
        if name == "sparsity":
            if number.endswith("x"):
                raise InputError(f"'{text}': sparsity is a share, not a ratio; write sparsity={value:g}.")
            return cls("sparsity", round(1 - value, 12))
        return cls(name, value)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.cost == "sparsity":
            return f"sparsity={round(1 - self.ratio, 12):g}"
        return f"{self.cost}={self.ratio:g}x"


@dataclass(frozen=True)
class Limits:
    """What the user allows per site, whatever the scores say.

    `minimum` and `maximum` are shares of the units that may stay, by glob pattern over site names (first match wins);
    `multiple` rounds the kept counts of axis sites to multiples of itself.
    """

    minimum: Mapping[str, float] = field(default_factory=dict)
    maximum: Mapping[str, float] = field(default_factory=dict)
    multiple: int = 1


@dataclass(frozen=True, eq=False)
class Budget:
    """A goal bound to the model: keep counts whose `price` is at most `limit`, each within [lower, upper].

    `lower`, `upper` and `multiple` are by site name, in units; `limit` is in the units of the price.
    """

    price: Price
    limit: float
    lower: Mapping[str, int]
    upper: Mapping[str, int]
    multiple: Mapping[str, int] = field(default_factory=dict)
