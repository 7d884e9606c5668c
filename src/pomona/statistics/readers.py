"""What the readers of an axis receive from each of its units: the activation whose removal is at stake."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pomona.vocabulary import InputError, Member, Seen, Site, Watch


def readers(site: Site) -> list[Member]:
    """The weights that read the axis; raises InputError where there are none, since then no activation can be seen."""
    found = [m for m in site.members if m.role == "in" and not m.buffer] if site.kind == "axis" else []
    if not found:
        raise InputError(f"{site.name} is no axis that linear or convolution weights read, so no activation is seen; skip it.")
    return found


def inputs(site: Site) -> Watch:
    """The inputs of all readers."""
    return Watch(inputs=frozenset(m.tensor for m in readers(site)))


def by_unit(site: Site, seen: Seen, recorded: Mapping[str, Tensor]) -> list[Tensor]:
    """`seen.inputs` or `seen.input_grads`, one tensor a reader: (examples, units, positions).

    Positions are all places where a unit appears in an example: pixels, tokens, windows, the features of a flattened map.
    """
    return [_arrange(recorded[member.tensor], member, seen) for member in readers(site)]


def _arrange(tensor: Tensor, member: Member, seen: Seen) -> Tensor:
    weight = seen.weights[member.tensor]
    channels = tensor.movedim(1 if weight.ndim > 2 else -1, 0)  # (features, batch, ...)
    assert member.dim is not None  # an axis indexes every member along a dimension
    # A grouped convolution stores one column for the same place in every group: (width, groups, batch, ...).
    features = channels.reshape(-1, weight.shape[member.dim], *channels.shape[1:]).transpose(0, 1)
    places = torch.arange(len(features)).unsqueeze(1) if member.index is None else member.index
    features = features[places.to(features.device)]  # (units, positions, groups, batch, ...)
    # Windows of one example follow each other along the batch: (units, positions, groups, examples, ...).
    examples = seen.examples if features.shape[3] % seen.examples == 0 else features.shape[3]
    split = features.reshape(*features.shape[:3], examples, -1)
    return split.permute(3, 0, 1, 2, 4).flatten(2)
