"""Pomona prunes PyTorch models: a model and a goal go in, a proven smaller and faster model comes out.

Everything public is here; it is imported when it is first used, so that `import pomona` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pomona import on_import

if TYPE_CHECKING:
    from pomona.evaluate import Tasks as Tasks
    from pomona.evaluate import evaluate as evaluate
    from pomona.face.accelerate import accelerate as accelerate
    from pomona.face.accelerate_gpu import accelerate_gpu as accelerate_gpu
    from pomona.face.accelerated import Accelerated as Accelerated
    from pomona.face.accelerated_gpu import AcceleratedGpu as AcceleratedGpu
    from pomona.face.advise import Advice as Advice
    from pomona.face.advise import advise as advise
    from pomona.face.bench import bench as bench
    from pomona.face.catalogue import methods as methods
    from pomona.face.demo import demo as demo
    from pomona.face.loading import load as load
    from pomona.face.prune import plan as plan
    from pomona.face.prune import prune as prune
    from pomona.face.replay import replay as replay
    from pomona.face.result import Result as Result
    from pomona.face.sparsify import sparsify as sparsify
    from pomona.face.streamed import Streamed as Streamed
    from pomona.face.streaming import prune_folder as prune_folder
    from pomona.face.workload import forecast as forecast
    from pomona.graph import trace as trace
    from pomona.processes import joined as joined
    from pomona.runtime import measure_latency as measure_latency
    from pomona.runtime.decoding import Decoder as Decoder
    from pomona.runtime.engines.table import EngineTable as EngineTable
    from pomona.vocabulary import Goal as Goal
    from pomona.vocabulary import InputError as InputError
    from pomona.vocabulary import Limits as Limits
    from pomona.vocabulary import Plan as Plan
    from pomona.vocabulary import ProofError as ProofError
    from pomona.vocabulary import Recipe as Recipe

__version__ = "0.1.0"

_HOMES = {
    "accelerate": "pomona.face.accelerate",
    "accelerate_gpu": "pomona.face.accelerate_gpu",
    "Accelerated": "pomona.face.accelerated",
    "AcceleratedGpu": "pomona.face.accelerated_gpu",
    "advise": "pomona.face.advise",
    "Advice": "pomona.face.advise",
    "bench": "pomona.face.bench",
    "prune": "pomona.face.prune",
    "plan": "pomona.face.prune",
    "prune_folder": "pomona.face.streaming",
    "Streamed": "pomona.face.streamed",
    "sparsify": "pomona.face.sparsify",
    "replay": "pomona.face.replay",
    "load": "pomona.face.loading",
    "methods": "pomona.face.catalogue",
    "demo": "pomona.face.demo",
    "forecast": "pomona.face.workload",
    "Result": "pomona.face.result",
    "trace": "pomona.graph",
    "joined": "pomona.processes",
    "evaluate": "pomona.evaluate",
    "Tasks": "pomona.evaluate",
    "measure_latency": "pomona.runtime",
    "Decoder": "pomona.runtime.decoding",
    "EngineTable": "pomona.runtime.engines.table",
    "Goal": "pomona.vocabulary",
    "InputError": "pomona.vocabulary",
    "Limits": "pomona.vocabulary",
    "Plan": "pomona.vocabulary",
    "ProofError": "pomona.vocabulary",
    "Recipe": "pomona.vocabulary",
}

__all__ = [
    "Accelerated",
    "AcceleratedGpu",
    "Advice",
    "Decoder",
    "EngineTable",
    "Goal",
    "InputError",
    "Limits",
    "Plan",
    "ProofError",
    "Recipe",
    "Result",
    "Streamed",
    "Tasks",
    "accelerate",
    "accelerate_gpu",
    "advise",
    "bench",
    "demo",
    "evaluate",
    "forecast",
    "joined",
    "load",
    "measure_latency",
    "methods",
    "plan",
    "prune",
    "prune_folder",
    "replay",
    "sparsify",
    "trace",
]

on_import.watch()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pomona' has no attribute '{name}'")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
