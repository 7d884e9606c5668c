"""The report of a run as one dictionary: counted on the models themselves, never taken on trust from the plan."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import Any

from torch import Tensor, nn

from pomona import __version__
from pomona.evaluate import Counts, Quality, count, evaluate
from pomona.face.job import Job
from pomona.face.quality import Judge
from pomona.face.sentence import sentence
from pomona.face.workload import missed
from pomona.graph import Graph
from pomona.graph.expr import Keep, size, take
from pomona.graph.masked import dead_blocks
from pomona.graph.proof import Proof
from pomona.graph.surgery import Realised, renamed
from pomona.graph.units import kept_units
from pomona.runtime import Latency, machine
from pomona.structures import named
from pomona.vocabulary import Goal, Plan, ProofError, Recipe


def account(
    job: Job,
    realised: Realised,
    graph: Graph,
    plan: Plan,
    recipe: Recipe | None,
    proof: Proof,
    rounds: Sequence[Mapping[str, Any]],
    timing: Latency | None,
    history: Mapping[str, Any] | None,
    *,
    qualities: tuple[Quality | None, Quality | None, Quality | None],
    tasks: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything that a reader of the report wants to know; see `docs/report.md` for the fields.

    Method, goal and seed are those that the plan was made with.
    """
    dense, small, source = job.model, realised.model, job.source
    whole, left = count(job.given or dense), count(small)
    after = After.of(graph, plan, realised)
    return {
        "pomona": __version__,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": job.command,
        "seed": plan.provenance.get("seed"),
        "machine": machine(),
        "model": {
            "name": source.value if source and source.value else type(dense).__name__,
            "class": type(dense).__name__,
            "source": f"{source.kind}:{source.value}" if source else None,
        },
        "recipe": _recipe(recipe, plan),
        "goal": plan.provenance.get("goal"),
        "params": {"before": whole.params, "after": left.params},
        "nonzeros": {"before": whole.nonzeros, "after": left.nonzeros},
        "macs": {"before": _known(graph.costs().macs, graph), "after": _known(after.macs, graph)},
        "bytes": {"before": whole.bytes, "after": left.bytes},
        "kv": _kv(after, str(plan.provenance.get("goal"))),
        "latency": asdict(timing) if timing else None,
        "quality": _quality(qualities, job.judge, dense, small),
        "tasks": [*tasks],
        "proof": asdict(proof) | {"form": realised.form, "notes": [*proof.notes, *realised.notes]},
        "layers": after.layers(),
        "blocks": [{"name": name, "error": error} for name, error in plan.provenance.get("blocks", {}).items()],
        "sites": [
            {
                "name": name,
                "kind": site.kind,
                "family": site.axis.family if site.axis else site.kind,
                "before": site.units,
                "after": int(plan.keep(name).sum()),
                "held": name in plan.provenance.get("held", ()),
                "error": plan.provenance.get("errors", {}).get(name),
                "normalisers": list(site.axis.normalisers) if site.axis else [],
            }
            for name, site in plan.sites.items()
        ],
        "frozen": [{"axis": axis.name, "reason": axis.frozen} for axis in graph.axes.values() if axis.frozen],
        "rounds": _rounds(rounds, graph, whole, *qualities[1:]),
        "recovery": _recovery(history),
        "notes": [*_notes(plan, graph), *missed(plan.provenance.get("goal"), timing)],
        "plan": None,
        "out": None,
    }


def _recipe(recipe: Recipe | None, plan: Plan) -> dict[str, Any]:
    """The sentence that made the plan; for a plan that does not know it, what can be said all the same."""
    method, goal = plan.provenance.get("method", "custom"), plan.provenance.get("goal")
    if recipe is None:
        text = str(plan.provenance.get("recipe", ""))
        about = {"text": text, "sentence": "A plan made elsewhere was carried out.", "summary": "", "papers": [], "needs": []}
        return {"method": method, **about, "when": None, "structure": ", ".join(sorted({s.kind for s in plan.sites.values()}))}
    return {
        "method": method,
        "text": str(recipe),
        "sentence": sentence(recipe, Goal.parse(goal) if goal else None),
        "summary": recipe.summary,
        "papers": [str(p) for p in recipe.papers],
        "needs": sorted(recipe.needs),
        "when": recipe.when,
        "structure": named(recipe.structure),
    }


@dataclass(frozen=True, eq=False)
class After:
    """What a plan left, weight by weight.

    MACs are those of the traced program at the sizes that the small model's own tensors have; that it computes this
    program is what the proof says. MACs on zeroed weights count as gone: a sparse kernel skips them, a dense one does not.
    """

    graph: Graph
    plan: Plan
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, graph: Graph, plan: Plan, realised: Realised) -> After:
        """Raises ProofError where the small model's tensors are not those of the plan."""
        keep = kept_units(graph, plan)
        sizes = {name: len(keep[atom]) for name, atom in graph.atoms.items() if atom in keep}
        if realised.form != "masked":
            _same_shapes(graph, plan, keep, realised.model)
        return cls(graph, plan, sizes)

    @cached_property
    def masks(self) -> Mapping[str, Tensor]:
        """Of single weights, cut to the shapes of the small model."""
        keep = kept_units(self.graph, self.plan)
        elements = {s.members[0].tensor: self.plan.keep(name) for name, s in self.plan.sites.items() if s.kind == "element"}
        return {t: take(mask, self.graph.dims[t], keep) for t, mask in elements.items() if renamed(t, self.plan) is not None}

    @property
    def gone(self) -> list[str]:
        """The blocks that are left out."""
        return dead_blocks(self.plan)

    @property
    def pass_macs(self) -> int:
        """Multiply-accumulates of a pass on dense kernels, zeros included; looks at no mask."""
        return self.graph.costs(self.sizes, without=self.gone).macs

    @property
    def macs(self) -> int:
        """Multiply-accumulates on living weights and between activations."""
        return self.graph.costs(self.sizes, {t: float(m.float().mean()) for t, m in self.masks.items()}, self.gone).macs

    @property
    def kv_bytes(self) -> int:
        """Of the keys and values of one token."""
        return self.graph.costs(self.sizes, without=self.gone).kv_bytes

    def layers(self) -> list[dict[str, Any]]:
        """One row for every prunable weight of the dense model."""
        keep = kept_units(self.graph, self.plan)
        macs = self.graph.macs_by_weight(self.sizes, self.gone)
        rows = []
        for weight in self.graph.weights.values():
            if not weight.prunable:
                continue
            gone = renamed(weight.tensor, self.plan) is None
            shape = [0] * len(weight.shape) if gone else [size(e, keep) for e in self.graph.dims[weight.tensor]]
            alive = int(self.masks[weight.tensor].sum()) if weight.tensor in self.masks else prod(shape)
            spent = 0 if gone else macs.get(weight.tensor, 0) * alive // max(1, prod(shape))
            rows.append(
                {
                    "name": weight.tensor,
                    "kind": weight.kind,
                    "shape_before": list(weight.shape),
                    "shape_after": shape,
                    "params_before": weight.size,
                    "params_after": prod(shape),
                    "nonzeros_after": alive,
                    "macs_before": _known(weight.macs, self.graph),
                    "macs_after": _known(spent, self.graph),
                }
            )
        return rows


def _same_shapes(graph: Graph, plan: Plan, keep: Keep, small: nn.Module) -> None:
    shapes = {name: tuple(p.shape) for name, p in small.named_parameters(remove_duplicate=False)}
    for tensor in graph.weights:
        name, wanted = renamed(tensor, plan), tuple(size(e, keep) for e in graph.dims[tensor])
        if name is not None and shapes.get(name) != wanted:
            raise ProofError(f"{name} is {shapes.get(name)} in the pruned model where the plan leaves {wanted}.")


def _quality(
    qualities: tuple[Quality | None, Quality | None, Quality | None], judge: Judge | None, dense: nn.Module, small: nn.Module
) -> dict[str, Any] | None:
    before, pruned, recovered = qualities
    if before is None or pruned is None:
        return None
    told: dict[str, Any] = {
        "metric": before.metric,
        "higher_is_better": before.higher_is_better,
        "before": before.value,
        "after": pruned.value,
        "recovered": recovered.value if recovered else None,
        "examples": before.examples,
        "per_class": _per_class(before, pruned, recovered),
        "agreement": None,
        "kl": None,
    }
    if judge is not None and judge.data is not None and before.metric == "accuracy":
        told |= {name: evaluate(small, judge.data, name, dense=dense).value for name in ("agreement", "kl")}
    return told


def _per_class(before: Quality, pruned: Quality, recovered: Quality | None) -> list[dict[str, Any]]:
    later = {c.label: c.value for c in recovered.per_class} if recovered else {}
    after = {c.label: c.value for c in pruned.per_class}
    return [
        {"label": c.label, "support": c.support, "before": c.value, "after": after[c.label], "recovered": later.get(c.label)}
        for c in before.per_class
    ]


def _recovery(history: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if history is None:
        return None
    epochs = [entry for part in _parts(history["history"]) for entry in _epochs(part)]
    numbered = [{"epoch": number, **entry} for number, entry in enumerate(epochs, 1)]
    return {"name": history["name"], "seconds": history["seconds"], "epochs": numbered}


def _parts(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A chain tells of every part under its name, one recovery of itself."""
    inner = [value for value in told.values() if isinstance(value, Mapping)]
    return [part for value in inner for part in _parts(value)] if inner else [told]


def _epochs(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    losses = told.get("loss", [])
    qualities = told.get("quality") or [None] * len(losses)
    return [{"loss": loss, "quality": quality} for loss, quality in zip(losses, qualities, strict=True)]


def _rounds(
    entries: Sequence[Mapping[str, Any]], graph: Graph, dense: Counts, pruned: Quality | None, recovered: Quality | None
) -> list[dict[str, Any]]:
    """Every round; what the small model is worth before and after its recovery belongs to the last one."""
    told = [_round(entry, graph, dense) for entry in entries]
    if told and pruned is not None:
        told[-1]["quality"] = pruned.value
    if told and recovered is not None:
        told[-1]["recovered"] = recovered.value
    return told


def _round(entry: Mapping[str, Any], graph: Graph, dense: Counts) -> dict[str, Any]:
    """What one round left; zeroed parameters count as gone."""
    costs = graph.costs(entry["sizes"], entry["densities"])
    nonzeros = dense.nonzeros - (dense.params - costs.params)
    told = {"round": entry["round"] + 1, "params": costs.params, "macs": _known(costs.macs, graph), "nonzeros": nonzeros}
    return told | {"quality": entry["quality"], "recovered": entry.get("recovered")}


def _kv(after: After, goal: str) -> dict[str, int] | None:
    """Bytes of the keys and values of a token, where they became fewer or were asked for."""
    before, left = after.graph.costs().kv_bytes, after.kv_bytes
    return {"before": before, "after": left} if before and (left != before or goal.startswith("kv=")) else None


def _known(macs: int, graph: Graph) -> int | None:
    """Multiply-accumulates, where there is a graph to count them on."""
    return macs if graph.missing is None else None


def _notes(plan: Plan, graph: Graph) -> list[str]:
    notes = list(plan.provenance.get("notes", ()))
    if graph.missing is not None:
        notes.append(f"Only single weights could be pruned and MACs are unknown, since there is no graph: {graph.missing}.")
    if any(site.kind == "element" for site in plan.sites.values()):
        notes.append("MACs and non-zeros count only living weights; dense kernels compute the zeros as well, so see the latency.")
    if held := plan.provenance.get("held"):
        notes.append(f"Held at the least that may stay: {', '.join(held)}.")
    return notes
