"""What the inputs of the one weight that reads an axis have to do with each other."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.input_gram import InputGram
from pomona.statistics.readers import readers
from pomona.vocabulary import InputError, Member, Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class ReaderGram:
    """`InputGram` of the weight that reads an axis, all of its columns: float64 of shape (1, columns, columns).

    For axes that one linear or ungrouped convolution weight reads: neurons, heads, channels between two layers.
    """

    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """What the reader receives; raises InputError where there is no such reader, or more than one."""
        return InputGram(self.probe).watch(_of_reader(site))

    def alike(self, site: Site, seen: Seen) -> Hashable:
        """Axes that meet in one reader share an accumulator."""
        return InputGram(self.probe).alike(_of_reader(site), seen)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch, in place."""
        return InputGram(self.probe).update(state, _of_reader(site), seen)

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return InputGram(self.probe).merge(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The accumulator itself."""
        return InputGram(self.probe).value(state, _of_reader(site))


def only_reader(site: Site) -> Member:
    """The one weight that reads an axis; raises InputError where there is none or are several."""
    found = readers(site)
    weight = found[0].weight
    if (
        len(found) == 1
        and weight is not None
        and weight.kind in ("linear", "conv")
        and weight.stack is None
        and not (weight.conv and weight.conv.groups > 1)
    ):
        return found[0]
    names = ", ".join(member.tensor for member in found)
    raise InputError(
        f"{site.name} is read by {names}; this method is for axes that one linear or ungrouped convolution weight reads: "
        f"prune neurons or heads, or leave it alone with --keep '{found[0].tensor}'."
    )


def _of_reader(site: Site) -> Site:
    reader = only_reader(site)
    return replace(site, members=(reader,), weight=reader.weight)
