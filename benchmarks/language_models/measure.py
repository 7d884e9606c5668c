"""One row: a model pruned by one method at one point on the windows of one seed, and what that did to its perplexity."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import Any

import torch
from benchmarks.language_models import authors
from benchmarks.language_models.methods import AUTHORS, PATTERNS, RECIPES, SIZES, SPARSITIES, TRUE_SEQUENTIAL
from benchmarks.language_models.rows import Protocol, Row, Wanted
from benchmarks.language_models.text import Text
from torch import Tensor, nn

import pomona
from pomona.data.loaders import TokenLoader
from pomona.graph import Graph
from pomona.models.pretrained import smollm2
from pomona.runtime import machine

MODELS: Mapping[str, Any] = {"smollm2": smollm2}
_BATCH = 4  # windows at once
_TRACED = 64  # tokens of the example that the model is traced and proven on


@dataclass(eq=False)
class Bench:
    """A model with its text: loaded, traced and tokenised once, for all rows of one process."""

    name: str
    text: Text
    protocol: Protocol
    commit: str
    clones: Path | None = None
    _drawn: dict[int, Tensor] = field(default_factory=dict)

    @cached_property
    def _loaded(self) -> tuple[nn.Module, Any]:
        found: tuple[nn.Module, Any] = MODELS[self.name]()
        return found

    @cached_property
    def _graph(self) -> Graph:
        return pomona.trace(self._loaded[0], self.drawn(0)[:1, :_TRACED])

    @cached_property
    def _held_out(self) -> TokenLoader:
        windows = self.text.held(self._loaded[1], self.protocol.held_out, self.protocol.length)
        return TokenLoader(windows, _BATCH)

    def drawn(self, seed: int) -> Tensor:
        """int64 (windows, length) to calibrate on."""
        if seed not in self._drawn:
            self._drawn[seed] = self.text.drawn(self._loaded[1], self.protocol.calibration, self.protocol.length, seed)
        return self._drawn[seed]

    def row(self, wanted: Wanted) -> Row:
        """Pruned, counted, measured."""
        self.drawn(wanted.seed)  # not on the clock: a worker draws once for all methods
        start = process_time()
        model = self.pruned(wanted)
        seconds = process_time() - start
        return Row(
            **vars(wanted),
            perplexity=pomona.evaluate(model, self._held_out, "perplexity").value,
            sparsity=_zeros(model),
            parameters=sum(p.numel() for p in model.parameters()),
            seconds=seconds,
            commit=self.commit,
            torch=torch.__version__,
            protocol=self.protocol,
            cpu=machine()["cpu"],
        )

    def pruned(self, wanted: Wanted) -> nn.Module:
        """The model that a row is about."""
        dense, calibration, method, point = self._loaded[0], self.drawn(wanted.seed), wanted.method, wanted.point
        if method == "dense":
            return dense
        if method in AUTHORS:
            assert self.clones is not None  # only asked for where they are
            model, stays = deepcopy(dense), [int(n) for n in PATTERNS.get(point, "0:0").split(":")]
            gone = (stays[1] - stays[0], stays[1])
            authors.prune(model, method, self.clones, calibration, SPARSITIES.get(point, 0.5), gone)
            return model
        how: dict[str, Any] = (
            {"structure": PATTERNS[point]}
            if point in PATTERNS
            else {"goal": f"params={SIZES[point]}x"}
            if point in SIZES
            else {"goal": f"sparsity={SPARSITIES[point]}"}
        )
        data = TokenLoader(calibration, _BATCH)
        # Through the blocks in any case: what reads no data would otherwise prune the head as well.
        how |= {} if point in SIZES else {"sequential": True, "true_sequential": method in TRUE_SEQUENTIAL}
        result = pomona.prune(dense, self._graph, method=RECIPES[method], data=data, seed=wanted.seed, latency=False, **how)
        return result.model


def _zeros(model: nn.Module) -> float:
    """The share of zeros among the weights of linear layers within blocks."""
    weights = [m.weight for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".layers." in name]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
