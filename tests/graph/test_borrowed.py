"""A weight with borrowed numbers is the float64 copy of its lender, whatever is done to it, and leaves the lender alone."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from plans import axes_plan
from pomona.graph import borrowed, trace
from pomona.graph.alike import unlike
from pomona.graph.borrowed import Borrowed, lends
from pomona.graph.precise import precise, precisely
from pomona.graph.proof import prove
from pomona.graph.reference import reference
from pomona.graph.rehearsal import Rehearsal
from pomona.graph.surgery import realise
from pomona.graph.zeros import LEAN

DEAD = torch.arange(0, 40, 2)
X, IDS = (
    torch.randn(300, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    torch.tensor([[3, 0, 8], [39, 38, 3]]),
)


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done with millions of numbers is done with a few."""
    monkeypatch.setattr(borrowed, "LEAST", 1)


def lender(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(40, 60, generator=torch.Generator().manual_seed(0)).to(dtype)


READ: dict[str, Callable[[Tensor], Tensor]] = {
    "a layer": lambda w: F.linear(X, w),
    "a layer with a bias": lambda w: F.linear(X, w, torch.ones(40, dtype=torch.float64)),
    "from the left": lambda w: w @ X.t(),
    "written out": lambda w: torch.einsum("ni,oi->no", X, w),
    "transposed in other words": lambda w: torch.stack([w.transpose(-1, 0), w.permute(1, 0), w.mT, w.t(), w.transpose(1, 1).t()]),
    "a table": lambda w: F.embedding(IDS, w),
    "a table by rows": lambda w: w.index_select(0, IDS[0]) @ X[0],
    "columns": lambda w: w.t().index_select(0, IDS.flatten()),
    "part of it": lambda w: w[3:9, 1] + w.view(60, 40).chunk(2)[1][5:11, 0],
    "with others": lambda w: torch.cat([w, w[:3]]),
    "scaled": lambda w: F.linear(X, w / (1 + w.norm(dim=1, keepdim=True))),
    "by its own": lambda w: w * w.sum() + w.max(),
}
WRITE: dict[str, Callable[[Tensor], object]] = {
    "nothing": lambda w: None,
    "rows that die": lambda w: w.index_fill_(0, DEAD, 0),
    "columns that die, and more": lambda w: (w.index_fill_(1, DEAD, 0), w.index_fill_(-1, torch.tensor([1, 2]), 0)),
    "both": lambda w: (w.index_fill_(0, DEAD, 0), w.t().index_fill_(0, DEAD, 0)),
    "numbers into rows": lambda w: w.index_fill_(0, DEAD, 2),
    "a factor": lambda w: w.mul_(3),
    "a factor after rows died": lambda w: (w.index_fill_(0, DEAD, 0), w.add_(3)),
    "rows that die after a factor": lambda w: (w.add_(3), w.index_fill_(0, DEAD, 0)),
    "other numbers": lambda w: w.copy_(X[:40]),
    "one row": lambda w: w[5].fill_(7),
    "one row of its transposed view": lambda w: w.t()[5].fill_(7),
    "by item": lambda w: w.__setitem__((3, slice(2)), 1),
    "beside autograd": lambda w: w.data.clamp_(max=0.1),
    "a view taken before": lambda w: (lambda view: (w.mul_(2), view.add_(w.t())))(w.t()),
}


@pytest.mark.parametrize("write", WRITE)
@pytest.mark.parametrize("read", READ)
def test_it_does_what_a_float64_copy_does(read: str, write: str) -> None:
    given = lender()
    ours, plain = nn.Parameter(Borrowed.of(given)), nn.Parameter(given.double())
    with torch.no_grad():
        WRITE[write](ours)
        WRITE[write](plain)
        found, wanted = READ[read](ours), READ[read](plain)
    assert found.dtype == torch.float64
    assert torch.equal(found, wanted) and found.stride() == wanted.stride()
    assert torch.equal(given, lender())


@pytest.mark.parametrize("write", ["rows that die", "columns that die, and more", "both", "a factor after rows died", "nothing"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_that_look_for_zeros_find_those_that_it_was_filled_with(write: str, dtype: torch.dtype) -> None:
    ours, plain = Borrowed.of(lender(dtype)), lender(dtype).double()
    bias = torch.ones(40, dtype=torch.float64)
    for weight in (ours, plain):
        WRITE[write](weight)
    for b in (None, bias):
        wanted = F.linear(X, plain, b)
        with precisely(LEAN):
            found = F.linear(X, ours, b)
            again = F.linear(X @ plain.t(), ours.t())
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(again, X @ plain.t() @ plain, rtol=1e-13, atol=1e-12)


def test_dead_rows_are_neither_widened_nor_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, shapes = Borrowed.of(lender()), []
    ours.index_fill_(0, DEAD, 0)
    monkeypatch.setattr(Borrowed, "dense", None)  # which widens all
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: shapes.append(tuple(b.shape)) or product(a, b))
    with precisely(LEAN):
        F.linear(X, ours)
    assert shapes == [(60, 21)]  # the living ones and one that stands for the dead


def test_zero_times_infinity_stays_no_number() -> None:
    ours, x = Borrowed.of(lender()), X.clone()
    ours.index_fill_(1, DEAD, 0)
    x[0, 0] = torch.inf
    with precisely(LEAN):
        assert F.linear(x, ours)[0].isnan().all()


def test_what_its_lender_became_is_never_taken_for_its_numbers() -> None:
    given = lender()
    ours, own = Borrowed.of(given), Borrowed.of(given)
    own.mul_(2)
    given.mul_(5)
    with pytest.raises(RuntimeError, match="was changed"):
        F.linear(X, ours)
    assert ours.void and torch.equal(own, lender().double() * 2)


def test_small_odd_and_wide_tensors_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        uncounted = lender()
    assert lends(lender()) and lends(nn.Parameter(lender()))
    assert not any(lends(x) for x in (lender().double(), lender()[0], lender().t(), lender().long(), uncounted))
    assert not lends(Borrowed.of(lender()))
    monkeypatch.setattr(borrowed, "LEAST", 2401)
    assert not lends(lender())


class Tied(nn.Module):
    """One weight by two names, and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head, self.rnn = nn.Embedding(40, 60), nn.Linear(60, 40), nn.LSTM(40, 8)
        self.head.weight = self.table.weight
        self.more = [self.head.weight]

    def forward(self, ids: Tensor) -> Tensor:
        return self.rnn(self.head(self.table(ids) + self.more[0][0]))[0]


def test_a_copy_of_a_model_keeps_its_ties_and_stays_a_model() -> None:
    model = Tied()
    ours, plain = precise(model, borrow=True), precise(model)
    assert isinstance(ours.table.weight, Borrowed) and isinstance(ours.table.weight, nn.Parameter)
    for copy in (ours, deepcopy(ours)):
        assert copy.table.weight is copy.head.weight is copy.more[0] is not model.table.weight
        assert copy.rnn._flat_weights[0] is copy.rnn.weight_ih_l0
        assert copy.table.weight.requires_grad and copy.table.weight.dtype == torch.float64
        with precisely():
            assert torch.equal(copy(IDS), plain(IDS))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in ours.state_dict().items())
    ours(IDS).sum().backward()
    plain(IDS).sum().backward()
    assert torch.equal(ours.table.weight.grad, plain.table.weight.grad)
    assert Rehearsal(deepcopy(ours), (IDS,), {}).shapes() == [plain(IDS).shape]


class Branching(nn.Module):
    """Its program hands a weight to a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: self.layer(x), lambda x: x @ self.layer.weight, (x,))


@pytest.mark.parametrize("sign", [1, -1])
def test_branches_take_it(sign: int) -> None:
    model, x = Branching(), sign * torch.ones(3, 8)
    graph = trace(model, (x,))
    found = reference(precise(model, borrow=True), graph, {}, [], (x,), {})
    torch.testing.assert_close(found[0], model.double()(x.double()), rtol=1e-13, atol=1e-13)


def test_a_copy_of_a_copy_has_zeros_of_its_own() -> None:
    one = precise(Tied(), borrow=True)
    two = deepcopy(one)
    with torch.no_grad():
        two.head.weight.index_fill_(0, DEAD, 0)
        three = deepcopy(two)
        three.head.weight.mul_(2)
    assert (one.head.weight != 0).all() and (two.head.weight == 0).any(1).sum() == len(DEAD)
    assert torch.equal(three.head.weight, two.head.weight * 2)


CHANGES: dict[str, Callable[[nn.Linear], object]] = {
    "in place": lambda m: m.weight.mul_(2),
    "in place, and back": lambda m: (m.weight.mul_(2), m.weight.div_(2)),
    "one number": lambda m: m.weight[3].add_(1e-3),
    "by other numbers": lambda m: setattr(m.weight, "data", m.weight.data.roll(1, 0)),
    "by another parameter": lambda m: setattr(m, "weight", nn.Parameter(m.weight.detach() + 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_changed_after_its_copy_is_told_from_it(change: str) -> None:
    small = nn.Linear(60, 40)
    twin = precise(small, borrow=True)
    assert unlike(twin, small) == set()
    with torch.no_grad():
        CHANGES[change](small)
    assert unlike(twin, small) == {"weight"}


def test_a_copy_that_changed_is_told_from_its_model_and_equal_numbers_elsewhere_are_not() -> None:
    small = nn.Linear(60, 40)
    twin = precise(small, borrow=True)
    small.weight = nn.Parameter(small.weight.detach().clone())
    assert unlike(twin, small) == set()
    with torch.no_grad():
        twin.weight.index_fill_(0, DEAD, 0)
    assert unlike(twin, small) == {"weight"}


@pytest.mark.parametrize("make", [zoo.mlp, zoo.llama], ids=lambda make: make.__name__)
def test_a_wrong_slice_fails_the_proof_however_it_came_there(make: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]) -> None:
    model, args = make()
    graph = trace(model, args)
    plan = axes_plan(graph)
    made, (args, kwargs) = realise(model, graph, plan), graph.program.example_inputs
    assert any(isinstance(p, Borrowed) for p in made.tried.twin.parameters())
    assert prove(model, graph, plan, made.model, args, kwargs, tried=made.tried).passed
    wide = [p for p in made.model.parameters() if p.dim() == 2]
    for parameter in wide:
        right = parameter.detach().clone()
        with torch.no_grad():
            parameter.copy_(right.roll(1, 0))
            assert not prove(model, graph, plan, made.model, args, kwargs, tried=made.tried).passed
            parameter.copy_(right)
        assert prove(model, graph, plan, made.model, args, kwargs, tried=made.tried).passed
