"""The layer problem at the size of language models; each part writes its rows of docs/results/language_speed.md.

`python -m benchmarks.language_speed layers --authors FOLDER`: one block of a 1B-class Llama with SparseGPT, beside the
published code, a clone of https://github.com/IST-DASLab/sparsegpt in FOLDER. `wanda`: what of a run are forward passes.
`billion --folder FOLDER`: 1.1B parameters on disk within 3 GB. `walk`: OBC's way down, row by row. Every round is written down
as soon as it is there, in the JSON beside the page; rounds of `layers` add up over calls, and `billion` goes on where it was
broken off.
"""

from __future__ import annotations

import argparse
import json
import platform
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.language_speed_billion import measure as billion
from benchmarks.language_speed_layers import compare
from benchmarks.language_speed_walk import measure as walk
from benchmarks.language_speed_wanda import WAYS
from benchmarks.language_speed_wanda import measure as wanda

OUT = Path(__file__).parents[1] / "docs" / "results" / "language_speed.md"
KEPT = OUT.with_suffix(".json")


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def clock(threads: int) -> str:
    """What seconds are."""
    return "processor" if threads == 1 else "clock"


def page(kept: dict[str, Any]) -> Iterator[str]:
    """The lines of the page: the parts that were measured."""
    yield "# The layer problem at the size of language models"
    yield ""
    yield f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}. Seconds are of the processor"
    yield "with one thread and of the clock with more; medians, in brackets the least and the most."
    if rows := kept.get("layers"):
        yield from ("", "## SparseGPT beside the published code", "")
        yield "`python -m benchmarks.language_speed layers --authors FOLDER --threads N`, FOLDER a clone of"
        yield "https://github.com/IST-DASLab/sparsegpt. The seven linears of a block (hidden 2048, inner 8192, 32 heads, 8 for"
        yield "keys and values), 8 x 2048 tokens; summing up what they read and pruning, turn by turn in one process. The"
        yield "published code waits for a GPU once a layer, which does nothing here. Ratios are taken round by round, published"
        yield "over Pomona: above 1 Pomona is faster. Errors are shares of the outputs' energy, the most of the seven linears."
        yield ""
        yield "| pattern | threads | rounds | published s | Pomona s | ratio | equal mask entries | published error | error |"
        yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        for key, one in sorted(rows.items()):
            pattern, threads = key.split(", ")
            ratio = spread([a / b for a, b in zip(one["theirs"], one["ours"], strict=True)])
            agree, their, our = min(one["agreement"].values()), max(one["their_error"].values()), max(one["our_error"].values())
            yield (
                f"| {pattern} | {threads} | {len(one['ours'])} | {spread(one['theirs'])} | {spread(one['ours'])} | {ratio} | "
                f"at least {agree:.3%} | {their:.3%} | {our:.3%} |"
            )
    if rows := kept.get("wanda"):
        yield from ("", "## Wanda on 135M parameters", "")
        yield "`python -m benchmarks.language_speed wanda --threads N --batch B --tokens T --way WAY`: a random Llama of the"
        yield "sizes of SmolLM2-135M, windows of 512. All of `pomona.prune`, trace and proof included, beside one plain pass over"
        yield "the same tokens. Block by block, each block runs twice; layer by layer (`--true-sequential`), calls wait in the"
        yield "middle, and it runs once; at once (`--no-sequential`), all weights are judged by one pass through the dense model."
        yield ""
        head = "way", "tokens", "batch", "threads", "all s", "one plain pass s", "passes", "scores and masks s", "their share"
        yield "| " + " | ".join((*head, "processor")) + " |"
        yield "|" + " --- |" * (len(head) + 1)
        for key, one in sorted(rows.items()):
            batch, threads, way = key.split(", ")
            share = one["deciding"] / one["whole"]
            passes = one["whole"] / one["forward"]
            numbers = f"{one['whole']:.1f} | {one['forward']:.1f} | {passes:.2f} | {one['deciding']:.1f} | {share:.1%}"
            yield f"| {way} | {one['tokens']} | {batch} | {threads} | {numbers} | {one.get('cpu', '')} |"
    if one := kept.get("billion"):
        yield from ("", "## 1.1B parameters within 3 GB", "")
        yield "`python -m benchmarks.language_speed billion --folder FOLDER`: a random Llama in float16 (22 blocks, hidden 2048,"
        yield "inner 5632), two shards, SparseGPT to half of the weights. The peak is what the process took above its start, as"
        yield "the system counts it; zeros are counted in the written files, every linear by itself."
        yield ""
        yield "| tokens | threads | seconds | limit | foretold | peak | zeros |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        sizes = " | ".join(f"{one[name] / 1e9:.2f} GB" for name in ("limit", "foretold", "peak"))
        yield f"| {one['windows']} x {one['length']} | {one['threads']} | {one['seconds']:.0f} | {sizes} | {one['zeros']:.2%} |"
    if rows := kept.get("walk"):
        yield from ("", "## OBC's walk", "")
        yield "`python -m benchmarks.language_speed walk --rounds N`: milliseconds a row to half of its weights, one thread."
        yield "As published every row has an inverse of its own, which each step changes; the kernel and torch look ahead in"
        yield "bursts (`native/walk.py`). Ratios are taken round by round, to the kernel."
        yield ""
        yield "| columns | rounds | kernel ms | torch ms | ratio | as published ms | ratio | equal steps | processor |"
        yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        for columns, one in sorted(rows.items(), key=lambda row: int(row[0])):
            kernel = one["ms"]["kernel"]
            others = [
                f"{spread(one['ms'][name])} | {spread([a / b for a, b in zip(one['ms'][name], kernel, strict=True)])}"
                for name in ("torch", "published")
            ]
            counts = f"{len(kernel)} | {spread(kernel)} | {' | '.join(others)} | {one['agreement']:.2%}"
            yield f"| {columns} | {counts} | {one['cpu']} |"


def keep(part: str, value: Any) -> None:
    """Write a part down, and the page anew."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    kept[part] = {**kept.get(part, {}), **value}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    OUT.write_text("\n".join(page(kept)) + "\n", encoding="utf-8")


def layers(authors: Path, threads: int, rounds: int) -> None:
    """Rounds beside the published code, added to those that were made with as many threads."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")).get("layers", {}) if KEPT.is_file() else {}
    for pattern, found in compare(authors, threads, rounds):
        key, one = f"{pattern}, {threads}", asdict(found)
        for side in ("theirs", "ours"):
            one[side] = kept.get(key, {}).get(side, []) + one[side]
        keep("layers", {key: one})
        print(f"{pattern}: {found.theirs[-1]:.1f} s published, {found.ours[-1]:.1f} s ({clock(threads)})", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("layers", "wanda", "billion", "walk"))
    parser.add_argument("--authors", type=Path, help="a clone of https://github.com/IST-DASLab/sparsegpt")
    parser.add_argument("--folder", type=Path, help="where the model of 1.1B parameters goes: 5 GB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=100_000, help="for wanda")
    parser.add_argument("--batch", type=int, default=2, help="windows of 512 in a pass, for wanda")
    parser.add_argument("--way", choices=tuple(WAYS), default="block by block", help="for wanda")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if given.part == "layers":
        if given.authors is None:
            parser.error("layers needs --authors FOLDER, a clone of https://github.com/IST-DASLab/sparsegpt")
        layers(given.authors, given.threads, given.rounds)
    elif given.part == "wanda":
        found = asdict(wanda(given.tokens, given.batch, given.threads, given.way))
        keep("wanda", {f"{given.batch}, {given.threads}, {given.way}": found})
    elif given.part == "walk":
        keep("walk", {columns: asdict(found) for columns, found in walk(given.rounds).items()})
    else:
        if given.folder is None:
            parser.error("billion needs --folder FOLDER, where the model goes")
        keep("billion", billion(given.folder, 16, 512, given.threads))


if __name__ == "__main__":
    main()
