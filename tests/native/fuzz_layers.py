"""Damaged files of packed layers, for as long as is asked: `python tests/native/fuzz_layers.py SECONDS SEED`.

Every file is refused in a sentence, or its layers run. Meant for a library built with sanitizers (`test_fuzzing.py` does that),
where a kernel that reads behind its arrays ends the process.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

from pomona.runtime.formats.conv_format import ConvFormat
from pomona.runtime.layers import read_layers, write_layers
from pomona.runtime.sparse.layouts import conv_layout, linear_layouts
from pomona.vocabulary import InputError


def files(folder):
    """One small file a layout and kind of values."""
    draw = torch.Generator().manual_seed(0)
    for name, layout in linear_layouts().items():
        for kind in layout.kinds:
            weight = torch.randn(18, 70, generator=draw) * torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(18)[:70]
            write_layers(folder / f"{name}-{kind}", {"a": layout.pack(weight, kind)})
    kernel = torch.randn(12, 4, 3, 3, generator=draw) * (torch.rand(12, 4, 3, 3, generator=draw) > 0.5)
    for name, rest in {"plain": {}, "odd": {"stride": 2, "padding": (1, 0), "dilation": (1, 2), "groups": 2}}.items():
        write_layers(folder / f"conv-{name}", {"a": conv_layout("conv_blocks").pack(kernel, **rest)})
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def damaged(whole, draw):
    """A copy with some numbers of its header or some bytes of its body changed, or its end gone."""
    length = int.from_bytes(whole[:8], "little")
    header, body = bytearray(whole[8 : 8 + length]), bytearray(whole[8 + length :])
    kind = draw.random()
    if kind < 0.4:
        digits = [i for i, byte in enumerate(header) if chr(byte).isdigit()]
        for place in draw.sample(digits, draw.randint(1, 3)):
            header[place] = ord(draw.choice("0123456789"))
    elif kind < 0.5:
        told = json.loads(header)
        names = [name for name in told if name != "__metadata__"]
        one, other = draw.choice(names), draw.choice(names)
        told[one], told[other] = told[other], told[one]
        header = bytearray(json.dumps(told).encode())
    elif kind < 0.95:
        for _ in range(draw.choice([1, 1, 2, 8])):
            place = draw.randrange(len(body))
            body[place] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256), body[place] ^ (1 << draw.randrange(8))])
    else:
        body = body[: draw.randrange(len(body))]
    return len(header).to_bytes(8, "little") + bytes(header) + bytes(body)


def run(path):
    """1 where the layers of the file were right enough to run."""
    for packed in read_layers(path).values():
        # Copied, so that arrays end where a sanitizer sees it.
        parts = {name: part.clone() for name, part in packed.parts().items()}
        if isinstance(packed, ConvFormat):
            again = type(packed).of(parts, packed.shape, packed.geometry)
            if max(packed.shape) < 1000:
                again.conv(torch.randn(1, packed.shape[1] * packed.geometry.groups, 9, 11), threads=2)
        else:
            again = type(packed).of(parts, packed.shape, packed.values)
            for batch in (1, 3, 17, 30):
                again.linear(torch.randn(batch, packed.shape[1]), threads=2)
    return 1


def main(seconds, seed):
    draw, end, refused, ran = random.Random(seed), time.monotonic() + seconds, 0, 0
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "whole").mkdir()
        every, path = files(Path(folder) / "whole"), Path(folder) / "damaged"
        while time.monotonic() < end:
            path.write_bytes(damaged(draw.choice(every), draw))
            try:
                ran += run(path)
            except InputError:
                refused += 1
    print(json.dumps({"refused": refused, "ran": ran}))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
