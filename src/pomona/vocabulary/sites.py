"""Where pruning can act: weights as their ops read them, axes of the graph, and the sites made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal, get_args

from torch import Tensor

WeightKind = Literal["linear", "conv", "recurrent", "embedding", "norm", "bias", "other"]
Role = Literal["self", "out", "in", "scale"]
Family = Literal["channel", "neuron", "head", "kv-group", "head-dim", "width", "group", "expert", "other"]


def plural(family: Family) -> str:
    """How users spell a family: `heads`, `kv-groups`, `width`."""
    return family if family == "width" else f"{family}s"


FAMILIES: Mapping[str, Family] = {plural(family): family for family in get_args(Family)}
BLOCKS = ("layers", "blocks")  # how users spell sites of blocks


@dataclass(frozen=True)
class Convolution:
    """How a convolution walks over its input; one number per spatial dimension.

    `trailing` is how much wider than `padding` the rim at the end is (empty: no wider): half of an odd "same" padding is, and
    the output padding of a transposed convolution, that being the ordinary one over its input with zeros in between.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    trailing: tuple[int, ...] = ()

    @property
    def rim(self) -> list[int]:
        """The padding as torch's `pad` takes it: before and after, last dimension first."""
        trailing = self.trailing or (0,) * len(self.padding)
        return [side for p, t in zip(reversed(self.padding), reversed(trailing), strict=True) for side in (p, p + t)]

    @classmethod
    def same(cls, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(padding, trailing) of `padding="same"`: where the total is odd, torch puts the larger half at the end."""
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple(total // 2 for total in totals), tuple(total % 2 for total in totals)


@dataclass(frozen=True)
class Weight:
    """One parameter as the ops of the model read it.

    `out_dim` is the dimension that writes output features, `in_dim` the one that is contracted with the input (None
    where there is none: biases, norms). GPT-2's transposed weights have `in_dim=0, out_dim=1`. `macs` counts the
    multiply-accumulates that this tensor causes for the example inputs, `calls` the ops that read it. `module` is the class
    of the module that holds it, `bias` the parameter that the same op adds to the product (None: it adds none).
    """

    tensor: str
    kind: WeightKind
    shape: tuple[int, ...]
    out_dim: int | None = None
    in_dim: int | None = None
    macs: int = 0
    calls: int = 1
    conv: Convolution | None = None
    module: str = ""
    bias: str | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def stack(self) -> int | None:
        """How many matrices lie in it, each of which reads rows of its own (experts); None where it is no stack."""
        stacked = self.kind == "linear" and len(self.shape) == 3 and {self.in_dim, self.out_dim} == {1, 2}
        return self.shape[0] if stacked else None

    @property
    def prunable(self) -> bool:
        """Whether `sparsity` counts it: linear, convolution and recurrent weights; not biases, norms or embeddings."""
        return self.kind in ("linear", "conv", "recurrent")


@dataclass(frozen=True, eq=False)
class Member:
    """One tensor that a unit reaches into.

    `role`: the unit *is* its element ("self"), writes it ("out": rows of the producing weight), is read through it
    ("in": columns of the consumer), or is scaled by it ("scale": norms, biases, per-channel parameters and buffers).
    `index` maps unit -> positions along `dim`, int64 of shape (units, positions per unit); None means one to one.
    `shape` is the tensor's; sites of kind "axis" always carry it for parameters, so that a unit mask can be broadcast, and
    `weight`, how the ops read the parameter (None on sites that were made without a graph, such as those of a saved plan).
    """

    tensor: str
    role: Role
    dim: int | None = None
    index: Tensor | None = None
    buffer: bool = False
    shape: tuple[int, ...] = ()
    weight: Weight | None = None

    def rows(self, tensor: Tensor) -> Tensor:
        """What each unit reaches into: (units, elements per unit). Only for members that are indexed along a dimension."""
        if self.dim is None:
            raise ValueError(f"{self.tensor} is not indexed along a dimension")
        slices = tensor.movedim(self.dim, 0)
        if self.index is None:
            return slices.reshape(len(slices), -1)
        return slices[self.index.to(tensor.device).flatten()].reshape(len(self.index), -1)


@dataclass(frozen=True)
class Place:
    """Where an axis is read: the weights that read it, as (tensor, dimension), and the vectors by which it is scaled and to
    which it is shifted before (names; None: by nothing).
    """

    readers: tuple[tuple[str, int], ...]
    scale: str | None = None
    shift: str | None = None


@dataclass(frozen=True)
class Turning:
    """How an axis may be turned: nothing lies between what writes it and what reads it that an orthogonal matrix does not pass.

    `writers` are (tensor, dimension) of all that is added up on it, biases and tables too; scales of a `Place` go into its
    readers first. `centred`: a LayerNorm takes the mean off, so only those matrices pass that leave the vector of ones as it
    is. `tied` are tensors that both write and read along the same dimension, which is right only as long as nothing scales
    between: they must be made two.
    """

    writers: tuple[tuple[str, int], ...]
    places: tuple[Place, ...]
    centred: bool = False
    tied: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Axis:
    """An atom of the graph: one free dimension and every place where it appears, which is a coupled group.

    `frozen` says why it cannot be pruned (None: it can). `normalisers` names the ops that run over the axis ("layer_norm at
    blocks.3.norm1"), so that zeroing its units and removing them are different functions. Axes with the same `even`, the
    name of one of them, must keep equal shares of their units for the model's code to say their lengths. `least` units must
    stay, as many as a router chooses, and a multiple of `stride`, where a kernel takes no other lengths. `turning` says how the
    axis can be turned, or, in words, what keeps it from that.
    """

    name: str
    size: int
    family: Family
    members: tuple[Member, ...]
    frozen: str | None = None
    normalisers: tuple[str, ...] = ()
    even: str | None = None
    least: int = 1
    stride: int = 1
    turning: Turning | str = "nobody looked"

    @property
    def exact(self) -> bool:
        """Whether a zeroed and a removed unit are the same function, because no normaliser runs over the axis."""
        return not self.normalisers


@dataclass(frozen=True)
class Branch:
    """A run of sibling modules, each mapping a tensor to one of the same shape, any of which can be left out.

    `rest`: whether the container runs something else as well, so that the whole run may go.
    """

    container: str
    blocks: tuple[str, ...]
    rest: bool = False


@dataclass(frozen=True, eq=False)
class Site:
    """A set of units that one score tensor ranks: the elements of a weight, one axis of the graph, or sibling blocks.

    `kind` says how a decision is cut: a bit mask on a tensor ("element"), kept indices ("axis"), a skipped module
    ("branch"). `shape` is the grid of units. `weight` is there for element sites, `axis` for axis sites. `least` is how
    many units must stay for the model to be one.
    """

    name: str
    kind: Literal["element", "axis", "branch"]
    shape: tuple[int, ...]
    members: tuple[Member, ...]
    weight: Weight | None = None
    axis: Axis | None = None
    blocks: tuple[str, ...] = field(default=())
    least: int = 1

    @property
    def units(self) -> int:
        """Number of units."""
        return prod(self.shape)
