"""The other side of `beside.py`: `PYTHON beside_worker.py THREADS BYTES`; one JSON object a line in and out."""

import json
import sys
import time
from importlib import metadata

import deepsparse
import numpy


def main() -> None:
    threads, evicted = int(sys.argv[1]), numpy.zeros(int(sys.argv[2]) // 4, numpy.float32)
    engines: dict = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _answer(asked, engines, threads, evicted)
        except Exception as error:  # whatever the engine says is the caller's to tell
            answer = {"error": f"DeepSparse: {error}"}
        print(json.dumps(answer), flush=True)


def _answer(asked: dict, engines: dict, threads: int, evicted: numpy.ndarray) -> dict:
    if "load" in asked:
        x = numpy.ones(asked["shape"], numpy.float32)
        engine = deepsparse.compile_model(asked["load"], batch_size=asked["shape"][0], num_cores=threads)
        name = str(len(engines))
        engines[name] = (engine, [x])
        engine.run([x])
        return {"name": name}
    if "time" in asked:
        engine, inputs = engines[asked["time"]]
        clock = time.process_time if asked["cpu"] else time.perf_counter
        if asked["cold"]:
            evicted.sum()
            tiny, nothing = engines[asked["tiny"]]
            tiny.run(nothing, val_inp=False)  # only the weights are cold, not the code
            return {"seconds": _took(engine, inputs, 1, clock)}
        once = _took(engine, inputs, 1, time.perf_counter)
        return {"seconds": _took(engine, inputs, max(1, min(1000, round(2e-3 / max(once, 1e-7)))), clock)}
    return {"version": metadata.version("deepsparse")}


def _took(engine: object, inputs: list, repeats: int, clock: object) -> float:
    start = clock()
    for _ in range(repeats):
        engine.run(inputs, val_inp=False)
    return (clock() - start) / repeats


main()
