"""Three sparse models in every engine: `python -m benchmarks.engines`.

ResNet-50 without 90 % of its blocks of 8x1 and a ViT-S/16 without 90 % of its weights, both random, which says nothing of quality
and all of speed; and SmolLM2 without the smaller half of every matrix but the head, given one token and 32. With one thread the
clock is the processor's, so that a busy machine costs time and not truth; it must be quiet all the same, since caches and memory
are shared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

import pomona
from pomona.face.bench import ALL
from pomona.models import load_model
from pomona.models.pretrained import smollm2
from pomona.runtime import machine
from pomona.runtime.engines.table import HEAD
from pomona.runtime.patterned import patterned

OUT = Path(__file__).parents[1] / "docs" / "results" / "engines.md"
WITHOUT = ("aoti", "pomona-compile")  # a minute each for SmolLM2
AGAIN = (*WITHOUT, "compile", "packed", "compressed-tensors", "gguf")  # what another length adds little to
ABOUT = """\
Every engine reads the model from a file of its own kind and gives what the model gives (`off by`) before it is timed, in turns
with the others in one run. SmolLM2 goes without aoti and pomona-compile, which take minutes to be ready.
[commands.md](../commands.md#which-engine-to-deploy-on) says what the engines and columns are."""


def resnet() -> tuple[nn.Module, Any]:
    return zeroed("resnet50", "8x1"), torch.randn(1, 3, 224, 224)


def vit() -> tuple[nn.Module, Any]:
    return zeroed("vit_small_patch16_224", "weights"), torch.randn(1, 3, 224, 224)


def zeroed(name: str, pattern: str, sparsity: float = 90) -> nn.Module:
    """Random weights with this share of zeros in every layer but the first convolution and the classifier."""
    torch.manual_seed(0)
    model = load_model(f"timm:{name}").model.eval()
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        for number, layer in enumerate(layers[1:-1]):
            weight = layer.weight
            mask = patterned(weight.shape[0], weight[0].numel(), pattern, sparsity, seed=number) != 0
            weight.masked_fill_(~mask.reshape(weight.shape), 0).mul_((1 - sparsity / 100) ** -0.5)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1)  # 0 by default at the end of a block, whose convolutions nobody would hear
    return model


def language(tokens: int) -> Callable[[], tuple[nn.Module, Any]]:
    def make() -> tuple[nn.Module, Any]:
        model, tokenizer = smollm2()
        with torch.no_grad():
            for name, layer in model.named_modules():
                if isinstance(layer, nn.Linear) and name != "lm_head":
                    size = layer.weight.abs()
                    layer.weight.masked_fill_(size < size.flatten().median(), 0)
        ids = torch.arange(1000, 1000 + 7 * tokens, 7)[None] % len(tokenizer)
        return model.eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}

    return make


def but(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in ALL if name not in names)


MODELS: dict[str, tuple[str, Callable[[], tuple[nn.Module, Any]], str | tuple[str, ...]]] = {
    "resnet50": ("ResNet-50, 8x1, 90 %, one picture", resnet, "all"),
    "vit": ("ViT-S/16, single weights, 90 %, one picture", vit, "all"),
    "smollm2": ("SmolLM2 (135M), single weights, 50 %, one token", language(1), but(WITHOUT)),
    "smollm2-32": ("SmolLM2 (135M), single weights, 50 %, 32 tokens", language(32), but(AGAIN)),
}


def section(title: str, found: pomona.EngineTable) -> list[str]:
    """One table in markdown."""
    rows = (HEAD, ["---"] * len(HEAD), *found.cells())
    return [f"## {title}", "", f"{found.told} {found.measured}.", "", *("| " + " | ".join(row) + " |" for row in rows), ""]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=12.0, help="for the rounds of one table at most")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--out", type=Path, help="where the page goes; by default docs/results/engines.md where all models run")
    given = parser.parse_args(arguments)
    clock: Any = "cpu" if given.threads == 1 else "wall"
    here, lines = machine(), list[str]()
    for name in given.models:
        title, make, engines = MODELS[name]
        start = perf_counter()
        model, inputs = make()
        found = pomona.bench(
            model, inputs, engines=engines, threads=given.threads, rounds=given.rounds, seconds=given.seconds, clock=clock
        )
        print(f"{title}: {perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        lines += section(title, found)
    command = f"python -m benchmarks.engines --threads {given.threads} --rounds {given.rounds} --seconds {given.seconds:g}"
    made = f"{here['cpu']}, torch {here['torch']}, {date.today().isoformat()}. Made by `{command}`."
    page = "\n".join(["# Which engine to deploy on", "", ABOUT, "", made, "", *lines])
    print(page)
    out = given.out or (OUT if given.models == list(MODELS) else None)
    if out is not None:
        out.write_text(page)


if __name__ == "__main__":
    main()
