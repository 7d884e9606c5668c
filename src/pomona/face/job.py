"""What every way to a result starts from: the user's model, inputs, data and measures, checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pomona.data import Data
from pomona.engines.beside import beside
from pomona.engines.blocks import chains
from pomona.face.configured import configured
from pomona.face.quality import Judge, judge_of
from pomona.face.wish import Batches, check_fits, check_folder, check_model, check_takes
from pomona.graph import Graph, Release, survey
from pomona.graph.biases import Biases
from pomona.graph.binding import released, same_model
from pomona.graph.export import inputs_of
from pomona.models import Source
from pomona.vocabulary import Batch, Loss, Progress, Silent, Training
from pomona.vocabulary.beside import Beside


@dataclass(frozen=True, eq=False)
class Job:
    """Made by `Job.of`; nothing in it has been changed or run yet but one batch through the model.

    Where tied tensors had to be made two, `parted` names them, `model` is that copy and `given` the user's own; so it is where
    layers were given `biases`.
    """

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    batches: Batches | None
    loss: Loss | None
    judge: Judge | None
    valid: Any
    latency: bool | Mapping[str, Any]
    seed: int
    checkpoint: Path | None
    progress: Progress
    source: Source | None
    command: str | None
    traced: Graph | None = None
    given: nn.Module | None = None
    parted: tuple[str, ...] = ()
    biases: Biases = field(default_factory=Biases)
    blocks: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        model: nn.Module,
        args: Any,
        kwargs: Mapping[str, Any] | None,
        *,
        data: Any = None,
        loss: Loss | None = None,
        test: Any = None,
        metric: str | None = None,
        valid: Any = None,
        latency: bool | Mapping[str, Any] = False,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
        source: Source | None = None,
        command: str | None = None,
        blocks: Sequence[str] = (),
    ) -> Job:
        """Raises InputError for a sick model, data that do not fit it, or a folder that cannot be written to.

        `args` may be a graph traced before, which holds the inputs that it was traced on.
        """
        check_model(model)
        if isinstance(data, Data):
            data, test = data.train, test if test is not None else data
        batches = Batches.of(data, model) if data is not None else None
        folder = check_folder(checkpoint)
        traced = same_model(args, model) if isinstance(args, Graph) else None
        args, kwargs = inputs_of(args, kwargs) if traced is None else traced.program.example_inputs
        if traced is None:
            check_takes(model, args, kwargs)
        judge = judge_of(test, metric, model)
        for given in (batches, judge.data if judge else None):
            check_fits(model, given)
        progress = progress or Silent()
        return cls(
            model,
            args,
            kwargs,
            batches,
            loss,
            judge,
            valid,
            latency,
            seed,
            folder,
            progress,
            source,
            command,
            traced,
            blocks=blocks,
        )

    def trace(self, release: Release | None = None) -> Graph:
        """The graph of the model on the example inputs, or, without one, its weights.

        `release`: what may change although users see it.
        """
        if self.traced is not None:
            return configured(released(self.traced, release), self.model)
        with self.progress.stage("tracing", 1) as stage:
            graph = survey(self.model, self.args, self.kwargs, release=release)
            stage.advance()
        return configured(graph, self.model)

    def training(
        self, hold: Callable[[nn.Module], None], snapshots: dict[str, dict[str, Tensor]], graph: Graph | None = None
    ) -> Training:
        """The user's data and loss joined with an engine's masks and snapshots. Only for jobs with data."""
        assert self.batches is not None
        best = judge_of(self.valid, None, self.model)
        validate = best.signed if best else None
        walk = None if graph is None else partial(self._beside, graph)
        return Training(self.batches, self.loss, hold, self.model, validate, snapshots, None, self.seed, self.progress, walk)

    def _beside(self, graph: Graph, model: nn.Module, batches: Sequence[Batch]) -> Iterator[Beside]:
        return beside(model, self.model, chains(self.model, graph, self.blocks), batches, self.seed)
