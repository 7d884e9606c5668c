"""What models take and give, what else they hold, and the states that they come in."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import pomona
from halving import Does, F, halved, laws, noise, parameters, words


class Pair(NamedTuple):
    mean: Tensor
    spread: Tensor


@dataclass
class Answer:
    logits: Tensor
    hidden: Tensor
    loss: Tensor | None = None


class Two(nn.Module):
    """Two kinds of input by name, one of them optional, a flag and a number that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.picture = nn.EmbeddingBag(20, 8), nn.Linear(6, 12)
        self.join, self.out = nn.Linear(20, 10), nn.Linear(10, 3)

    def forward(
        self, ids: Tensor, pixels: Tensor, mask: Tensor | None = None, *, scale: float = 1.0, deep: bool = False
    ) -> dict[str, Any]:
        a, b = self.text(ids), torch.relu(self.picture(pixels))
        if mask is not None:
            b = b * mask[:, None]
        h = torch.relu(self.join(torch.cat([a, b], -1))) * scale
        return {"logits": self.out(h), "extra": {"norms": [h.norm(dim=-1), b.mean()], "deep": deep}}


class Nested(nn.Module):
    """A dict of lists goes in."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, batch: dict[str, Any]) -> Pair:
        x = self.a(batch["views"][0]) + self.a(batch["views"][1]) + self.b(batch["other"])
        return Pair(self.c(torch.relu(x)), self.c(x).exp())


class WithDataclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Answer:
        h = torch.relu(self.a(x))
        return Answer(self.b(h), h.sum(-1))


class Held(nn.Module):
    """Parameters in lists and dicts of torch, a scripted piece, a function as attribute, a module made in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList([nn.Parameter(torch.rand(8) + 0.5) for _ in range(2)])
        self.tables = nn.ParameterDict({"a": nn.Parameter(noise(8, 6)), "b": nn.Parameter(noise(8, seed=2))})
        self.blocks = nn.ModuleDict(OrderedDict(first=nn.Linear(5, 8), last=nn.Linear(6, 2)))
        self.act = torch.tanh

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.blocks["first"](x))
        for scale in self.scales:
            x = nn.ReLU()(x * scale)
        return self.blocks["last"]((x + self.tables["b"]) @ self.tables["a"])


class Elsewhere(nn.Module):
    """Children that are called through methods of their own, under autocast-free and gradient-free regions, checkpointed."""

    class Coder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Linear(6, 10), nn.Linear(10, 6)

        def encode(self, x: Tensor) -> Tensor:
            return torch.relu(self.down(x))

        def decode(self, z: Tensor) -> Tensor:
            return self.up(z)

    def __init__(self) -> None:
        super().__init__()
        self.coder, self.mid, self.head = self.Coder(), nn.Linear(10, 10), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.coder.encode(x)
        with torch.no_grad():
            shift = self.mid(z).mean(0, keepdim=True) * 0.1
        z = checkpoint(self.mid, z, use_reentrant=False) + shift
        return self.head(self.coder.decode(z))


class Counting(nn.Module):
    """Counts its calls and remembers a mean, in buffers and in plain numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.calls = nn.Linear(5, 8), nn.Linear(8, 2), 0
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("last", torch.zeros(8))
        self.register_buffer("scratch", torch.zeros(8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.steps += 1
        h = torch.relu(self.a(x))
        self.last.mul_(0.9).add_(0.1 * h.detach().mean(0))
        self.scratch = h.detach()[0]
        return self.b(h)


class Empty(nn.Module):
    """Layers that nobody calls, a submodule that is None, an empty list, a frozen table."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.unused = nn.Linear(5, 8), nn.Linear(8, 2), nn.Linear(8, 8)
        self.nothing, self.none_yet = None, nn.ModuleList()
        self.table = nn.Embedding(4, 8).requires_grad_(False)
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, kind: int = 1) -> Tensor:
        return self.b(torch.relu(self.a(x) + self.table.weight[kind]))


def lambdas() -> nn.Module:
    return Does(lambda m, x, *rest, **more: m.b(m.a(x).relu() + sum(rest)), a=nn.Linear(5, 8), b=nn.Linear(8, 2))


CASES = {
    "names, flags and numbers": (Two, {"ids": words(2, 4), "pixels": noise(2, 6), "scale": 0.5, "deep": True}),
    "an optional input": (Two, {"ids": words(2, 4), "pixels": noise(2, 6), "mask": torch.tensor([1.0, 0.5])}),
    "a dict of lists": (Nested, ({"views": [noise(2, 5), noise(2, 5, seed=2)], "other": noise(2, 4)},)),
    "held in lists and dicts": (Held, noise(2, 5)),
    "called through methods": (Elsewhere, noise(2, 6)),
    "layers that nobody calls": (Empty, noise(2, 5)),
    "any arguments": (lambdas, (noise(2, 5), noise(2, 1, seed=2))),
    "a dataclass comes out": (WithDataclass, noise(2, 5)),
}


test_half_of_everything_goes_and_small_equals_masked, test_each_axis_goes_alone = laws(CASES)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_kept(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)).to(dtype)
    found = halved(model, noise(2, 3, 6, 6).to(dtype))
    assert found.proof.passed and found.form == "eager"
    assert {p.dtype for p in found.small.parameters()} == {dtype} and found.small(*found.args).dtype == dtype


def test_a_model_that_trains_with_dropout_stays_in_training():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Dropout(0.5), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3)).train()
    result = pomona.prune(model, noise(4, 6), goal="params=0.5x", structure="neurons", latency=False)
    assert result.report.proof.passed and model.training and result.model.training and result.model[1].p == 0.5


def test_what_was_frozen_stays_frozen():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    model[0].requires_grad_(False)
    result = pomona.prune(model, noise(4, 6), goal="params=0.5x", structure="neurons", latency=False)
    assert [p.requires_grad for p in result.model.parameters()] == [False, False, True, True]


def test_hooks_come_along():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    model[0].register_forward_hook(lambda module, given, out: out * 2)
    model[2].register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    result = pomona.prune(model, noise(4, 6), goal="params=0.5x", structure="neurons", latency=False)
    assert result.report.proof.passed and result.form == "eager" and len(result.model[0]._forward_hooks) == 1


def test_what_a_model_remembers_is_neither_lost_nor_changed():
    torch.manual_seed(0)
    model = Counting()
    before = copy.deepcopy(model.state_dict())
    result = pomona.prune(model, noise(4, 5), goal="params=0.6x", structure="neurons", latency=False)
    assert result.report.proof.passed
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len(result.model.state_dict()["last"]) == result.model.a.out_features
    assert parameters(result.model) < parameters(model)


def test_a_scripted_model_is_refused_with_what_to_do():
    with pytest.raises(pomona.InputError, match="scripted"):
        pomona.prune(torch.jit.script(nn.Sequential(nn.Linear(6, 3))), noise(2, 6), goal="sparsity=0.5", latency=False)


def test_functional_modules_of_one_weight_are_cut_once():
    torch.manual_seed(0)
    weight = nn.Parameter(noise(8, 8))
    model = Does(lambda m, x: F.linear(F.linear(x, m.a), m.b).relu() @ m.c, a=weight, b=weight, c=nn.Parameter(noise(8, 2)))
    found = halved(model, noise(2, 8))
    assert found.proof.passed and found.small.a is found.small.b
