"""One model in many engines: made ready from a file, compared with itself, timed beside the others."""

from pomona.runtime.engines.engine import Engine, Running
from pomona.runtime.engines.files import Files
from pomona.runtime.engines.in_files import in_onnxruntime, in_openvino
from pomona.runtime.engines.known import ENGINES, engines_here, ready
from pomona.runtime.engines.table import EngineTable, Row

__all__ = [
    "ENGINES",
    "Engine",
    "EngineTable",
    "Files",
    "Row",
    "Running",
    "engines_here",
    "in_onnxruntime",
    "in_openvino",
    "ready",
]
