"""Why a pruned model is not faster, and what would be."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.runtime.work import Work

_OVERHEAD = 10e-6  # seconds of interpreter and dispatcher per operation, 10 to 16 µs on the CPUs we measured
_STREAM = 4e9  # bytes a second of weights from which on memory, not arithmetic, is likely to set the pace on one core


@dataclass(frozen=True)
class Diagnosis:
    """One sentence each: what keeps the model from being faster, and what would make it so."""

    reason: str
    advice: str


def diagnose(before: Work, after: Work, seconds: float, batch: int, ratio: float, noisy: bool) -> Diagnosis:
    """The likeliest of the known causes, told from what the two models do in one forward pass of `seconds` (the pruned one's).

    The order is that of certainty: zeros on dense kernels can be counted, the rest is inferred from rates.
    """
    macs, params = after.macs / max(1, before.macs), after.params / max(1, before.params)
    if noisy:
        return Diagnosis(
            f"The timings scatter too much to tell: the median ratio is {ratio:.2f}, but a tenth of the pairs show no gain.",
            "Measure on a quiet machine, or for longer.",
        )
    if after.zeros > 0.1 and macs > 0.95:
        return _zeros(after, batch)
    if macs > 0.9:
        return Diagnosis(
            f"Only {1 - macs:.0%} of the multiply-accumulates are gone, less than timing can show.",
            "Ask for more, like --goal macs=0.5x, and see that the costly layers are not frozen (pomona inspect).",
        )
    if after.ops * _OVERHEAD > 0.5 * seconds:
        return Diagnosis(
            f"The model is too small for its width to matter: {after.ops} operations at some {_OVERHEAD * 1e6:.0f} µs "
            f"of dispatch each make up most of the {seconds * 1e3:.2g} ms.",
            "Use a larger batch, export the model (pomona export --to onnx), or remove whole layers (--structure layers).",
        )
    if params > 0.9 and after.weight_bytes / seconds > _STREAM:
        return Diagnosis(
            f"The time goes into reading {after.weight_bytes / 1e6:.0f} MB of weights, and {params:.0%} of them are still there.",
            "Prune where the parameters are, like --goal params=0.5x, or use a larger batch, which shares each reading.",
        )
    return Diagnosis(
        f"The multiply-accumulates fell to {macs:.0%}, but in layers or to widths where the kernels gain nothing.",
        "Keep widths at multiples of the vector length (--multiple 8 or 16), and prune the wide early layers as well.",
    )


def _zeros(after: Work, batch: int) -> Diagnosis:
    pays = "at batch 1 almost any share of zeros pays there" if batch < 8 else "at this batch they pay from about half zeros on"
    return Diagnosis(
        f"{after.zeros:.0%} of the values are zero, but dense kernels multiply zeros like any other number.",
        f"Remove whole channels, heads or neurons (--structure channels), or run the masks on sparse kernels: {pays}.",
    )
