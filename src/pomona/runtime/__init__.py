"""How a model runs: timing, export, the machine."""

from pomona.runtime.export import export_program
from pomona.runtime.latency import Latency, measure_latency
from pomona.runtime.machine import machine
from pomona.runtime.onnx import export_onnx

__all__ = ["Latency", "export_onnx", "export_program", "machine", "measure_latency"]
