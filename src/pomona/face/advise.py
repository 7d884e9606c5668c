"""Before pruning: which zeros, and how many of them, would make this model faster on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Any, TypeVar

from torch import Tensor, nn

from pomona.face.workload import forecast
from pomona.native import library
from pomona.native.library import threads_of
from pomona.runtime.breakeven import SPARSITIES, Curve, Shape, curve, unpruned
from pomona.runtime.inputs import batch_of, inputs_for
from pomona.runtime.latency import FASTER
from pomona.runtime.machine import caches, processors
from pomona.runtime.sparse.candidates import VALUES
from pomona.runtime.sparse.table import Table
from pomona.runtime.sparse.turned import as_linears
from pomona.runtime.timing import own_clock
from pomona.vocabulary import InputError, Progress, Silent, Untraceable, evaluating, first_line

STRUCTURES: Mapping[str, str] = {
    "weights": "weights", "2:4": "2:4", "block:4x1": "4x1", "block:8x1": "8x1", "block:16x1": "16x1"
}  # fmt: skip
N_M, CHANNELS = "2:4", "channels"
_ASKED = (0.5, 0.7, 0.8, 0.9)
_PASSES = 9
Found = TypeVar("Found")
LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)  # exactly these: what derives from them computes something else


@dataclass(frozen=True)
class Option:
    """One structure: by sparsity the `shares` of the dense model's latency, and the least sparsity that pays, None for none.

    `unpruned` is the share that packing alone leaves, without a zero; zeros pay where less is left than that. For channels,
    which are not packed, it is 1, and sparsity is that of the parameters where all widths shrink alike.
    """

    structure: str
    shares: Mapping[float, float]
    pays_from: float | None
    unpruned: float = 1.0

    def pays(self, sparsity: float) -> bool:
        """Whether so many zeros make the model faster than it can be without."""
        return self.shares.get(sparsity, self.unpruned) <= FASTER * self.unpruned


@dataclass(frozen=True)
class Advice:
    """What was foretold for `batch` and `threads`. `dense_ms` was measured; `layers_share` of it are layers that can be packed.

    `cold` says that the model is larger than the caches. `pays` is about the wish, `told` says so in sentences; `notes` what
    could not be told.
    """

    batch: int
    threads: int
    dense_ms: float
    layers_share: float
    cold: bool
    options: tuple[Option, ...]
    structure: str
    sparsity: float
    pays: bool
    told: str
    notes: tuple[str, ...] = ()


def advise(
    model: nn.Module,
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    batch: int | None = None,
    threads: int | None = None,
    structure: str = "weights",
    sparsity: float = 0.5,
    values: str = "f32",
    channels: bool = True,
    progress: Progress | None = None,
) -> Advice:
    """Foretell the latency of `model` with zeros of each structure, run by `pomona.accelerate` here; nothing is pruned.

    `structure` and `sparsity` are the wish that is judged: "weights", "2:4", "block:4x1", ... or "channels". Each layer's dense
    time is taken within the model, and what share of it is left packed comes from layers of about its shape with random zeros,
    which are timed once a machine; the rest of the model stays as it is. `channels=False` leaves removed channels out, which
    need the model's graph. `values` may store weights as "bf16" or "int8". Raises InputError for what does not fit.

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()).eval()
    >>> found = pomona.advise(net, torch.randn(1, 64), threads=1, sparsity=0.9, channels=False)
    >>> found.pays == found.options[0].pays(0.9)
    True
    """
    _check(structure, sparsity, values)
    progress = progress or Silent()
    given, named = inputs_for(model, args, kwargs, batch)
    cold = sum(p.nbytes for p in model.parameters()) > caches()[1]
    asked = sorted({*_ASKED, sparsity} if structure != N_M else _ASKED)
    table = Table.of(threads_of(threads))
    with table.measuring():
        whole, dense = _heard(as_linears(model), given, named, progress)
        full = _timed("dense layers", dense, progress, unpruned, cold, values, table)
        options = []
        for name, pattern in STRUCTURES.items():
            curves = _timed(name, dense, progress, curve, pattern, cold, values, table)
            options.append(_option(name, dense, whole, asked, curves, full))
    notes = list(table.notes)
    if library().isa is None:
        notes.append(f"There are no native kernels ({library().reason}), so packed layers cannot be faster.")
    if table.threads > (here := len(processors())):
        notes.append(f"{table.threads} threads take turns on {here} processors here, which is slower than {here} threads.")
    if channels or structure == CHANNELS:
        try:
            options.append(_removed(model, given, named, table.threads, asked, progress))
        except (InputError, Untraceable) as error:
            notes.append(f"Removed channels are not foretold: {first_line(error)}")
    wish = next((option for option in options if option.structure == structure), None)
    if wish is None:
        raise InputError(f"Removed channels cannot be foretold for this model: {notes[-1]}")
    sparsity = 0.5 if structure == N_M else sparsity
    size = batch_of(given, named)
    told = _told(wish, sparsity, options, size, table.threads)
    share = sum(dense.values()) / whole
    pays = wish.pays(sparsity)
    found = (size, table.threads, 1e3 * whole, share, cold, tuple(options), structure, sparsity, pays, told, tuple(notes))
    return Advice(*found)


def _check(structure: str, sparsity: float, values: str) -> None:
    if structure not in (*STRUCTURES, CHANNELS):
        raise InputError(f"Latency is foretold for {', '.join(STRUCTURES)} and {CHANNELS}, not for {structure!r}.")
    if not 0 < sparsity < 1:
        raise InputError(f"Sparsity is a share between 0 and 1; got {sparsity:g}.")
    if structure == N_M and sparsity != 0.5:
        raise InputError(f"2:4 is a sparsity of 0.5, not of {sparsity:g}.")
    if values not in VALUES:
        raise InputError(f"Values are {', '.join(VALUES)}, not {values!r}.")


def _heard(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], progress: Progress
) -> tuple[float, dict[Shape, float]]:  # fmt: skip
    """Seconds of a dense pass, and within it of all calls of a Linear or Conv2d of each shape, taken where they run.

    Medians over some passes. Raises InputError where the model does not run, or has none of these layers.
    """
    clock, passes = own_clock(), list[tuple[float, dict[Shape, float]]]()
    began: list[float] = []
    inside: dict[Shape, float] = {}

    def before(*_: Any) -> None:
        began.append(clock())

    def after(layer: Any, given: tuple[Any, ...], _: Any) -> None:
        took = clock() - began.pop()
        if given and isinstance(given[0], Tensor):
            shape = Shape.of(layer, given[0])
            inside[shape] = inside.get(shape, 0.0) + took

    layers = [m for m in model.modules() if type(m) in LAYERS]
    hooks = [hook for m in layers for hook in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    try:
        with evaluating(model), progress.stage("timing the dense model", _PASSES) as stage:
            for number in range(_PASSES + 1):
                inside.clear()
                start = clock()
                model(*args, **kwargs)
                if number:  # the first one allocates and packs weights
                    passes.append((clock() - start, dict(inside)))
                    stage.advance(1)
    # The forward pass is the user's; whatever it raises means that it does not take these inputs.
    except Exception as error:
        raise InputError(f"{type(model).__name__} does not run on these inputs: {first_line(error)}.") from error
    finally:
        for each in hooks:
            each.remove()
    if not passes[0][1]:
        raise InputError(f"{type(model).__name__} calls no Linear or Conv2d layer, so there is nothing to pack.")
    dense = {shape: median(found[shape] for _, found in passes) for shape in passes[0][1]}
    return max(median(whole for whole, _ in passes), sum(dense.values())), dense


def _timed(
    what: str, shapes: Mapping[Shape, float], progress: Progress, measure: Callable[..., Found], *how: Any
) -> dict[Shape, Found]:  # fmt: skip
    """What `measure` says of each shape."""
    found = dict[Shape, Found]()
    with progress.stage(f"timing {what}", len(shapes)) as stage:
        for shape in shapes:
            found[shape] = measure(shape, *how)
            stage.advance(1)
    return found


def _option(
    structure: str,
    dense: Mapping[Shape, float],
    whole: float,
    asked: Sequence[float],
    curves: Mapping[Shape, Curve],
    full: Mapping[Shape, float],
) -> Option:
    """A layer that is not faster packed stays dense; zeros that do not help are stored."""

    def left(shares: Mapping[Shape, float]) -> float:
        return 1 - sum(seconds * (1 - shares[shape]) for shape, seconds in dense.items()) / whole

    def share(sparsity: float) -> float:
        return left({shape: min(full[shape], curves[shape].at(sparsity)) for shape in dense})

    least = left(full)
    steps = [step / 100 for step in range(round(100 * SPARSITIES[0]), round(100 * SPARSITIES[-1]) + 1)]
    if structure == N_M:
        asked = steps = [0.5]
    return Option(structure, {s: share(s) for s in asked}, next((s for s in steps if share(s) <= FASTER * least), None), least)


def _removed(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    threads: int,
    asked: Sequence[float],
    progress: Progress,
) -> Option:
    """All widths that can shrink, shrunk alike, so that of a weight between two of them this share of the parameters goes."""
    told = forecast(model, args, dict(kwargs), threads=threads, progress=progress)
    free = {name: axis.size for name, axis in told.graph.axes.items() if axis.frozen is None}
    dense = told.at({})

    def share(sparsity: float) -> float:
        keep = (1 - sparsity) ** 0.5
        return told.at({name: max(1, round(size * keep)) for name, size in free.items()}) / dense

    # Whoever is no faster narrower may stay as wide as before, so that no larger sparsity costs more than a smaller one.
    falling = [*accumulate(map(share, asked), min, initial=1.0)][1:]
    shares = dict(zip(asked, falling, strict=True))
    return Option(CHANNELS, shares, next((s for s in sorted(shares) if shares[s] <= FASTER), None))


def _told(wish: Option, sparsity: float, options: Sequence[Option], batch: int, threads: int) -> str:
    share = wish.shares[sparsity]
    where = f"at batch {batch} on {threads} thread{'' if threads == 1 else 's'}"
    if wish.pays(sparsity):
        first = f"{wish.structure} at {sparsity:.0%} would take {share:.2f} of the dense latency {where}."
    else:
        first = f"{wish.structure} at {sparsity:.0%} would not be faster {where}: {share:.2f} of the dense latency."
    if wish.unpruned <= FASTER and not wish.pays(sparsity):
        first = (
            f"{wish.structure} at {sparsity:.0%} would gain nothing {where} over packing alone, which takes "
            f"{wish.unpruned:.2f} of the dense latency."
        )
    elif wish.unpruned <= FASTER:
        first += f" Packed without any zeros the model would take {wish.unpruned:.2f}."
    if not wish.pays(sparsity) and wish.pays_from is not None:
        first += f" It pays from {wish.pays_from:.0%} on."
    others = [o for o in options if o.structure != wish.structure and o.pays(sparsity) and o.shares[sparsity] <= share]
    if not others:
        return f"{first} Nothing else would be faster at that sparsity."
    best = min(others, key=lambda o: o.shares[sparsity])
    return f"{first} {best.structure} would take {best.shares[sparsity]:.2f} at the same sparsity."
