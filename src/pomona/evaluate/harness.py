"""Tasks of lm-evaluation-harness, where it is installed: the published numbers of language models, for pruned ones."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pomona.evaluate.outputs import measuring
from pomona.vocabulary import InputError, first_line

_RESAMPLES = 1000  # for the standard error of what is no mean; the harness' own 100,000 take minutes


@dataclass(frozen=True)
class TaskScore:
    """One number of one task, as the harness tells it: `stderr` None where it knows none, `filter` what was read off answers."""

    task: str
    metric: str
    value: float
    stderr: float | None
    higher_is_better: bool | None
    examples: int | None
    shots: int | None
    version: str | None
    filter: str = "none"


@dataclass(frozen=True, eq=False)
class Tasks:
    """Tasks or groups of tasks by their names in lm-evaluation-harness; called with a model, their scores.

    `tokenizer` is that of the model, `include` a folder of task files (YAML) beside those of the harness, `limit` how many
    examples of each task are asked (None: all), `shots` how many solved ones go before each (None: as the task says), `batch`
    how many are asked at once. The harness draws examples by its own seeds, so every model is asked the same. Where all names
    are defined in `include`, its own many tasks are not read, which saves half a minute. Needs `pip install 'pomona[harness]'`.
    """

    names: Sequence[str]
    tokenizer: Any
    include: str | Path | None = None
    limit: int | None = None
    shots: int | None = None
    batch: int = 8

    def check(self) -> None:
        """Raises InputError where the harness is not there, does not know a name, or there is no tokenizer."""
        _tokenizer(self)
        _manager(_harness(), self)

    def __call__(self, model: nn.Module) -> tuple[TaskScore, ...]:
        """The scores of a transformers model, tasks before groups. Raises InputError for what the harness cannot ask."""
        tokenizer, harness = _tokenizer(self), _harness()
        manager = _manager(harness, self)
        if getattr(model, "config", None) is None or not hasattr(model, "generate"):
            raise InputError(f"The harness asks transformers models with a head for words; this is a {type(model).__name__}.")
        with _quiet(), _own_chance(), measuring(model):
            asked = harness.model(pretrained=model, tokenizer=tokenizer, batch_size=self.batch, **_first(tokenizer, model))
            try:
                told = harness.evaluate(
                    asked,
                    tasks=list(self.names),
                    task_manager=manager,
                    num_fewshot=self.shots,
                    limit=self.limit,
                    bootstrap_iters=_RESAMPLES,
                    log_samples=False,
                )
            except OSError as error:  # connections are of this kind, too
                raise InputError(
                    f"The data of {', '.join(self.names)} cannot be read ({first_line(error).rstrip('.')}); "
                    "tasks whose data lie on this machine are given with --include-path (include= in Python)."
                ) from error
        return tuple(_scores(told))


@dataclass(frozen=True)
class _Harness:
    """The three names of the harness that are used here."""

    evaluate: Any
    tasks: Any
    model: Any


def _harness() -> _Harness:
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise InputError(f"Tasks need lm-evaluation-harness ({first_line(error)}): pip install 'pomona[harness]'.") from None
    return _Harness(simple_evaluate, TaskManager, HFLM)


def _manager(harness: _Harness, asked: Tasks) -> Any:
    """What knows the tasks; raises InputError for a name that it does not know."""
    kind = harness.tasks
    folder = None if asked.include is None else str(asked.include)
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"There is no folder {folder} with tasks.")
    if not asked.names:
        raise InputError("Name at least one task: --tasks hellaswag,arc_easy.")
    with _quiet():
        if folder is not None and "include_defaults" in signature(kind).parameters:
            own = kind(include_path=folder, include_defaults=False)
            if set(asked.names) <= set(own.all_tasks):
                return own
        every = kind(include_path=folder)
    for name in asked.names:
        if name not in every.all_tasks:
            close = get_close_matches(name, every.all_tasks, 1)
            hint = f"did you mean {close[0]}?" if close else "`lm_eval ls tasks` lists them."
            raise InputError(f"The harness has no task '{name}'; {hint}")
    return every


def _tokenizer(asked: Tasks) -> Any:
    if asked.tokenizer is None:
        raise InputError("Tasks are text and this model brought no tokenizer; use a transformers folder with one.")
    return deepcopy(asked.tokenizer)  # the harness sets its padding


def _first(tokenizer: Any, model: nn.Module) -> dict[str, int]:
    """What stands before a text without context, where the tokenizer does not say it."""
    if tokenizer.bos_token_id is not None or tokenizer.eos_token_id is not None:
        return {}
    config: Any = model.config
    known = [getattr(config, name, None) for name in ("bos_token_id", "eos_token_id")]
    first = next((number for number in known if isinstance(number, int)), None)
    if first is None:
        raise InputError("Neither tokenizer nor config name a token that begins or ends a text; set bos_token in the tokenizer.")
    return {"prefix_token_id": first}


def _scores(told: Mapping[str, Any]) -> Iterator[TaskScore]:
    """Of tasks first, then of groups; keys are `metric,filter`, beside `metric_stderr,filter`."""
    for task, values in (told["results"] | told.get("groups", {})).items():
        samples = told.get("n-samples", {}).get(task, {}).get("effective")
        shots, version = (told.get(kind, {}).get(task) for kind in ("n-shot", "versions"))
        for key, value in values.items():
            metric, comma, filtered = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            yield TaskScore(
                task,
                metric,
                float(value),
                float(error) if isinstance(error, (int, float)) else None,
                told.get("higher_is_better", {}).get(task, {}).get(metric),
                samples,
                shots if isinstance(shots, int) else None,
                None if version is None else str(version),
                filtered,
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness' log, which is about itself."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _own_chance() -> Iterator[None]:
    """The harness seeds every global generator; afterwards all go on as if nothing had been."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
