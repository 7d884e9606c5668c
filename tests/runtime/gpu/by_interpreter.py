"""Run by tests in a process of its own, for Triton decides when it is imported whether it interprets.

Prints, as JSON, how far the kernel is from float64 in each case: [rows, columns, batch, tall, parts, type, bias, zeros, error].
"""

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
import triton
import triton.language as tl

from pomona.runtime.gpu.spans import Spans

# tall and parts as `choose` asks for them; rows, columns, spans and values that end in the middle of everything.
CASES = (
    (5, 700, 1, 4, 1, torch.bfloat16, True, 0.5),
    (33, 1100, 1, 8, 2, torch.float16, True, 0.9),
    (33, 1100, 1, 8, 9, torch.float16, False, 0.5),
    (16, 512, 1, 16, 1, torch.float16, False, 0.0),
    (7, 40, 1, 4, 1, torch.float16, True, 1.0),
    (40, 1025, 3, 16, 1, torch.float16, False, 0.5),
    (40, 1025, 16, 32, 2, torch.float16, True, 0.7),
    (20, 70, 4, 4, 2, torch.float16, False, 0.5),
    (3, 70, 2, 16, 1, torch.float16, True, 0.3),
)


@triton.jit
def _loop(x, end):
    for place in range(tl.minimum(end, 2)):
        tl.store(x + place, place)


def main() -> None:
    try:
        _loop[(1,)](torch.zeros(2, dtype=torch.int32), 2)
    # What a Triton's interpreter and this numpy make of each other cannot be known.
    except Exception as error:
        print(json.dumps({"unable": str(error)}))
        return
    from pomona.runtime.gpu.kernel import launch

    draw = torch.Generator().manual_seed(0)
    found = []
    for rows, columns, batch, tall, parts, kind, biased, zeros in CASES:
        dense = torch.randn(rows, columns, generator=draw) * (torch.rand(rows, columns, generator=draw) >= zeros)
        beyond = torch.full((batch + 1, columns), float("nan"), dtype=kind)  # whoever reads behind x will show it
        weight, x = dense.to(kind), beyond[:batch].copy_(torch.randn(batch, columns, generator=draw))
        bias = torch.randn(rows, generator=draw).to(kind) if biased else None
        packed = Spans.pack(weight)
        y = launch(x, bias, packed.bits, packed.living, packed.starts, tall, parts)
        assert y.shape == (batch, rows) and y.dtype == kind
        right = x.double() @ weight.double().T + (0 if bias is None else bias.double())
        error = float((y.double() - right).norm() / right.norm().clamp_min(1e-9))
        found.append([rows, columns, batch, tall, parts, str(kind), biased, zeros, error])
    print(json.dumps({"cases": found}))


if __name__ == "__main__":
    main()
