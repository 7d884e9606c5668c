"""Which axes can be turned, op by op, and what is said of those that cannot."""

import pytest
import torch
from torch import nn

import pomona
from pomona.vocabulary.sites import Place, Turning


class Stream(nn.Module):
    """An embedding, a branch and a head on a stream of 8; `way` is what lies between the sum and the norm."""

    def __init__(self, way=lambda self, x: x, norm=None):
        super().__init__()
        self.table, self.branch, self.head = nn.Embedding(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.first, self.norm = nn.RMSNorm(8), norm or nn.RMSNorm(8)
        self.inner, self.vector, self.way = nn.Linear(8, 6), nn.Parameter(torch.rand(8)), way
        self.outer = nn.Linear(6, 8)

    def forward(self, ids):
        x = self.table(ids)
        x = x + self.outer(torch.tanh(self.inner(self.first(x))))
        return self.head(self.norm(self.way(self, x)))


def turning(model):
    ids = torch.tensor([[0, 1, 2], [3, 4, 0]])
    axes = pomona.trace(model.eval(), ids, release="output").axes
    return next(axis.turning for axis in axes.values() if any(m.tensor == "table.weight" and m.dim == 1 for m in axis.members))


def test_a_stream_that_norms_read_can_be_turned_and_says_by_whom_it_is_written_and_read():
    found = turning(Stream())
    assert found == Turning(
        (("table.weight", 1), ("outer.weight", 0), ("outer.bias", 0)),
        (Place((("inner.weight", 1),), "first.weight"), Place((("head.weight", 1),), "norm.weight")),
    )


class WrittenOut(nn.Module):
    """RMSNorm as transformers write it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8))

    def forward(self, x):
        wide = x.to(torch.float32)
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def test_a_norm_that_is_written_out_is_a_norm():
    assert turning(Stream(norm=WrittenOut())).places[1] == Place((("head.weight", 1),), "norm.weight")


def test_a_layer_norm_takes_off_the_mean_and_has_a_shift():
    found = turning(Stream(norm=nn.LayerNorm(8)))
    assert found.centred and found.places[1] == Place((("head.weight", 1),), "norm.weight", "norm.bias")


WAYS = {
    "scaled by a number": lambda self, x: x * 0.5,
    "moved": lambda self, x: x.transpose(0, 1).reshape(-1, 8).view(3, 2, 8)[:2],
    "shifted by a vector": lambda self, x: x + self.vector,
    "pooled": lambda self, x: x.mean(1),
    "joined": lambda self, x: torch.cat([x, self.vector.expand(2, 1, 8)], 1),
    "through a matrix": lambda self, x: x + self.branch(x),
    "divided by its length": lambda self, x: x / (x * x).mean(-1, keepdim=True).sqrt(),
}


@pytest.mark.parametrize("way", WAYS)
def test_ops_that_treat_a_vector_as_one_thing_let_a_turn_through(way):
    model = Stream(WAYS[way])
    found = turning(model)
    assert isinstance(found, Turning), found
    ids = torch.tensor([[0, 1, 2], [3, 4, 0]])
    q = torch.linalg.qr(torch.randn(8, 8))[0]
    before = model(ids)
    with torch.no_grad():
        for place in found.places:
            for tensor, dim in place.readers:
                scale = model.get_parameter(place.scale) if place.scale else 1.0
                model.get_parameter(tensor).copy_(((model.get_parameter(tensor).movedim(dim, -1) * scale) @ q).movedim(-1, dim))
            if place.scale:
                model.get_parameter(place.scale).fill_(1)
        for tensor, dim in found.writers:
            model.get_parameter(tensor).copy_((model.get_parameter(tensor).movedim(dim, -1) @ q).movedim(-1, dim))
    torch.testing.assert_close(model(ids), before, rtol=1e-4, atol=1e-4)


BARS = {
    "op tanh": lambda self, x: torch.tanh(x),
    "op mul: it treats entries one by one": lambda self, x: x * self.branch(x),
    "op add: the same is added": lambda self, x: x + 1.0,
    "op sub: the same is added": lambda self, x: x - self.head(x).sum(-1, keepdim=True),
    "op mean: it sums over the axis": lambda self, x: x * x.mean(-1, keepdim=True),
    "op add: what was scaled for its readers goes on": lambda self, x: x + self.first(x),
    "positions under roll": lambda self, x: torch.roll(x, 1, -1),
    "op pow": lambda self, x: x.pow(3),
    "op softmax": lambda self, x: torch.softmax(x, -1),
    "op add: squares go on": lambda self, x: x + x * x,
    "two scales": lambda self, x: x + self.outer(torch.tanh(self.inner(self.vector * x))),
    "a matrix is computed": lambda self, x: x + self.outer(nn.functional.linear(x, self.inner.weight * 2)),
}


@pytest.mark.parametrize("why", BARS)
def test_ops_that_see_entries_stand_in_the_way_and_are_named(why):
    found = turning(Stream(BARS[why]))
    assert isinstance(found, str) and why in found


class Then(nn.Module):
    """A norm and what comes after it."""

    def __init__(self, norm, then):
        super().__init__()
        self.norm, self.then, self.more = norm, then, nn.Parameter(torch.rand(8))

    def forward(self, x):
        return self.then(self, self.norm(x))


@pytest.mark.parametrize(
    ("norm", "then", "why"),
    [
        (nn.LayerNorm(8), lambda self, x: x * 0.5, "op mul at norm: what was shifted is scaled"),
        (nn.LayerNorm(8), lambda self, x: x.sum(1), "op sum at norm: what was shifted is scaled"),
        (nn.LayerNorm(8), lambda self, x: -x, "op neg at norm: what was shifted is scaled"),
        (nn.RMSNorm(8), lambda self, x: x.mul_(self.more), "op mul_ at norm: it treats entries one by one"),
        (nn.RMSNorm(8), lambda self, x: x[..., torch.arange(8).flip(0)], "picked by number"),
    ],
)
def test_what_a_norm_gives_goes_to_its_readers_as_it_is(norm, then, why):
    model = Stream()
    model.norm = Then(norm, then)
    assert why in turning(model)


def test_what_a_norm_without_a_shift_gives_may_be_scaled_and_pooled():
    for norm, then in ((nn.RMSNorm(8), lambda self, x: (x * 0.5).sum(1)), (nn.LayerNorm(8), lambda self, x: x.mean(1))):
        model = Stream()
        model.norm = Then(norm, then)
        assert isinstance(turning(model), Turning)


def test_what_the_model_returns_is_not_turned():
    class Shown(Stream):
        def forward(self, ids):
            return (x := self.table(ids)), self.head(self.norm(x))

    assert turning(Shown()) == "the model returns it"


def test_a_table_that_is_read_as_a_matrix_as_well_is_tied():
    class Tied(Stream):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(8, 5, bias=False)
            self.last.weight = self.table.weight

        def forward(self, ids):
            return self.last(self.norm(self.table(ids)))

    assert turning(Tied()).tied == ("table.weight",)


def test_channels_behind_an_activation_are_not_turned():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    axis = pomona.trace(net, torch.randn(1, 3, 8, 8)).axes["0.weight:0"]
    assert axis.turning == "op relu at 1: it treats entries one by one"
