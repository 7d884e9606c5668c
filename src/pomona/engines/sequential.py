"""The sequential engine: block after block is cut, and the next one is judged by what the cut ones give it.

Each block is gathered on, decided, written and masked in its shell; then it runs once more, now cut, and what it gives is
what the next block reads. Decisions are those of `decide`, on the sites of one block; where a part compares with the dense
model, on the sites that read one tensor, in the order in which they do, each on what those before it give by now. How much goes
where is settled before the first cut: at once where the allocation reads no scores, after a sweep over the dense model where it
does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from pomona.collect import collect
from pomona.engines.blocks import Chain, parted
from pomona.engines.capture import ready
from pomona.engines.decide import Gather, Ground, counted, decide, scored, write
from pomona.engines.dense import noted, overlooked, unread
from pomona.engines.journal import Journal
from pomona.engines.masks import everyone, extent, impose, tensor_masks
from pomona.engines.memory import resident, told
from pomona.engines.oneshot import Outcome
from pomona.engines.paused import Block, Paused
from pomona.engines.remembered import Remembered
from pomona.engines.shared_out import exchanged, owners
from pomona.engines.sweep import Room, Store, Turn, Walk, change
from pomona.probes.tapping import groups
from pomona.processes import Processes
from pomona.training.batches import seeded
from pomona.vocabulary import (
    Action,
    Allocation,
    Batch,
    Budget,
    Clock,
    Decision,
    Digesting,
    Gathered,
    Goal,
    Keeps,
    Limits,
    Progress,
    Prune,
    Recipe,
    Recover,
    Scores,
    Silent,
    Site,
    Statistic,
)
from pomona.vocabulary.beside import Tap

_OUTSIDE = "outside"  # of all blocks


def why_not(recipe: Recipe, goal: Goal) -> str | None:
    """Why a recipe cannot go block by block; None where it can."""
    schedule = recipe.schedule
    if schedule.clock != "round" or schedule.actions(Clock(round=1), goal) or getattr(schedule, "first_train", False):
        return "it cuts more than once"
    actions = schedule.actions(Clock(), goal)
    if sum(isinstance(action, Prune) for action in actions) != 1 or not all(isinstance(a, (Prune, Recover)) for a in actions):
        return "it does more than cut"
    if getattr(recipe.recovery, "rewinds", False):
        return "its recovery rewinds the whole model"
    if any(need.probe.requires - {"data", "beside"} for need in needs_of(recipe, goal)):
        return "it needs labels or the loss of the whole model"
    return None


def run(
    model: nn.Module,
    ground: Ground,
    chains: Sequence[Chain],
    *,
    batches: Iterable[Batch],
    progress: Progress | None = None,
    journal: Journal | None = None,
    room: Room | None = None,
    remembered: Remembered | None = None,
) -> Outcome:
    """Cut a copy of `model` block by block.

    Sites outside the blocks are cut last, on what the cut blocks give. With a `journal` every block is written down when it
    is done; a run that was killed goes on behind the last one and ends bit-identical. Where all statistics are `remembered`,
    nothing is run. Raises InputError where a site reaches over blocks, and where a block gives NaN or infinities.
    """
    model, progress = deepcopy(model), progress or Silent()
    runs = _runs(ground, chains, remembered)
    if remembered and not runs:
        progress.note("The statistics were gathered before; nothing is run, and errors of blocks are unknown.")
    seed, processes, beside = ground.seed, ground.processes, "beside" in ground.recipe.needs
    walk = Walk(model, chains, batches if runs else None, room, seed=seed, processes=processes, beside=beside)
    alive: dict[str, Tensor] = {}
    solved: dict[str, Mapping[str, Tensor]] = {}
    errors: dict[str, float] = {}
    lost: dict[str, float] = {}
    notes: list[str] = []
    for cut in cuts(ground, walk, progress, journal, remembered):
        alive |= cut.alive
        errors |= {} if cut.error is None else {cut.block: cut.error}
        lost |= cut.lost
        notes += cut.notes
        # The model's own tensors, masked, and not a second copy of all weights.
        solved |= {site: {name: model.get_parameter(name).detach() for name in names} for site, names in cut.solved.items()}
    alive = {site.name: alive[site.name] for site in ground.sites}
    plan = ground.plan(alive, solved)
    told = {"blocks": errors, "errors": lost, "notes": list(dict.fromkeys(notes))}
    plan = replace(plan, provenance={**plan.provenance, **told})
    size, density = extent(ground.recipe.structure, ground.sites, alive)
    rounds = ({"round": 0, "sizes": size, "densities": density, "quality": None},)
    return Outcome(model, plan, rounds, any(isinstance(action, Recover) for action in _actions(ground)))


@dataclass(frozen=True, eq=False)
class Cut:
    """What became of one block ("": of what lies outside of them): masks by site, the tensors that a solver changed, by site.

    `error` is how far its output moved on the first batch, relative to what it was (None where nothing was run); `notes` are
    what solvers say, `lost` is what they know of the error of a site (`Decision.error`), and `unread` are sites that stay whole
    since nobody can tell what they read.
    """

    block: str
    alive: Mapping[str, Tensor]
    solved: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()
    lost: Mapping[str, float] = field(default_factory=dict)
    error: float | None = None
    unread: Sequence[str] = ()


def cuts(
    ground: Ground, walk: Walk, progress: Progress, journal: Journal | None = None, remembered: Remembered | None = None
) -> Iterator[Cut]:
    """Cut the model of the walk, in place, block by block; blocks that the journal holds are put back instead.

    The last is no block: it notes what stays dense although it should not.
    """
    order = [block for chain in walk.chains for block in chain.blocks]
    within, outside = parted(ground.sites, order)
    settled = replace(ground, recipe=ground.recipe.but(allocation=_Settled(_counts(ground, walk, progress, journal))))
    silent: list[str] = []
    with progress.stage("blocks", len(order)) as stage:
        start = time.monotonic()
        for number, turn in enumerate(walk.turns(), 1):
            sites, file = within[turn.block], f"block-{number:04d}.safetensors"
            yield (cut := _taken(settled, walk.store, turn, sites, remembered, journal, file))
            silent += cut.unread
            error = {} if cut.error is None else {"error": f"{cut.error:.3g}"}
            left = (time.monotonic() - start) / number * (len(order) - number)
            stage.advance(1, block=turn.block, **error, left=f"{left:.0f} s", memory=told(resident()))
    if outside:
        walk.store.fetch(member.tensor for site in outside for member in site.members)
        gather = _kept(_beyond(walk, outside, ground), remembered, _OUTSIDE, outside)
        decisions = _decided(settled, outside, walk.model, gather)
        yield Cut("", *_parts(decisions))
    missed = overlooked(walk.model, order, ground.sites, ground.recipe.structure)
    notes = [
        *noted(walk.model, order, silent, "what they read cannot be told on this data"),
        *noted(walk.model, order, missed, "the trace saw no product with them"),
    ]
    yield Cut("", {}, {}, notes)


def needs_of(recipe: Recipe, goal: Goal) -> tuple[Statistic, ...]:
    """What the parts read of the data; nothing is run where that is nothing."""
    criteria = [a.by or recipe.criterion for a in recipe.schedule.actions(Clock(), goal) if isinstance(a, Prune)]
    solver = recipe.solver.needs if recipe.solver else ()
    return tuple(dict.fromkeys([need for criterion in criteria for need in criterion.needs] + list(solver)))


@dataclass(frozen=True)
class _Settled:
    """An allocation that was made before."""

    counts: Keeps = field(default_factory=dict)

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        return {name: self.counts[name] for name in sites}


def _counts(ground: Ground, walk: Walk, progress: Progress, journal: Journal | None) -> Keeps:
    """How many units stay at each site, settled before anything is cut."""
    action, sites, recipe = _action(ground), ground.sites, ground.recipe
    state = journal.read("counts.safetensors") if journal else None
    if state is not None:
        found: Keeps = state["counts"]
        return found
    allocation: Allocation = recipe.allocation
    scores: Mapping[str, Scores] = {}
    if any(recipe.structure.feasible(site) is None for site in sites) and not getattr(allocation, "blind", False):
        if isinstance(allocation, Digesting):
            allocation = allocation.knowing(_surveyed(ground, walk, progress, allocation.digest))
        else:
            scores = _surveyed(ground, walk, progress, lambda _, found: found)
    ground = replace(ground, recipe=recipe.but(allocation=allocation))
    counts = ground.processes.of_first(lambda: counted(ground, action, ground.goal.at(action.ratio), scores, {}, {}))
    if journal:
        journal.write({"counts": counts}, "counts.safetensors")
    return counts


def _surveyed(ground: Ground, walk: Walk, progress: Progress, kept: Callable[..., Mapping[str, Any]]) -> dict[str, Any]:
    """What is `kept` of the scores of every site in the dense model: a sweep that cuts nothing."""
    order = [block for chain in walk.chains for block in chain.blocks]
    within, outside = parted(ground.sites, order)
    found: dict[str, Any] = {}
    progress.note("The allocation compares blocks, so the dense model is scored first, block by block.")
    with progress.stage("scores", len(order)) as stage:
        for turn in walk.turns(alone=True):
            local, gather = _local(ground, within[turn.block]), _gathering(turn, within[turn.block], ground)
            scores = scored(local, _action(ground), _tensors(turn.shell), everyone(local.sites), gather, 0)[1]
            found |= kept(list(scores), scores)
            turn.hand_on()
            stage.advance(1, block=turn.block)
    if outside:
        walk.store.fetch(member.tensor for site in outside for member in site.members)
        gather = _beyond(walk, outside, ground)
        scores = scored(_local(ground, outside), _action(ground), _tensors(walk.model), everyone(outside), gather, 0)[1]
        found |= kept(list(scores), scores)
    return found


def _taken(
    ground: Ground,
    store: Store,
    turn: Turn,
    sites: Sequence[Site],
    remembered: Remembered | None,
    journal: Journal | None,
    file: str,
) -> Cut:
    """One block, as it was written down or cut now, and run once more for the next one."""
    state = journal.read(file) if journal else None
    if state is not None:
        store.recall(turn.block, state["weights"])
        turn.hand_on()
        done = {name: state[name] for name in ("alive", "solved", "notes", "lost", "error")}
        return Cut(turn.block, **done, unread=state.get("unread", ()))  # journals of old have none
    dense = turn.look()
    silent = unread(turn, sites, needs_of(ground.recipe, ground.goal))
    whole, sites = [s for s in sites if s.name in silent], [s for s in sites if s.name not in silent]
    decisions: dict[str, Decision] = {}
    steps = _steps(turn, sites, ground.layerwise)
    with _paused(turn, steps) as paused:
        for number, (some, taps) in enumerate(steps):
            if paused is not None:
                gather = _gathering(turn, some, ground, paused.reading(number))
            elif turn.twin:
                gather = _gathering(turn, some, ground, turn.pairs(taps))
            else:
                gather = _kept(_gathering(turn, some, ground), remembered, turn.block, some)
            decisions |= _decided(ground, some, turn.shell, gather)
        weights = store.settle(turn.block)
        moved = change(dense, turn.hand_on(*(paused.outputs if paused else ())))
    alive, solved, notes, lost = _parts(decisions)
    alive |= everyone(whole)
    error = ground.processes.of_first(lambda: moved)
    cut = Cut(turn.block, alive, solved, [*notes, *_untold(turn, steps)], lost, error, silent)
    if journal:
        done = {"alive": alive, "solved": solved, "notes": list(cut.notes), "lost": lost, "error": error, "unread": silent}
        journal.write({"weights": weights, **done}, file)
    return cut


def _decided(ground: Ground, sites: Sequence[Site], model: nn.Module, gather: Gather) -> dict[str, Decision]:
    """Decide these sites and carry it out on `model`, which has their tensors by their names; each process decides its own."""
    owner, tensors = owners(sites, ground.processes.number), _tensors(model)
    own = [site for site in sites if owner[site.name] == ground.processes.rank]
    made = decide(_local(ground, own), _action(ground), tensors, everyone(own), gather, {}, 0)
    decisions = exchanged(ground.processes, owner, made, tensors[sites[0].members[0].tensor].device)
    write(model, decisions)
    alive = _parts(decisions)[0]
    impose(model, tensor_masks(ground.recipe.structure, sites, alive))
    return decisions


def _local(ground: Ground, sites: Sequence[Site]) -> Ground:
    """The run as these sites see it: limits and shares are in the counts already, and may name sites that are not here."""
    alone = Processes()
    return replace(
        ground, sites=tuple(sites), goal=Goal("sparsity", ground.goal.ratio), limits=Limits(), measure=None, processes=alone
    )


def _parts(
    decisions: Mapping[str, Decision],
) -> tuple[dict[str, Tensor], dict[str, list[str]], list[str], dict[str, float]]:
    """(masks, names of changed tensors, notes, errors)"""
    keeps = {name: decision.keep for name, decision in decisions.items()}
    solved = {name: sorted(decision.tensors) for name, decision in decisions.items() if decision.tensors}
    lost = {name: decision.error for name, decision in decisions.items() if decision.error is not None}
    return keeps, solved, list(dict.fromkeys(note for decision in decisions.values() for note in decision.notes)), lost


def _runs(ground: Ground, chains: Sequence[Chain], remembered: Remembered | None) -> bool:
    """Whether the model must be run: not for parts that read no data, nor where everything is remembered."""
    needs = needs_of(ground.recipe, ground.goal)
    if not needs or remembered is None:
        return bool(needs)
    within, outside = parted(ground.sites, [block for chain in chains for block in chain.blocks])
    return not all(remembered.holds(place, sites, needs) for place, sites in (*within.items(), (_OUTSIDE, outside)))


def _kept(gather: Gather, remembered: Remembered | None, place: str, sites: Sequence[Site]) -> Gather:
    return remembered.over(place, sites, gather) if remembered else gather


def _steps(turn: Turn, sites: Sequence[Site], layerwise: bool) -> list[tuple[list[Site], Mapping[str, Tap]]]:
    """The sites of a block that are decided together, with their taps: all at once where nobody asks for their order."""
    if not (layerwise or turn.twin) or not all(site.weight for site in sites):
        return [(list(sites), {})] if sites else []

    def found() -> list[dict[str, Tap | None]]:
        with seeded(turn.seed, 1), ready(turn.shell):
            first = next(iter(turn.calls or ()), None)
            return [dict.fromkeys(names)] if first is None else groups(turn.shell, first, names, beside=turn.twin is not None)

    names = [site.weight.tensor for site in sites if site.weight]
    steps = turn.processes.of_first(found) if sites else []
    taken = [[site for site in sites if site.weight and site.weight.tensor in step] for step in steps]
    if not turn.twin and not all(tap for step in steps for tap in step.values()):
        return [(list(sites), {})]  # where a call would have to wait is unknown
    return [(some, {name: tap for name, tap in step.items() if tap}) for some, step in zip(taken, steps, strict=True)]


def _untold(turn: Turn, steps: Sequence[tuple[Sequence[Site], Mapping[str, Tap]]]) -> list[str]:
    """A note of the weights that cannot be compared with the dense model's, by their names within a block, alike in all."""
    names = [site.weight.tensor for some, taps in steps for site in some if site.weight and site.weight.tensor not in taps]
    if turn.twin is None or not names:
        return []
    within = ", ".join(sorted(name.removeprefix(f"{turn.block}.") for name in names))
    return [f"Solved for what their own dense weights give, since nothing can be compared with the dense model there: {within}."]


def _paused(turn: Turn, steps: Sequence[tuple[Sequence[Site], Mapping[str, Tap]]]) -> AbstractContextManager[Paused | None]:
    """The calls that wait before the layers of every step; None where a block is run as a whole for each of them."""
    taps = [step for _, step in steps]
    if turn.calls is None or not taps or not all(len(step) == len(some) for some, step in steps):
        return nullcontext()
    own, most = Block(turn.shell, turn.calls), turn.holds(taps)
    if turn.twin is None:
        return Paused(own, taps, most=most)
    told = all(tap.stream is None or tap.base is not None for step in taps for tap in step.values())
    if not told or turn.twin.calls is None:
        return nullcontext()
    return Paused(own, taps, Block(turn.twin.shell, turn.twin.calls), most)


def _gathering(turn: Turn, sites: Sequence[Site], ground: Ground, calls: Iterable[Batch] | None = None) -> Gather:
    """`calls`: None for the block's own, run to the end."""

    def gather(needs: Sequence[Statistic]) -> Mapping[str, Gathered]:
        # Loaders that shuffle by torch's global generator give the same batches in every pass, in a resumed run too.
        with seeded(ground.seed, 1), ready(turn.shell), ready(turn.twin.shell if turn.twin else turn.shell):
            return collect(turn.shell, sites, needs, (turn.calls or ()) if calls is None else calls, processes=ground.processes)

    return gather


def _beyond(walk: Walk, sites: Sequence[Site], ground: Ground) -> Gather:
    def gather(needs: Sequence[Statistic]) -> Mapping[str, Gathered]:
        with seeded(ground.seed, 1):
            return collect(walk.model, sites, needs, walk.beyond(), processes=ground.processes)

    return gather


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters(remove_duplicate=False)}


def _actions(ground: Ground) -> Sequence[Action]:
    return ground.recipe.schedule.actions(Clock(), ground.goal)


def _action(ground: Ground) -> Prune:
    return next(action for action in _actions(ground) if isinstance(action, Prune))
