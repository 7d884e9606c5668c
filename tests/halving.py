"""The strictest test there is: half of everything that can be pruned goes, and what is left must equal the masked model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from plans import axes_plan, prunable, team
from pomona.graph import Graph, trace
from pomona.graph.masked import masked
from pomona.graph.precise import precise
from pomona.graph.proof import Proof, answer, difference, prove
from pomona.graph.surgery import Realised, realise
from pomona.vocabulary import Plan


class Does(nn.Module):
    """Layers, parameters and numbers by name, and what is done with them."""

    def __init__(self, forward: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.does = forward
        for name, value in held.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return self.does(self, *inputs, **keywords)


@dataclass(frozen=True, eq=False)
class Halved:
    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    graph: Graph
    plan: Plan
    realised: Realised
    proof: Proof

    @property
    def form(self) -> str:
        return self.realised.form

    @property
    def small(self) -> nn.Module:
        return self.realised.model

    @property
    def share(self) -> float:
        """What is left of the parameters."""
        return parameters(self.small) / parameters(self.model)

    def elsewhere(self, batch: int = 3) -> float:
        """How far the small model is from the masked one on another number of examples; only the shapes where zeros count."""
        args, kwargs = grown((self.args, dict(self.kwargs)), batch)
        got = answer(precise(self.small), args, kwargs)
        whole = answer(precise(masked(self.model, self.plan)), args, kwargs)
        if self.proof.approximate_groups:
            return 0.0 if [t.shape for t in got] == [t.shape for t in whole] else float("inf")
        return difference(got, whole)


def halved(model: nn.Module, args: Any, names: Any = None, seed: int = 0) -> Halved:
    """Trace, keep a random half of every axis (or of these), cut, prove."""
    model = alive(model)
    graph = trace(model, args)
    plan = axes_plan(graph, names, seed)
    positional, keywords = graph.program.example_inputs
    realised = realise(model, graph, plan)
    proof = prove(model, graph, plan, realised.model, positional, keywords)
    return Halved(model, positional, keywords, graph, plan, realised, proof)


def check(model: nn.Module, args: Any, form: str | None = "eager", share: float = 0.75, batch: int | None = 3) -> Halved:
    """Everything that must hold of a model that can be pruned; `share` is what may be left of the parameters.

    `form` is None where the class itself cannot say the new sizes: right is then enough, in whatever form.
    """
    found = halved(model, args)
    assert found.graph.unknown == ()
    assert prunable(found.graph), [f"{a.name}: {a.frozen}" for a in found.graph.axes.values()]
    assert found.proof.passed and found.proof.max_error < 1e-9 and found.proof.sensitivity > 1e-4
    assert form in (None, found.form), found.realised.notes
    assert found.share < share, [f"{a.name}: {a.frozen}" for a in found.graph.axes.values()]
    counts = {name: int(found.plan.keep(name).sum()) for name in found.plan.sites}
    assert found.graph.costs(counts).params == parameters(found.small)
    if batch is not None and found.form == "eager":
        assert found.elsewhere(batch) < 1e-9
    return found


def each_axis_alone(found: Halved) -> None:
    """Coupling that is wrong for one axis may be hidden when all are cut at once."""
    for number, name in enumerate(found.plan.sites):
        alone = axes_plan(found.graph, team(found.graph, name), number + 1)
        small = realise(found.model, found.graph, alone).model
        assert prove(found.model, found.graph, alone, small, found.args, found.kwargs).passed, name


def laws(cases: Mapping[str, tuple[Any, ...]], **options: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """The two tests that every network must pass, by its name: a case is what makes it, its inputs, and options for `check`."""

    @pytest.mark.parametrize("name", cases)
    def half_of_everything_goes(name: str) -> None:
        make, args, *more = cases[name]
        torch.manual_seed(0)
        check(make(), args, **{**options, **(more[0] if more else {})})

    @pytest.mark.slow
    @pytest.mark.parametrize("name", cases)
    def each_axis_goes_alone(name: str) -> None:
        make, args, *_ = cases[name]
        torch.manual_seed(0)
        each_axis_alone(halved(make(), args))

    return half_of_everything_goes, each_axis_goes_alone


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def grown(inputs: Any, batch: int) -> Any:
    """Other inputs with so many examples: the first dimension of every tensor that has the batch in it."""
    first = next(t for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.dim()).shape[0]

    def changed(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.dim() or x.shape[0] != first:
            return x
        return torch.cat([x.roll(1, -1)] * batch)[:batch]

    return tree_map(changed, inputs)


def alive(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random scales, shifts and statistics, so that no coupling hides behind ones and zeros."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.copy_(0.2 * torch.randn(module.running_mean.shape, generator=random))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=random))
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_((1.0 if name.endswith("weight") else 0.0) + 0.3 * torch.randn(p.shape, generator=random))
    return model.eval()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def words(*shape: int, kinds: int = 20, seed: int = 1) -> Tensor:
    return torch.randint(0, kinds, shape, generator=torch.Generator().manual_seed(seed))


__all__ = ["Does", "F", "Halved", "alive", "check", "each_axis_alone", "grown", "halved", "laws", "noise", "parameters", "words"]
