"""A traced program in which products are replaced, one by one, by packed layers and folded weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from pomona.graph.nodes import arguments, call
from pomona.runtime.formats.conv_format import ConvFormat, Geometry
from pomona.runtime.formats.format import Format
from pomona.runtime.sparse.candidates import Candidate
from pomona.runtime.sparse.chains import Chain, is_held
from pomona.runtime.sparse.choose import in_numbers
from pomona.runtime.sparse.convolution import SparseConv2d
from pomona.runtime.sparse.folded import Norm, folded
from pomona.runtime.sparse.linear import SparseLinear
from pomona.runtime.sparse.owned import held_tensors, only_what_is_read
from pomona.runtime.sparse.packed import Packed

_EXACT = (torch.float32, torch.float64)  # a folded weight of fewer digits would be rounded once more


class Rewriting:
    """A program and what was replaced in it so far.

    `wanted` are the weights to be packed, by identity: the names of their layers, and how. `placed` are those that were.
    """

    def __init__(self, module: fx.GraphModule, wanted: Mapping[int, tuple[str, Candidate]]) -> None:
        self.module, self.wanted = module, wanted
        self.placed: set[int] = set()
        self._layers: list[tuple[fx.Node, str, nn.Module]] = []
        self._packed: dict[tuple[Any, ...], Packed] = {}
        self._instead: dict[fx.Node, fx.Node] = {}  # chains were found before, and name nodes that are gone

    def packs(self, n: fx.Node) -> bool:
        """Whether a product is one of a weight to be packed, and of a bias that the model holds."""
        return _is_layer(n) and id(self._tensor(arguments(n)["weight"])) in self.wanted

    def convolution(self, chain: Chain) -> int:
        """Pack a convolution with its chain, or else fold its norm; how many ops a packed one takes along."""
        norm = None if chain.norm is None else self._norm(arguments(chain.norm))
        if not self.packs(chain.conv):
            if norm is not None and _is_layer(chain.conv):
                self._fold(chain.conv, norm, chain.last)
            return 0
        given = arguments(chain.conv)
        dense: Tensor = self._tensor(given["weight"])
        weight, bias = dense, self._tensor(given["bias"])
        if norm is not None:
            weight, bias = folded(weight, bias, norm)
            if not _finite(weight, bias):
                chain, weight, bias, norm = Chain(chain.conv), dense, self._tensor(given["bias"]), None
        geometry = Geometry.of(
            _two(given["stride"]), in_numbers(given["padding"], weight.shape[2:], given["dilation"]),
            _two(given["dilation"]), given["groups"],
        )  # fmt: skip
        name, candidate = self.wanted[id(dense)]
        packed = self._shared((id(dense), geometry, norm and norm.key), lambda: candidate.pack_conv(weight.float(), geometry))
        layer = SparseConv2d(packed, bias, relu=chain.relu is not None)
        x = (given["input"], *(() if chain.residual is None else (self._instead.get(chain.residual, chain.residual),)))
        # Without an addition all depends on the convolution alone; the addend may be computed later than that.
        self._replace(chain.nodes, chain.conv if chain.add is None else chain.add, x, name, layer.eval())
        self.placed.add(id(dense))
        return len(chain.nodes) - 1

    def linear(self, n: fx.Node) -> None:
        """Pack the product of a matrix where it is wanted."""
        if not self.packs(n):
            return
        given = arguments(n)
        weight = self._tensor(given["weight"])
        name, candidate = self.wanted[id(weight)]
        packed = self._shared((id(weight),), lambda: candidate.pack(weight))
        self._replace([n], n, (given["input"],), name, SparseLinear(packed, self._tensor(given["bias"])).eval())
        self.placed.add(id(weight))

    def finish(self) -> None:
        """Put the layers into the module under their names, and leave out what nobody reads any more."""
        graph = self.module.graph
        for n in [n for n in graph.find_nodes(op="get_attr") if not n.users]:
            graph.erase_node(n)
        only_what_is_read(self.module)
        held = held_tensors(self.module)
        for n, name, layer in self._layers:
            while any(each == name or each.startswith(f"{name}.") for each in held):
                name += "_"  # called more than once, or somebody else reads a tensor of the dense layer
            self.module.add_submodule(name, layer)
            held.add(name)
            n.target = name
        self.module.delete_all_unused_submodules()
        graph.lint()
        self.module.recompile()

    def _fold(self, conv: fx.Node, norm: Norm, normed: fx.Node) -> None:
        """The norm of a dense convolution becomes part of its weight and bias, which no other op reads."""
        given, graph = arguments(conv), self.module.graph
        dense = self._tensor(given["weight"])
        if dense.dtype not in _EXACT:
            return
        made = dict(zip(("weight", "bias"), folded(dense, self._tensor(given["bias"]), norm), strict=True))
        if not _finite(*made.values()):
            return
        path = str(given["weight"].target).removesuffix(".weight")
        with graph.inserting_before(conv):
            for word, value in made.items():
                name = f"{path}_folded_{word}".replace(".", "_")
                while hasattr(self.module, name):
                    name += "_"
                setattr(self.module, name, nn.Parameter(value.to(dense.dtype), requires_grad=dense.requires_grad))
                given[word] = graph.get_attr(name)
        conv.args, conv.kwargs = call(conv, given)
        normed.replace_all_uses_with(conv)
        self._instead[normed] = conv
        graph.erase_node(normed)

    def _replace(self, nodes: list[fx.Node], place: fx.Node, x: tuple[fx.Node, ...], name: str, layer: nn.Module) -> None:
        graph, last = self.module.graph, nodes[-1]
        with graph.inserting_before(place):
            made = graph.create_node("call_module", name, x)
        made.meta["val"] = last.meta.get("val")
        last.replace_all_uses_with(made)
        self._instead[last] = made
        for n in reversed(nodes):
            graph.erase_node(n)
        self._layers.append((made, name, layer))

    def _shared(self, key: tuple[Any, ...], pack: Callable[[], Format | ConvFormat]) -> Packed:
        """A weight packed once, however often it is called."""
        if key not in self._packed:
            self._packed[key] = Packed(pack())
        return self._packed[key]

    def _norm(self, given: Mapping[str, Any]) -> Norm:
        mean, variance, weight, bias = (self._tensor(given[w]) for w in ("running_mean", "running_var", "weight", "bias"))
        return Norm(mean, variance, weight, bias, given["eps"])

    def _tensor(self, n: fx.Node | None) -> Any:
        return None if n is None else attrgetter(str(n.target))(self.module)


def _is_layer(n: fx.Node) -> bool:
    """Whether weight and bias of a product are tensors that the model holds."""
    given = arguments(n)
    return is_held(given["weight"]) and (given["bias"] is None or is_held(given["bias"]))


def _finite(*tensors: Tensor) -> bool:
    """Whether these can be told in float32."""
    return all(bool(t.float().isfinite().all()) for t in tensors)


def _two(numbers: Any) -> tuple[int, int]:
    pair = (numbers, numbers) if isinstance(numbers, int) else tuple(numbers)
    return pair[0], pair[-1]
