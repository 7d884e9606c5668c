"""Statistics that a training step shows by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from pomona.collect import observe
from pomona.probes.loss_gradient import LossGradient
from pomona.vocabulary import Gathered, InputError, Seen, Site, Statistic


def shown(needs: Sequence[Statistic], sites: Sequence[Site]) -> bool:
    """Whether the gradients of a backward pass are all that these statistics read."""
    watches = [need.watch(site) for need in needs for site in sites]
    return all(need.probe == LossGradient() for need in needs) and not any(w.inputs or w.experts or w.blocks for w in watches)


def live(
    needs: Sequence[Statistic], sites: Sequence[Site], parameters: Mapping[str, nn.Parameter], step: int
) -> Mapping[str, Gathered]:
    """The statistics from the gradients that the last backward pass left; raises InputError where they are gone."""
    names = sorted(frozenset().union(*(need.watch(site).grads for need in needs for site in sites)))
    grads = {name: grad for name in names if (grad := parameters[name].grad) is not None}
    gone = [name for name in names if name not in grads]
    if gone:
        raise InputError(f"{gone[0]} has no gradient at step {step}; call s.step() after backward() and before zero_grad().")
    weights = {name: parameters[name].detach() for name in names}
    return observe(sites, needs, Seen(1, grads=grads, weights=weights))
