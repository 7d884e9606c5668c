"""How a model runs: timing, export, the machine."""

from pomona.runtime.export import export_program
from pomona.runtime.forecast import Forecast
from pomona.runtime.latency import Latency, measure_latency
from pomona.runtime.machine import machine
from pomona.runtime.onnx import export_onnx
from pomona.runtime.openvino import export_openvino
from pomona.runtime.times import Times

__all__ = ["Forecast", "Latency", "Times", "export_onnx", "export_openvino", "export_program", "machine", "measure_latency"]
