"""What the readers of an axis receive from each of its units: the activation whose removal is at stake."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pomona.vocabulary import InputError, Member, Seen, Site, Watch
from pomona.vocabulary.layout import to_product


def readers(site: Site) -> list[Member]:
    """The weights that read the axis where it can be seen; raises InputError where there are none.

    What a recurrent module hands on inside, from step to step and from layer to layer, never passes a module's door.
    """
    members = [m for m in site.members if not m.buffer] if site.kind == "axis" else []
    written = {_owner(m) for m in members if m.role == "out"}
    recurrent = {m.tensor for m in members if m.weight is not None and m.weight.kind == "recurrent"}
    found = [m for m in members if m.role == "in" and not (m.tensor in recurrent and _owner(m) in written)]
    if not found:
        raise InputError(
            f"{site.name} is no axis that linear or convolution weights read, so no activation is seen; "
            "leave it out, or take a criterion that looks at weights or gradients."
        )
    return found


def _owner(member: Member) -> str:
    return member.tensor.rpartition(".")[0]


def inputs(site: Site) -> Watch:
    """The inputs of all readers."""
    return Watch(inputs=frozenset(m.tensor for m in readers(site)))


def places(reader: Member) -> Tensor:
    """Where a reader's product has the columns of each unit, of all its groups one after the other: int64 (units, k)."""
    assert reader.weight is not None and reader.dim is not None  # an axis indexes every member along a dimension
    size = reader.shape[reader.dim]
    index = torch.arange(size)[:, None] if reader.index is None else reader.index.cpu()
    owner = torch.full((size,), -1)
    owner[index] = torch.arange(len(index))[:, None].expand(index.shape)
    along = owner.view([size if dim == reader.dim else 1 for dim in range(len(reader.shape))]).expand(reader.shape)
    found = to_product(reader.weight, along)[:, 0].flatten()
    ranked = found.argsort(stable=True)[int((found < 0).sum()) :]
    return ranked.view(len(index), -1)


def by_unit(site: Site, seen: Seen, recorded: Mapping[str, Tensor]) -> list[Tensor]:
    """`seen.inputs` or `seen.input_grads`, one tensor a reader: (examples, units, positions).

    Positions are all places where a unit appears in an example: pixels, tokens, windows, the features of a flattened map.
    """
    return [_arrange(recorded[member.tensor], member, seen).flatten(2) for member in readers(site)]


def maps(site: Site, seen: Seen) -> list[Tensor]:
    """What each reader receives from a unit in one example, as a matrix: (examples, units, rows, columns).

    A convolution's channel is its map (of more than two dimensions: the first by all others); a head, or whatever has
    several features a token, is features by tokens. A flattened map is folded as nearly square as its size allows, which
    is right for square maps. Where a unit is one number a token the matrix has one row, and no more can be seen of it.
    """
    return [_matrix(_arrange(seen.inputs[member.tensor], member, seen)) for member in readers(site)]


def _matrix(z: Tensor) -> Tensor:
    """(examples, units, features, groups, windows, *space) -> (examples, units, rows, columns)."""
    features, space = z.shape[2], z.shape[5:]
    if features > 1:
        rows = features if z.shape[3:].numel() > 1 else max(n for n in range(1, int(features**0.5) + 1) if features % n == 0)
    elif len(space) > 1:
        rows, z = space[0], z.movedim(5, 2)
    else:
        rows = 1
    return z.reshape(*z.shape[:2], rows, -1)


def _arrange(tensor: Tensor, member: Member, seen: Seen) -> Tensor:
    """(examples, units, features, groups, windows, *space): all places of a unit, and where they come from."""
    weight = seen.weights[member.tensor]
    channels = tensor.movedim(1 if weight.ndim > 2 else -1, 0)  # (features, batch, *space)
    assert member.dim is not None  # an axis indexes every member along a dimension
    # A grouped convolution stores one column for the same place in every group: (width, groups, batch, *space).
    features = channels.reshape(-1, weight.shape[member.dim], *channels.shape[1:]).transpose(0, 1)
    places = torch.arange(len(features)).unsqueeze(1) if member.index is None else member.index
    features = features[places.to(features.device)]  # (units, features, groups, batch, *space)
    # Windows of one example follow each other along the batch.
    examples = seen.examples if features.shape[3] % seen.examples == 0 else features.shape[3]
    return features.reshape(*features.shape[:3], examples, -1, *features.shape[4:]).movedim(3, 0)
