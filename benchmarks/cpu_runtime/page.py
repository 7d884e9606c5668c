"""The page in markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.cpu_runtime.goals import goals
from benchmarks.cpu_runtime.rows import Result, Row

from pomona.runtime.timing import quantile

ABOUT = """\
Layers with random weights and random zeros: speed only, nothing here says what accuracy is left at a pattern. All contenders of
a table take turns in one process, in random order, round after round; ratios are taken round by round to the dense float32
engine with the least median (never to torch alone), with their 10 % and 90 % quantiles in brackets. One thread: processor time;
two: the clock on the wall, threads pinned. `warm` weights stay in the caches from call to call as far as these reach. Before
every `cold` call all caches are read full of something else, and then the same code is run on a tiny layer: in a model only
weights are cold. `limit` is the least time for the bytes of the weight and the operations of its living values, by the rates
measured on this machine, or, where bursts that do nothing but multiply or read took turns with the contenders, by what those
did in the same round; it is empty where operations were not counted. Every engine is called as from Python, ours too. OpenVINO
is told to stay in float32. Outputs are compared with float64 before anything is timed."""

IN_THE_WAY = """\
`of the limit` is what our contender reaches of the machine's limit, `at the limit` what would be found if it reached all of it.
What stands in the way where a goal is missed:

- **Small layers with few weights left.** Their bytes take less time than what every call takes: checking the input, seeing
  that the layer lies where it lay, asking torch for memory, entering C: as much as nn.Linear takes, and more than the kernel.
  Blocks of 16 rows suffer first, since they are the fastest; in a network, `torch.compile` and the decoder leave the calls out.
- **Convolutions with 64 channels at 56 x 56.** Few weights meet many pixels: laying out the input is a large part, and the dense
  engines are at their best there.
- **int8 bitmasks without AVX-512.** AVX2 has no instruction that expands bytes. Tables do it, in dozens of instructions for 32
  columns whether their weights live or not: more time than the bytes that are saved.
- **A whole network on two threads.** Some layers are too small to share, and what is left to torch between the kernels takes its
  own time.
- **Batches.** The limit counts nothing but multiplications. Each block of 8 weights also costs an index, two loads of X at a
  place that nobody foresees, and eight broadcasts; sums wait in the cache between the cuts of the columns that keep X near."""


def page(rows: Sequence[Row], notes: Sequence[str], command: str) -> str:
    """Goals first, then the machine, then every run."""
    return "\n".join(_lines(rows, notes, command)) + "\n"


def _lines(rows: Sequence[Row], notes: Sequence[str], command: str) -> Iterator[str]:
    yield from ("# The sparse CPU runtime beside the best dense engines", "", ABOUT, "", f"Made by `{command}`.", "")
    if not rows:
        yield "Nothing has been measured yet."
        return
    yield from _goals(rows)
    yield from _limits(rows)
    for row in rows:
        yield from _run(row)
    if len(builds := {str(row.machine["kernels"]) for row in rows}) > 1:
        yield from ("", f"These are runs of {len(builds)} builds of the kernels: some were made before the last change of these.")
    if notes:
        yield from ("", "## Notes", "", *(f"- {note}" for note in notes))


def _goals(rows: Sequence[Row]) -> Iterator[str]:
    found = list(goals(rows))
    kept = sum(goal.holds is True for goal in found)
    known = sum(goal.holds is not None for goal in found)
    yield from ("## Goals", "", f"{kept} of {known} that were measured hold; {len(found) - known} were not measured.", "")
    yield from ("| goal | run | wanted | found | | of the limit | at the limit |", "| --- | --- | --- | --- | --- | --- | --- |")
    for goal in found:
        verdict = {True: "holds", False: "does not hold", None: "not measured"}[goal.holds]
        value = "" if goal.found is None else f"{goal.found:.2f}"
        share = "" if goal.of_limit is None else f"{goal.of_limit:.0%}"
        most = "" if goal.at_limit is None else f"{goal.at_limit:.2f}"
        yield f"| {goal.text} | {goal.where} | {goal.wanted:g} | {value} | {verdict} | {share} | {most} |"
    yield from ("", IN_THE_WAY)
    batched = [row for row in rows if row.setting.kind == "linear" and row.setting.batch >= 64 and row.best.operations]
    if batched:
        shares = sorted(row.of_limit(row.best) for row in batched)
        yield f"  Here the best dense engine reaches {shares[0]:.0%} to {shares[-1]:.0%} of it: the limit is a burst that"
        yield "  reads nothing."
    fewer = [row for row in rows if row.setting.kind == "conv" and row.setting.shape[2] == 3 and row.of_limit(row.best) > 1]
    if fewer:
        most, engines = max(row.of_limit(row.best) for row in fewer), ", ".join(sorted({row.best.name for row in fewer}))
        yield f"- **3 x 3 convolutions ({engines}).** Dense, they reach up to {most:.0%} of what the machine multiplies, so they"
        yield "  take fewer multiplications than are counted, as Winograd's transform of dense weights does."


def _limits(rows: Sequence[Row]) -> Iterator[str]:
    yield from (
        "",
        "## The machine",
        "",
        "| threads | kernels | memory GB/s | last cache GB/s | own cache GB/s | f32 GFLOP/s | int8 GOP/s |",
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    first = {row.setting.threads: row.limits for row in reversed(rows)}
    for _, limits in sorted(first.items()):
        rates = (limits.memory, limits.last_cache, limits.own_cache, limits.fma, limits.dot)
        yield f"| {limits.threads} | {limits.by} | " + " | ".join(f"{rate / 1e9:.1f}" for rate in rates) + " |"
    about = rows[-1].machine
    own, shared = rows[-1].limits.own / 2**20, rows[-1].limits.shared / 2**20
    yield ""
    yield f"{about['cpu']}, {about['cores']} cores, caches {own:g} and {shared:g} MiB, torch {about['torch']}."


def _run(row: Row) -> Iterator[str]:
    best = row.best
    yield from ("", f"## {row.setting}", "", f"{row.rounds} rounds; the best dense engine is {best.name}.{_bursts(row)}", "")
    yield "| contender | zeros % | MB | median ms | 10 % ms | times the best dense | of the limit |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for result in (r for r in row.results if r.side != "limit"):
        median, low, high = result.over(best)
        ratio = "1" if result is best else f"{median:.2f} ({low:.2f} to {high:.2f})"
        limit = f"{row.of_limit(result):.0%}" if result.operations else ""
        times = f"{result.nbytes / 1e6:.2f} | {_ms(result.median)} | {_ms(result.least)}"
        yield f"| {_named(result)} | {result.sparsity:g} | {times} | {ratio} | {limit} |"


def _bursts(row: Row) -> str:
    told = ""
    for burst in row.bursts:
        rates = sorted((burst.nbytes or burst.operations) / seconds / 1e9 for seconds in burst.seconds)
        low, middle, high = (quantile(rates, share) for share in (0.1, 0.5, 0.9))
        told += f" The {burst.name} ran at {middle:.3g} {'GB/s' if burst.nbytes else 'GFLOP/s'} ({low:.3g} to {high:.3g})."
    return told


def _named(result: Result) -> str:
    return f"**{result.name}**" if result.side == "sparse" else result.name


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"
