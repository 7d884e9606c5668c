"""One model: half of every prunable axis removed, proven, and used as a user would use it. Prints one JSON row."""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from time import perf_counter, process_time
from typing import Any

import torch
from benchmarks.coverage.models import Case, case
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import pomona
from pomona.graph.draws import same_draws
from pomona.graph.precise import precise
from pomona.graph.proof import another, answer, difference, prove
from pomona.graph.shares import shares
from pomona.vocabulary import Decision, Plan, Site

Row = dict[str, Any]


def half(graph: Any, seed: int = 0) -> Plan:
    """Keep a random half of the units of every axis that is free; the same share of all, so that equal widths stay equal."""
    random = torch.Generator().manual_seed(seed)
    sites, decisions = {}, {}
    for name, axis in graph.axes.items():
        least = max((axis.size + 1) // 2, axis.least)
        if axis.frozen is None and least < axis.size:
            keep = torch.zeros(axis.size, dtype=torch.bool)
            keep[torch.randperm(axis.size, generator=random)[:least]] = True
            sites[name] = Site(name, "axis", (axis.size,), axis.members, axis=axis)
            decisions[name] = Decision(keep)
    return Plan(sites, decisions, {"release": graph.released})


@torch.no_grad()
def enliven(model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    """Give a fresh network a signal that reaches its output, or a proof on it would say little.

    What was initialised to a constant gets noise; batch norms take the statistics of the example.
    """
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=random))
            if parameter.abs().max() < 0.01:
                parameter.fill_(0.5)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    hooks = [m.register_forward_pre_hook(_settle) for m in norms]
    args, kwargs = inputs
    model(*args, **kwargs)
    for hook in hooks:
        hook.remove()


def _settle(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Statistics of this very input, before the norm uses them; layers before it are settled already."""
    x = inputs[0]
    over = [d for d in range(x.dim()) if d != 1]
    norm.running_mean.copy_(x.mean(over))
    norm.running_var.copy_(x.var(over, correction=0).clamp(min=1e-3) if x.numel() > x.shape[1] else torch.ones(x.shape[1]))


def examine(found: Case) -> Row:
    """The row of one model. Whatever fails is in the row: an error of Pomona is a finding, not a reason to stop."""
    model, (args, kwargs) = found.model, found.inputs
    enliven(model, found.inputs)
    row: Row = {"class": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())}
    start, cpu = perf_counter(), process_time()
    graph = pomona.trace(model, args, kwargs, release=found.release)
    share = shares(graph)
    row |= {
        "share_params": share.params,
        "share_macs": share.macs,
        "share_two": share.macs_two_factors,
        "share_exact": share.macs_exact,
        "share_widths": share.macs_two_widths,
    }
    row |= {"frozen": _frozen(graph), "unknown": sorted({op for op, _ in graph.unknown})}
    result = pomona.replay(model, half(graph), graph, latency=False)
    row |= {"seconds": perf_counter() - start, "cpu_seconds": process_time() - cpu}
    report = result.report
    row |= {
        "form": report.proof.form,
        "passed": report.proof.passed,
        "error": report.proof.max_error,
        "sensitivity": report.proof.sensitivity,
        "exact": len(report.proof.exact_groups),
        "approximate": len(report.proof.approximate_groups),
        "params": [report.params.before, report.params.after],
        "macs": [report.macs.before, report.macs.after],
        "notes": [*report.proof.notes, *report.notes],
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    for name, check in CHECKS.items():
        row[name] = _attempt(partial(check, result.model, model, found))
    return row


def same_class(small: nn.Module, model: nn.Module, found: Case) -> bool:
    """An ordinary module of the same class, without hooks that were not there."""
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for net in (small, model) for m in (net, *net.modules())]
    half = len(hooks) // 2
    return type(small) is type(model) and sum(hooks[:half]) == sum(hooks[half:])


def other_batch(small: nn.Module, model: nn.Module, found: Case) -> bool | str | None:
    """Two examples at once are what they are one after the other; None where they are not in the dense model either."""
    ours, dense = (partial(_joins, precise(net), found) for net in (small, model))
    outcome = _attempt(ours)
    return outcome if outcome is True or _attempt(dense) is True else None


def _joins(net: nn.Module, found: Case) -> bool:
    one, two = found.inputs, another(found.inputs)
    both = pytree.tree_map(lambda a, b: torch.cat([a, b]) if found.batched(a) else a, one, two)
    singles = [answer(net, *x) for x in (one, two)]
    joined = [torch.cat(pair) if pair[0].dim() else pair[0] for pair in zip(*singles, strict=True)]
    # Outputs that pair examples have no parts that belong to one.
    alike = [(a, b) for a, b in zip(answer(net, *both), joined, strict=True) if a.shape == b.shape]
    return bool(alike) and difference([a for a, _ in alike], [b for _, b in alike]) < 1e-8


def other_length(small: nn.Module, model: nn.Module, found: Case) -> bool | None:
    """On shorter sequences the same small model is proven again; None where no input is a sequence that could be shorter."""
    shorter = pytree.tree_map(lambda x: x[:, :-2] if _sequence(x) else x, found.inputs)
    if not any(_sequence(x) for x in pytree.tree_leaves(found.inputs)) or _attempt(partial(_runs, model, *shorter)) is not True:
        return None
    graph = pomona.trace(model, *shorter, release=found.release)
    return prove(model, graph, half(graph), small, *shorter).passed


def _runs(model: nn.Module, args: Any, kwargs: Any) -> bool:
    with torch.no_grad():
        model(*args, **kwargs)
    return True


def _sequence(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() == 2 and not x.is_floating_point() and x.shape[1] > 4


def trains(small: nn.Module, model: nn.Module, found: Case) -> bool:
    """A backward pass reaches every parameter that it reaches in the dense model, with finite gradients."""
    return _reached(small, found) >= min(_reached(model, found), sum(1 for _ in small.parameters()))


def _reached(model: nn.Module, found: Case) -> int:
    copy, (args, kwargs) = deepcopy(model), found.inputs
    out = copy(*args, **kwargs)
    tensors = [x for x in pytree.tree_leaves(out) if isinstance(x, Tensor) and x.is_floating_point() and x.requires_grad]
    sum(x.double().square().mean() for x in tensors).backward()
    grads = [p.grad for p in copy.parameters() if p.grad is not None]
    return len(grads) if all(bool(g.isfinite().all()) for g in grads) else -1


def copies(small: nn.Module, model: nn.Module, found: Case) -> bool:
    """A deep copy answers the same, and takes the state dict strictly."""
    twin, (args, kwargs), answers = deepcopy(small), found.inputs, []
    twin.load_state_dict(small.state_dict(), strict=True)
    for net in (small, twin):
        with torch.no_grad(), same_draws():
            answers.append(pytree.tree_leaves(net.eval()(*args, **kwargs)))
    a, b = answers
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True) if isinstance(x, Tensor))


def exports(small: nn.Module, model: nn.Module, found: Case) -> bool:
    """`torch.export` takes the result again."""
    torch.export.export(small, *found.inputs, strict=False)
    return True


CHECKS: Mapping[str, Callable[[nn.Module, nn.Module, Case], bool | str | None]] = {
    "same_class": same_class,
    "other_batch": other_batch,
    "other_length": other_length,
    "trains": trains,
    "copies": copies,
    "exports": exports,
}


def _attempt(check: Callable[[], bool | str | None]) -> bool | str | None:
    # The models' own code runs here and may raise anything; what it says is the finding.
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _frozen(graph: Any) -> dict[str, int]:
    """Reason -> how many axes it holds."""
    return dict(Counter(axis.frozen for axis in graph.axes.values() if axis.frozen).most_common())


def main(name: str) -> None:
    """Print the row of the model of this name."""
    torch.set_num_threads(1)
    try:
        row = examine(case(name))
    # The parent must hear of everything that goes wrong, whatever it is.
    except Exception as error:
        row = {"failure": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"}
    print(json.dumps({"name": name, **row}))


if __name__ == "__main__":
    main(sys.argv[1])
