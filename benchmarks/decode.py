"""Text from SmolLM2, token by token: `python -m benchmarks.decode`.

The dense model in transformers (eager, float32 and bfloat16) and in Pomona's decoder, and the model without 50 % and 80 % of its
weights (Wanda, calibrated on the front half of the text) in the decoder, with values in float32, bfloat16 and int8. All take
turns: a sample is some tokens in a row behind the same prompt, or a prompt that is read. With one thread the clock is the
processor's, so that a busy machine costs time and not truth; a plain loop that reads memory in the same rounds says what the
machine allowed meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from itertools import islice
from math import exp
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from benchmarks.language_models import text
from torch import Tensor, nn

import pomona
from pomona.data.loaders import TokenLoader
from pomona.models.pretrained import smollm2
from pomona.runtime import machine
from pomona.runtime.cold import read
from pomona.runtime.decoding import Decoder
from pomona.runtime.timing import Clock, Sampler, quantile, threads_set, turns

OUT = Path(__file__).parents[1] / "docs" / "results" / "decode.md"
KINDS: tuple[tuple[str, str], ...] = (("f32", "f32"), ("bf16", "bf16"), ("int8", "int8"), ("int8", "bf16"))  # values, head
PROMPT = "A good book is one that"
HEAD = (
    "model",
    "engine",
    "values",
    "head",
    "tokens/s",
    "p10 ms",
    "median ms",
    "x transformers f32",
    "MB a token",
    "of the byte limit",
    "prompt tokens/s",
    "perplexity",
)
ABOUT = """\
`tokens/s` and `p10` are those of the fastest tenth of the samples, `median` of all; `x transformers f32` is the median over the
rounds of the ratio within a round, with its quartiles. `of the byte limit` is the time in which a plain loop reads as many bytes
({rate:.1f} GB/s at p10 of the same rounds, from {megabytes:.0f} MB) over p10. `prompt tokens/s` is the median of {prompts} rounds
in which {length} tokens are read into an empty cache. Perplexity is of {windows} windows of {length} tokens from the text's back
half, fed token by token, as when text is made; compare rows of one model only."""


@dataclass(frozen=True)
class Row:
    """One engine with one model."""

    model: str
    engine: str
    values: str
    head: str
    nbytes: int
    perplexity: float
    sample: Sampler
    prompt: Sampler  # both in seconds a token


def decoder_rows(name: str, model: nn.Module, given: argparse.Namespace, prompt: Tensor, held: Tensor, clock: Clock) -> list[Row]:
    """The model in the decoder, with each kind of values."""
    rows = []
    for values, head in KINDS:
        start = perf_counter()
        decoder = Decoder(model, values, head=head, context=512, threads=given.threads)  # type: ignore[arg-type]
        quality = perplexity(one_by_one(decoder), held)
        print(f"{name} {values}, head {head}: packed and judged in {perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        samples = decoding(decoder, prompt, given.tokens, clock), prompted(decoder, held[0], clock)
        rows.append(Row(name, "Pomona", values, head, decoder.bytes_per_token, quality, *samples))
    return rows


def one_by_one(decoder: Decoder) -> Callable[[Tensor], Tensor]:
    """Logits behind each token as decoding makes them, and not as a prompt is read."""

    def logits(ids: Tensor) -> Tensor:
        decoder.reset()
        return torch.stack([decoder.feed([token]) for token in ids.tolist()])

    return logits


def decoding(decoder: Decoder, prompt: Tensor, tokens: int, clock: Clock) -> Sampler:
    """Seconds a token of a run of them."""

    def sample() -> float:
        decoder.reset()
        decoder.feed(prompt)
        start = clock()
        for token in range(tokens):
            int(decoder.feed([token]).argmax())
        return (clock() - start) / tokens

    return sample


def prompted(decoder: Decoder, ids: Tensor, clock: Clock) -> Sampler:
    """Seconds a token of reading these."""

    def sample() -> float:
        decoder.reset()
        start = clock()
        decoder.feed(ids)
        return (clock() - start) / len(ids)

    return sample


def eager_row(model: nn.Module, values: str, prompt: Tensor, tokens: int, held: Tensor, clock: Clock) -> Row:
    """The model in transformers, its keys and values cached."""
    import transformers

    cache = transformers.DynamicCache()

    def feed(ids: Tensor) -> Tensor:
        with torch.inference_mode():
            found: Tensor = model(input_ids=ids[None], past_key_values=cache, use_cache=True).logits[0, -1]
            return found

    def whole(ids: Tensor) -> Tensor:
        with torch.inference_mode():
            found: Tensor = model(input_ids=ids[None]).logits[0].float()
            return found

    feed(prompt)

    def sample() -> float:
        if (made := cache.get_seq_length() - len(prompt)) > 0:
            cache.crop(-made)  # so many from the end
        start = clock()
        for token in range(tokens):
            int(feed(torch.tensor([token])).argmax())
        return (clock() - start) / tokens

    def read_prompt() -> float:
        start = clock()
        with torch.inference_mode():
            model(input_ids=held[:1], use_cache=True, logits_to_keep=1)
        return (clock() - start) / held.shape[1]

    nbytes = sum(p.nbytes for p in model.parameters())  # embedding and head are one
    return Row("dense", "transformers", values, values, nbytes, perplexity(whole, held), sample, read_prompt)


def perplexity(logits: Callable[[Tensor], Tensor], held: Tensor) -> float:
    """Of windows (count, length): exp of the mean surprise of a token by those before it."""
    surprise = [torch.nn.functional.cross_entropy(logits(window)[:-1], window[1:], reduction="sum") for window in held]
    return exp(float(sum(surprise)) / (held.shape[0] * (held.shape[1] - 1)))


def pruned(dense: nn.Module, sparsity: float, calibration: Tensor) -> nn.Module:
    """By Wanda, block by block; the embedding, which is the head as well, stays."""
    data = TokenLoader(calibration, 4)
    result = pomona.prune(
        dense, calibration[:1, :64], method="wanda", data=data, goal=f"sparsity={sparsity}", sequential=True, latency=False
    )
    return result.model


def measured(rows: Sequence[Row], given: argparse.Namespace, clock: Clock) -> tuple[list[tuple[str, ...]], dict[str, float]]:
    """The table, and what it says of the memory."""
    buffer = torch.zeros(round(sorted(row.nbytes for row in rows)[0] / 4))

    def reading() -> float:
        start = clock()
        read(buffer, given.threads, 1)
        return clock() - start

    rounds = list(islice(turns([reading, *(row.sample for row in rows)]), given.rounds))
    plain, *samples = zip(*rounds, strict=True)
    prompts = list(zip(*islice(turns([row.prompt for row in rows]), given.prompts), strict=True))
    rate = buffer.nbytes / quantile(sorted(plain), 0.1)
    cells = []
    for row, own, read_in in zip(rows, samples, prompts, strict=True):
        best, middle = quantile(sorted(own), 0.1), quantile(sorted(own), 0.5)
        ratios = sorted(first / mine for first, mine in zip(samples[0], own, strict=True))
        low, ratio, high = (quantile(ratios, share) for share in (0.25, 0.5, 0.75))
        spread, limit = f"{ratio:.2f} ({low:.2f} to {high:.2f})", row.nbytes / rate / best
        times = (f"{1 / best:.1f}", f"{1e3 * best:.2f}", f"{1e3 * middle:.2f}", spread)
        prompt = f"{1 / quantile(sorted(read_in), 0.5):.0f}"
        sizes = (f"{row.nbytes / 1e6:.0f}", f"{limit:.0%}", prompt, f"{row.perplexity:.2f}")
        cells.append((row.model, row.engine, row.values, row.head, *times, *sizes))
    return cells, {"rate": rate / 1e9, "megabytes": buffer.nbytes / 1e6}


def page(
    cells: Sequence[Sequence[str]],
    told: dict[str, float],
    texts: Sequence[tuple[str, str]],
    given: argparse.Namespace,
    command: str,
) -> str:
    """In markdown."""
    here = machine()
    table = ["| " + " | ".join(row) + " |" for row in (HEAD, ["---"] * len(HEAD), *cells)]
    about = ABOUT.format(**told, windows=given.windows, length=given.length, prompts=given.prompts)
    clock = "the process's processor time" if given.threads == 1 else "the wall's"
    how = f"{given.threads} thread(s), clock {clock}, {given.rounds} rounds of {given.tokens} tokens"
    made = f"{here['cpu']}, torch {here['torch']}, {date.today().isoformat()}; {how}. Made by `{command}`."
    said = [f"- {name}: {PROMPT!r} … {said!r}" for name, said in texts]
    return "\n".join(["# Decoding", "", about, "", made, "", *table, "", "What the models say, greedily:", "", *said, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prune, pack, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=8, help="in a row, for a sample")
    parser.add_argument("--behind", type=int, default=64, help="tokens of prompt")
    parser.add_argument("--prompts", type=int, default=9, help="rounds of reading a prompt of --length tokens")
    parser.add_argument("--sparsity", type=float, nargs="*", default=[0.5, 0.8])
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--calibration", type=int, default=32, help="windows that Wanda sees")
    parser.add_argument("--text", type=Path, default=text.DEFAULT)
    parser.add_argument(
        "--out", type=Path, help="where the page goes; by default docs/results/decode.md for one thread, else printed"
    )
    given = parser.parse_args(arguments)
    clock = process_time if given.threads == 1 else perf_counter
    found, (dense, tokenizer) = text.read(given.text), smollm2()
    held = found.held(tokenizer, given.windows, given.length)
    calibration = found.drawn(tokenizer, given.calibration, given.length, 0)
    prompt = held[0, : given.behind]
    with threads_set(given.threads):
        rows = [eager_row(dense, "f32", prompt, given.tokens, held, clock)]
        rows.append(eager_row(deepcopy(dense).to(torch.bfloat16), "bf16", prompt, given.tokens, held, clock))
        rows += decoder_rows("dense", dense, given, prompt, held, clock)
        texts = []
        for sparsity in given.sparsity:
            name, model = f"{100 * sparsity:.0f} % zeros", pruned(dense, sparsity, calibration)
            rows += decoder_rows(name, model, given, prompt, held, clock)
            texts.append((name, spoken(model, tokenizer, given.threads)))
        cells, told = measured(rows, given, clock)
    words = f"--threads {given.threads} --rounds {given.rounds} --tokens {given.tokens} --behind {given.behind}"
    made = page(cells, told, texts, given, f"python -m benchmarks.decode {words}")
    print(made)
    out = given.out or (OUT if given.threads == 1 else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(made)


def spoken(model: nn.Module, tokenizer: Any, threads: int) -> str:
    """What the model in int8 says behind the prompt."""
    ids = tokenizer(PROMPT).input_ids
    said: str = tokenizer.decode(Decoder(model, "int8", context=128, threads=threads).generate(ids, 40))
    return said


if __name__ == "__main__":
    main()
