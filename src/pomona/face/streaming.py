"""A transformers folder goes in, a folder with the pruned model comes out, and at no time is the whole model in memory."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomona.collect.collector import split
from pomona.engines.blocks import Chain, NotByBlocks, seen_by
from pomona.engines.decide import Ground
from pomona.engines.estimate import Estimate, estimate
from pomona.engines.journal import Journal
from pomona.engines.memory import Peak, frugal, parse, told
from pomona.engines.prices import price
from pomona.engines.sequential import cuts, needs_of
from pomona.engines.streaming import INDEX, FromShards
from pomona.engines.sweep import Room, Walk
from pomona.face.blockwise import Course, Way, way
from pomona.face.folders import check_free, check_outside, scratch_beside, whole_folder
from pomona.face.opening import Opened, calibration, taken
from pomona.face.packing import declare_packed
from pomona.face.report import Report, heard
from pomona.face.streamed import PLANS, Record, Streamed
from pomona.face.wish import Batches, check_folder, check_needs, check_unordered, goal_for, name_of, recipe_for, settle, sites_of
from pomona.graph import Graph, survey
from pomona.models import example_inputs
from pomona.models.hub import tokenizer
from pomona.models.pretrained import smollm2_folder
from pomona.models.skeleton import skeleton
from pomona.processes import Processes
from pomona.report import write as write_report
from pomona.runtime.packing import METHOD, quantized_by, unpacked, weight_files
from pomona.shards import Made, Shards
from pomona.training.batches import onto, seeded
from pomona.training.checkpoint import fingerprint
from pomona.vocabulary import Batch, Goal, InputError, Limits, Progress, Recipe, Silent, Structure, spell


def prune_folder(
    folder: str | Path,
    out: str | Path,
    *,
    method: str | Recipe = "wanda",
    goal: str | Goal | None = None,
    structure: str | Structure | None = None,
    data: Any = None,
    calibrate: int | None = 64,
    max_memory: str | int = "4GB",
    seed: int = 0,
    limits: Limits | None = None,
    only: Sequence[str] = (),
    keep: Sequence[str] = (),
    blocks: Sequence[str] = (),
    true_sequential: bool = False,
    checkpoint: str | Path | None = None,
    processes: Processes | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> Streamed:
    """Prune the transformers model in `folder` into the new folder `out`, block by block, within `max_memory`.

    `data` are batches, or a name as DATA on the command line, read by the tokenizer in the folder.

    Weights come from the safetensors files one block at a time and go to new ones in the type that they had; packed ones are
    unpacked on the way, and experts that are stored one by one are stored so again. What blocks give stays in memory as far as
    the limit allows and goes to disk beyond it. The limit is on what the process takes above what it had at the start; what
    the run will take is told before it starts. With `checkpoint`, a folder, a run that was killed
    goes on behind its last block and ends bit-identical. Of several `processes` (see `joined`) each reads the whole model,
    takes up to `max_memory`, and runs and decides its share; the first writes. `true_sequential` runs a block once for each of
    its layers, since calls that wait would lie in memory. Everything else is as in `prune`, which also
    proves and measures; here the whole model is never there. Raises InputError where the limit cannot be met, with the least
    that will do, and for recipes that need more than activations.
    """
    source = smollm2_folder() if str(folder) == "smollm2" else Path(folder)
    target, progress, processes = Path(out), progress or Silent(), processes or Processes()
    check_free(target)
    check_outside(target, source)
    packed = _is_packed(source)
    limit, journals, start = parse(max_memory), check_folder(checkpoint), time.monotonic()
    files = weight_files(source)
    shards = unpacked(files) if packed else Shards.of(files)
    model, bare = skeleton(source)
    peak = Peak()
    if isinstance(data, (str, Path)):
        data = calibration(str(data), Opened(model, (), {}, None, tokenizer(str(source))), progress, seed)[0].train
    batches = Batches.of(taken(data, model), model).first(calibrate) if data is not None else None
    graph = _traced(bare, batches)
    recipe = recipe_for(method, structure, None, goal=goal_for(goal), only=only, keep=keep)
    check_unordered(recipe, "the model is never whole in memory")
    found, ground = _asked(
        bare, graph, recipe, name_of(method), goal, limits or Limits(), seed, Course(True, true_sequential, blocks), batches
    )
    ground = replace(ground, processes=processes, layerwise=true_sequential)
    foretold, pieces = _foretold(ground, found.chains, graph, batches, limit, shards)
    for note in (found.told, foretold.sentence(limit)):
        progress.note(note)
    journal = _journal(journals, shards, ground, found.chains, batches) if journals else None
    with frugal(), (whole_folder if processes.first else scratch_beside)(target) as partial:
        store = FromShards(model, shards, found.blocks, journals or partial, processes)
        room, beside = Room(foretold.room(limit), partial / "outputs"), "beside" in ground.recipe.needs
        walk = Walk(model, found.chains, pieces, room, store, seed, processes, beside)
        record = Record(partial / PLANS, ground)
        with _whole_instead():
            for cut in cuts(ground, walk, progress, journal):
                record.add(cut)
        if processes.first:
            store.finish(record.outside)
            shutil.rmtree(partial / "outputs", ignore_errors=True)
            if journals:
                _move_weights(journals, partial)
            _copy_others(source, partial, files)
            if packed:
                declare_packed(partial / "config.json", False, None)
        memory = {"limit": limit, "foretold": foretold.most(limit), "peak": peak.bytes}
        told_of = {"command": command, "out": str(target), "memory": memory, "seconds": time.monotonic() - start}
        report = record.report(graph, type(model).__name__, source, told_of)
        write_report(report, partial)
    processes.of_first(lambda: _forget(journals) if journals else None)  # the others wait until all is there
    for note in heard(record.notes):
        progress.note(note)
    progress.note(f"At its peak the run took {told(peak.bytes)} of memory, of {told(limit)} allowed.")
    return Streamed(target, Report.of(report))


def _is_packed(source: Path) -> bool:
    """Whether weights are packed; raises InputError where they are stored in a way that transformers alone reads."""
    how = quantized_by(source)
    if how not in (None, METHOD):
        raise InputError(f"{source} holds weights that {how} stores; save it with plain ones first, which can be streamed.")
    return how == METHOD


@contextmanager
def _whole_instead() -> Iterator[None]:
    """What cannot go block by block cannot be streamed, which leaves another way to say so."""
    try:
        yield
    except NotByBlocks as error:
        raise InputError(f"{error.why}, so it cannot be streamed; prune the whole model, without --max-memory.") from error


def _traced(bare: nn.Module, batches: Batches | None) -> Graph:
    """The graph, on shapes alone."""
    given = Batch(*example_inputs(bare, None, None)) if batches is None else next(iter(batches)).unlabelled
    batch = onto(given, torch.device("meta"))
    return survey(bare, batch.args, batch.kwargs)


def _asked(
    bare: nn.Module,
    graph: Graph,
    recipe: Recipe,
    name: str,
    goal: str | Goal | None,
    limits: Limits,
    seed: int,
    course: Course,
    batches: Batches | None,
) -> tuple[Way, Ground]:
    wish = goal_for(goal)
    with _whole_instead():
        found = way(bare, graph, recipe, wish, course)
    assert found is not None  # it was asked for
    if (recovery := found.recipe.recovery) is not None:
        raise InputError(
            f"The method '{name}' ends with {spell(recovery)}, for which the whole model must be in memory; prune it without "
            "a limit on memory, or by a method without a recovery."
        )
    recipe = found.recipe
    check_needs(recipe.needs, f"The method '{name}'", batches, None)
    sites = sites_of(recipe.structure, graph)
    wish = settle(wish, recipe.structure, sites)
    if wish is None or wish.cost == "latency":
        raise InputError("Say how far to prune with --goal (goal= in Python): sparsity=0.5, params=0.6x, ...")
    if any(site.kind != "element" for site in sites):
        raise InputError(
            "A streamed run writes tensors of the shapes that it read: prune weights, blocks of them or 2:4 with it."
        )
    counting = seen_by(graph, sites, found.chains) if wish.cost == "sparsity" else graph
    return found, Ground(recipe, sites, price(wish, counting, sites, recipe.structure), wish, limits, seed, name)


def _foretold(
    ground: Ground, chains: Sequence[Chain], graph: Graph, batches: Batches | None, limit: int, shards: Shards
) -> tuple[Estimate, Iterable[Batch] | None]:
    """What the run will take, and the data in the pieces that it will be run on: batches, or examples where those are large."""
    # What is unpacked is held as bits, as bytes that say who lives, and as values.
    stored = max(place.dtype.itemsize + 2 * isinstance(place, Made) for place in shards.places.values())
    if batches is None or not needs_of(ground.recipe, ground.goal):
        return estimate(ground, chains, graph, None, 0, stored), None
    share_of = ground.processes.share_of
    whole = estimate(ground, chains, graph, next(iter(batches)), share_of(len(batches)), stored)
    if whole.least <= limit:
        return whole, batches
    singles = Singles(batches)
    return estimate(ground, chains, graph, next(iter(singles)), share_of(len(singles)), stored), singles


@dataclass(frozen=True, eq=False)
class Singles:
    """The examples of batches, each as a batch of one."""

    batches: Batches

    def __len__(self) -> int:
        """Number of examples."""
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Batch]:
        return (single for batch in self.batches for single in split(batch.unlabelled))


def _journal(folder: Path, shards: Shards, ground: Ground, chains: Sequence[Chain], batches: Batches | None) -> Journal:
    with seeded(ground.seed):
        first = next(iter(batches)) if batches else None
    run = {
        "model": shards.stamp,
        "recipe": str(ground.recipe),
        "goal": str(ground.goal),
        "limits": json.dumps(asdict(ground.limits), sort_keys=True),
        "seed": str(ground.seed),
        "data": fingerprint(nn.Module(), {"batches": len(batches) if batches else 0}, first or Batch()),
        "order of layers": str(ground.layerwise),
        "list of blocks": " ".join(block for chain in chains for block in chain.blocks),
    }
    return Journal(folder, run, ground.processes)


def _move_weights(work: Path, partial: Path) -> None:
    for path in weight_files(work):
        shutil.move(path, partial / path.name)
    shutil.move(work / INDEX, partial / INDEX)


def _forget(work: Path) -> None:
    """The run is over: its folder of checkpoints would be taken for an unfinished one."""
    for path in [*work.glob("block-*.safetensors"), work / "counts.safetensors"]:
        path.unlink(missing_ok=True)


# Besides our own: what transformers opens as weights, all of which would be the dense ones.
_STAY = (INDEX, "report.json", "report.html", "*.safetensors", "pytorch_model*.bin*", "tf_model*.h5*", "flax_model*.msgpack*")


def _copy_others(source: Path, partial: Path, weights: Sequence[Path]) -> None:
    """The config, the tokenizer and whatever else makes the folder a model."""
    for path in source.iterdir():
        if path.is_file() and path not in weights and not any(path.match(pattern) for pattern in _STAY):
            shutil.copy2(path, partial / path.name)
