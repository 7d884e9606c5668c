"""The layer problem by the method of multipliers: one copy of the weights fits, one is sparse, both are pulled together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pomona.native.applied import applied
from pomona.quadratic.problem import Quadratic


@dataclass(frozen=True, eq=False)
class Scaled:
    """The problem in units in which every input has the same energy: H with ones on its diagonal, weights times the norms.

    Magnitudes are then Wanda's scores, and one penalty suits all inputs. In the problem's own dtype.
    """

    gram: Tensor
    target: Tensor
    norms: Tensor

    @classmethod
    def of(cls, problem: Quadratic) -> Scaled:
        """With the ridge added."""
        norms = (problem.gram.diagonal(dim1=1, dim2=2) + problem.ridge).sqrt()
        gram = problem.gram.to(problem.dtype, copy=True)
        gram.diagonal(dim1=1, dim2=2).add_(problem.ridge)
        gram.div_(norms[:, :, None]).div_(norms[:, None, :])
        return cls(gram, (problem.weight * norms[:, None]).to(problem.dtype), norms)

    def back(self, weight: Tensor) -> Tensor:
        """Weights in the problem's own units, float64."""
        return weight.double() / self.norms[:, None]


@dataclass(frozen=True, eq=False)
class Split:
    """Where the method stands: `sparse` lives on `mask`, `dual` is what the copies have differed by so far, over the penalty."""

    sparse: Tensor
    dual: Tensor
    mask: Tensor


def begun(target: Tensor) -> Split:
    """Both copies are the dense weights."""
    return Split(target, torch.zeros_like(target), torch.ones_like(target, dtype=torch.bool))


def pulled(gram: Tensor, rho: float) -> Tensor:
    """Rho (H + rho I)^-1: how far the fitting copy follows the sparse one, (groups, columns, columns)."""
    matrix = gram + rho * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    return rho * torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def stepped(at: Split, target: Tensor, pull: Tensor, choose: Callable[[Tensor], Tensor]) -> Split:
    """One round: fit, project onto the mask that `choose` makes of the sum of fit and dual, and note the difference.

    The fit is argmin of tr((V - W) H (V - W)^T) / 2 + rho / 2 ||V - Z + U||^2, which is W + (Z - U - W) rho (H + rho I)^-1.
    """
    dense = torch.baddbmm(target, (at.sparse - at.dual).sub_(target), pull).add_(at.dual)
    mask = choose(dense)
    sparse = applied(dense, mask)
    return Split(sparse, dense - sparse, mask)


def rescaled(at: Split, factor: float) -> Split:
    """The same multipliers under a penalty that is `factor` times as strong."""
    return replace(at, dual=at.dual / factor)
