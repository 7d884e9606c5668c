"""Whether two sets of text share passages: what was calibrated on must not be measured on."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.data.data import Data
from pomona.data.loaders import TokenLoader
from pomona.vocabulary import InputError

GRAM = 32  # tokens; shorter runs are idioms, licences and headings


def overlap(learn: Tensor, test: Tensor, gram: int = GRAM) -> float:
    """Share of the test windows (int64 (n, length)) that hold a run of `gram` tokens which is also in `learn`.

    Runs are compared by a 64-bit hash at every place, so windows that are cut differently are found; of windows that are shorter
    than two runs, halves are.
    """
    size = max(1, min(gram, learn.shape[1] // 2, test.shape[1] // 2))
    ours, theirs = _runs(learn, size).flatten(), _runs(test, size)
    return float(torch.isin(theirs, ours).any(1).double().mean()) if len(theirs) else 0.0


def _runs(windows: Tensor, size: int) -> Tensor:
    """int64 (n, length - size + 1): a hash of every run, by a polynomial modulo 2^64."""
    power, made = 1, torch.zeros(windows.shape[0], windows.shape[1] - size + 1, dtype=torch.int64)
    for at in reversed(range(size)):
        made += (windows[:, at : windows.shape[1] - size + 1 + at] + 1) * power
        power = (power * 6364136223846793005 + 2**63) % 2**64 - 2**63  # an odd multiplier, kept within int64
    return made


def check_apart(learn: Data, test: Data) -> None:
    """Raises InputError where over a hundredth of the test's windows hold passages that `learn` trains on; other data pass."""
    if not isinstance(learn.train, TokenLoader) or not isinstance(test.test, TokenLoader):
        return
    share = overlap(learn.train.windows, test.test.windows)
    if share > 0.01:
        raise InputError(
            f"{share:.0%} of the windows of {test.name} hold passages of {learn.name}, on which the model is calibrated; "
            "measure on other text, or allow it with --overlap (overlap=True)."
        )
