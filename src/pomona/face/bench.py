"""Which engine to deploy a model on: all of them in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn

from pomona.face.accelerate import accelerate
from pomona.face.bench_files import file_engines, has_folder
from pomona.runtime.engines import Engine, EngineTable, Files, Running
from pomona.runtime.engines.compared import compared
from pomona.runtime.engines.in_decoder import decoder, reads_tokens
from pomona.runtime.engines.in_torch import frozen, running
from pomona.runtime.engines.known import GENERAL
from pomona.runtime.inputs import inputs_for
from pomona.runtime.latency import stored
from pomona.runtime.sparse.candidates import VALUES
from pomona.runtime.sparse.packed import Packed
from pomona.runtime.timing import Clocks
from pomona.runtime.work import operations_left
from pomona.vocabulary import InputError, Progress, Silent

ALL = (*(engine.name for engine in GENERAL), "pomona", "pomona-compile", "decoder", *(each.name for each in file_engines()))


def bench(
    model: nn.Module,
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    engines: str | Sequence[str] = "all",
    batch: int | None = None,
    threads: int | None = None,
    values: str = "f32",
    rounds: int = 30,
    seconds: float = 20.0,
    seed: int = 0,
    cold: bool = False,
    clock: Clocks = "wall",
    pin: bool = False,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> EngineTable:
    """The model, dense or with zeros, in every engine at hand: outputs after a round trip through a file, sizes, latency.

    Each engine reads the model from a file of its own kind and must give what the model gives on the example inputs and on others
    like them, to within `tolerance`: the largest difference relative to the largest value of an output (None: 1e-4, or 0.03 where
    outputs are in half precision). All run on `threads` threads (None: torch's number), in evaluation mode and random order,
    round after round until there are `rounds` or `seconds` are over, five at least. `args` and `kwargs` are example inputs,
    repeated or cut to `batch` rows.

    `engines` is "all" or names: "compile", "pt2" (torch.export), "aoti" (AOTInductor), "onnxruntime", "onnxruntime-sparse" (zeros
    not stored), "openvino", "pomona" (`accelerate`), "pomona-compile" (the same through torch.compile) and, for language models,
    "decoder" (`Decoder` on the whole sequence, without what it held before); for models of transformers also the files "packed",
    "compressed-tensors" and "gguf", which are compared and not timed. "eager" is always there. `values` ("f32", "bf16", "int8")
    is how Pomona's own engines may store weights: rounded ones need a larger `tolerance`. `cold`, `clock` and `pin` are as in
    `measure_latency`.

    An engine that fails says why in its row. The model is run and not changed; each engine holds a copy of its own. Raises
    InputError for unknown engines, for inputs that the model itself does not take or answers with NaN, and for a model that is
    packed already: that is no dense model to compare with.

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    >>> found = pomona.bench(net, torch.randn(1, 8), engines=["pt2"], rounds=5, seconds=0.1)
    >>> [(row.engine, row.holds) for row in found.rows]
    [('eager', True), ('pt2', True)]
    """
    if values not in VALUES:
        raise InputError(f"Values are {', '.join(VALUES)}, not {values!r}.")
    if rounds < 1 or seconds <= 0 or (tolerance is not None and not tolerance >= 0):
        raise InputError(f"Timing needs a round, some time and a tolerance; got {rounds}, {seconds:g} s and {tolerance}.")
    if _packed(model):
        raise InputError("The layers of this model are packed; compare engines on the model that it was made from.")
    given, named = inputs_for(model, args, kwargs, batch)
    return compared(
        model, given, named, _wanted(engines, values, language=reads_tokens(given, named), folder=has_folder(model)),
        threads=threads, rounds=rounds, seconds=seconds, seed=seed, cold=cold, clock=clock, pin=pin, tolerance=tolerance,
        progress=progress or Silent(),
    )  # fmt: skip


def _wanted(names: str | Sequence[str], values: Any, *, language: bool, folder: bool) -> list[Engine]:
    """The engines of these names, torch's eager mode first; of all only those for this kind of model.

    Raises InputError where one is not known.
    """
    pomona = _Pomona(values)
    own = [Engine("pomona", pomona.run, dense=False), Engine("pomona-compile", pomona.run_compiled, dense=False)]
    decoders, kept = [decoder(values)], file_engines()
    if names == "all":
        return [*GENERAL, *own, *(decoders if language else ()), *(kept if folder else ())]
    known = [*GENERAL, *own, *decoders, *kept]
    wanted = {names} if isinstance(names, str) else set(names)
    if strange := sorted(wanted - set(ALL)):
        raise InputError(f"There is no engine {strange[0]!r}; there are {', '.join(ALL)}.")
    return [engine for engine in known if engine.name in wanted | {"eager"}]


def _packed(model: nn.Module) -> bool:
    """Whether sparse kernels run in it, as modules or as ops of a program."""
    graphs = [module.graph for module in model.modules() if isinstance(module, fx.GraphModule)]
    ops = (str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function")
    return any(isinstance(module, Packed) for module in model.modules()) or any(op.startswith("pomona.sparse_") for op in ops)


class _Pomona:
    """The model on sparse kernels, made once for both of its engines."""

    def __init__(self, values: str) -> None:
        self.values = values
        self._made: Files | None = None

    def run(self, files: Files) -> Running:
        """As it was read from a file of its packed layers."""
        packed = self._packed(files)
        return self._running(packed.again(), packed, files)

    def run_compiled(self, files: Files) -> Running:
        """The same, with what lies between the packed layers compiled."""
        packed = self._packed(files)
        return self._running(frozen(packed.again(), files.args, files.kwargs), packed, files)

    def _packed(self, files: Files) -> Files:
        """The accelerated model and its file. Raises InputError where nothing is packed, for then it is the dense model."""
        if self._made is None:
            made = accelerate(files.model, files.args, files.kwargs, values=self.values, latency=False)
            if not made.packed:
                raise InputError(made.told.split(". ")[0])
            folder = files.folder / "pomona"
            folder.mkdir()
            self._made = Files(made.model, files.args, files.kwargs, folder)
        return self._made

    def _running(self, model: nn.Module, packed: Files, files: Files) -> Running:
        left = operations_left(files.model, files.args, files.kwargs)
        about = {"reads": stored(packed.model), "operations": left, "int8": self.values == "int8"}
        return running(model, files, packed.weights.stat().st_size, **about)
