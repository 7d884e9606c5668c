"""How much a unit's activations tell about the labels: matrix-based Renyi information (Sarvani et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log

import torch
from torch import Tensor

from pomona.probes.forward import LabelledForward
from pomona.statistics.readers import by_unit, inputs
from pomona.statistics.sums import added, count
from pomona.vocabulary import InputError, Probe, Seen, Site, State, Watch

_AT_ONCE = 1 << 23  # float64 numbers in a batch of Gram matrices: 64 MB
_LABEL_WIDTH = 0.1
_WIDTHS = 100  # candidates for the kernel width of a layer


@dataclass(frozen=True)
class Relevance:
    """Mean over batches and readers of I(activations of a unit; labels) in bits: float64 of shape (units,). For axis sites.

    I = S(T) + S(Y) - S(T, Y), entropies of order `alpha` of the eigenvalues of Gaussian Gram matrices over `samples`
    examples. The kernel width is that of the layer: of 100 between 0.3 and 10 mean distances, the one whose Gram matrix of
    the whole layer aligns best with the labels'. The paper smooths widths over the training and fixes them; here each
    batch has its own. The estimate depends on how the data is cut into batches: compare what was gathered alike.
    """

    alpha: float = 1.01
    samples: int = 100
    probe: Probe = field(default_factory=LabelledForward)

    def __post_init__(self) -> None:
        if self.alpha <= 0 or self.samples < 2:
            raise InputError(f"Relevance needs a positive alpha and at least 2 samples; got {self.alpha} and {self.samples}.")

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch, piece by piece."""
        labels = one_hot(seen.target, seen.examples)
        for z in by_unit(site, seen, seen.inputs):
            if len(z) != len(labels):
                raise InputError(f"{site.name} has {len(z)} activations for {len(labels)} labels; skip it.")
            for t, y in zip(torch.split(z, self.samples), torch.split(labels, self.samples), strict=True):
                x = t.double()
                found = information(x.transpose(0, 1), y, kernel_width(x.flatten(1), y), self.alpha)
                state = added(state, {"sum": found * len(t), "examples": count(len(t))})
        return state or {}

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean, every example counting alike."""
        return state["sum"] / state["examples"]


def one_hot(target: object, examples: int) -> Tensor:
    """(examples, classes) float64 from class numbers or from rows of class probabilities; raises InputError on others."""
    if isinstance(target, Tensor) and len(target) == examples:
        if target.ndim == 1 and not target.is_floating_point() and not bool((target < 0).any()):
            return torch.nn.functional.one_hot(target.long()).double()
        if target.ndim == 2 and target.is_floating_point():
            return target.double()
    raise InputError("Relevance needs one class an example, as a number from 0 or as a row of class probabilities.")


def information(t: Tensor, y: Tensor, width: Tensor | float, alpha: float = 1.01) -> Tensor:
    """I(T; Y) in bits for each unit: t (units, examples, positions), y (examples, classes), both float64 -> (units,)."""
    labels = gram(y, _LABEL_WIDTH)
    of_labels = entropy(labels, alpha)
    pieces = torch.split(t, max(1, _AT_ONCE // labels.numel()))
    return torch.cat([_mutual(gram(piece, width), labels, of_labels, alpha) for piece in pieces])


def _mutual(grams: Tensor, labels: Tensor, of_labels: Tensor, alpha: float) -> Tensor:
    return (entropy(grams, alpha) + of_labels - entropy(grams * labels, alpha)).clamp_min(0.0)


def gram(x: Tensor, width: Tensor | float) -> Tensor:
    """(..., examples, features) -> exp(-||x_a - x_b||^2 / width^2): (..., examples, examples)."""
    distances: Tensor = torch.cdist(x, x)
    return torch.exp(-(distances / width).square())


def entropy(grams: Tensor, alpha: float) -> Tensor:
    """S_alpha in bits of (..., n, n) Gram matrices; alpha = 1 is the limit, -sum of lambda log2 lambda."""
    spectrum: Tensor = torch.linalg.eigvalsh(grams / grams.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]).clamp_min(0.0)
    if alpha == 1:
        return -torch.xlogy(spectrum, spectrum).sum(-1) / log(2)
    return torch.log2(spectrum.pow(alpha).sum(-1)) / (1 - alpha)


def kernel_width(x: Tensor, y: Tensor) -> Tensor:
    """The width at which the examples' Gram matrix, (examples, features), aligns best with that of the labels."""
    distances: Tensor = torch.cdist(x, x)
    scale = distances.mean()
    if not scale:
        return torch.ones_like(scale)  # all examples are the same, at any width
    widths = torch.linspace(0.3, 10.0, _WIDTHS, dtype=x.dtype, device=x.device) * scale
    grams = torch.exp(-(distances.square() / widths[:, None, None] ** 2))
    alignment = (grams * gram(y, _LABEL_WIDTH)).sum((1, 2)) / grams.square().sum((1, 2)).sqrt()
    return widths[alignment.argmax()]
