"""Models that cannot be traced: single weights go all the same, everything else is refused in a sentence that says where."""

import pytest
import torch
from torch import nn

import pomona
from pomona.graph import survey, trace
from pomona.vocabulary import InputError


class Branching(nn.Module):
    """Goes one of two ways, by the values of its input."""

    def __init__(self):
        super().__init__()
        self.first, self.extra, self.last = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.first(x)
        if x.sum() > 0:
            x = self.extra(x)
        return self.last(x.relu())


class Counting(nn.Module):
    """As many steps as the input says."""

    def __init__(self):
        super().__init__()
        self.first, self.cell, self.last = nn.Linear(8, 12), nn.GRUCell(12, 12), nn.Linear(12, 4)

    def forward(self, x):
        x = h = self.first(x)
        for _ in range(int(x.abs().max().item()) + 1):
            h = self.cell(x, h)
        return self.last(h)


class Picking(nn.Module):
    """Looks only at the rows that are positive somewhere; the output has as many rows as there are."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, x):
        found = (x[:, 0, 0] > 0).nonzero().flatten()
        if len(found) == 0:
            found = torch.arange(len(x))
        return self.last(self.norm(self.conv(x[found])).mean(-1))


class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.out = Branching(), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.block(x))


def given(make, *shape):
    torch.manual_seed(0)
    return make(), torch.randn(shape)


MODELS = {"a branch": (Branching, 4, 8), "item": (Counting, 4, 8), "nonzero": (Picking, 4, 4, 6), "in a block": (Around, 4, 8)}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("wish", [{"goal": "sparsity=0.5"}, {"structure": "2:4"}, {"goal": "params=0.6x"}], ids=str)
def test_single_weights_go_without_a_graph(name, wish):
    model, x = given(*MODELS[name])
    result = pomona.prune(model, x, latency=False, **wish)
    assert result.form == "masked" and result.report.proof.passed
    assert result.report.macs == {"before": None, "after": None}
    assert result.report.nonzeros["after"] < 0.75 * result.report.nonzeros["before"]
    assert any("cannot be traced" in note and "line" in note for note in result.report.notes)
    for weight in result.plan.sites:
        assert torch.equal(result.model.get_parameter(weight) != 0, result.plan.keep(weight))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("structure", ["channels", "neurons", "axes", "layers"])
def test_what_needs_a_graph_is_refused_with_the_line_that_is_in_the_way(name, structure):
    model, x = given(*MODELS[name])
    with pytest.raises(InputError, match=r"needs a graph; .* cannot be traced.* line \d+, `.*`.*single weights can be pruned"):
        pomona.prune(model, x, goal="params=0.5x", structure=structure, latency=False)


def test_multiply_accumulates_are_unknown_without_a_graph():
    with pytest.raises(InputError, match="macs cost is unknown"):
        pomona.prune(*given(Branching, 4, 8), goal="macs=0.5x", structure="weights", latency=False)


def test_the_module_and_the_line_are_named():
    model, x = given(Around, 4, 8)
    with pytest.raises(InputError, match=r"at module 'block' \(Branching\), .*test_untraced.py line \d+, `if x.sum\(\) > 0:`"):
        trace(model, x)


def test_calibrated_methods_work_without_a_graph():
    model, x = given(Counting, 4, 8)
    result = pomona.prune(model, x, method="wanda", goal="sparsity=0.1", data=[x], keep=("cell.*",), latency=False)
    assert result.report.proof.passed


def test_a_plan_without_a_graph_is_carried_out_on_a_copy():
    model, x = given(Branching, 4, 8)
    first = pomona.prune(model, x, goal="sparsity=0.5", latency=False)
    again = pomona.replay(model, first.plan, x, latency=False)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))


def test_rounds_train_without_a_graph():
    model, x = given(Branching, 4, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pomona.sparsify(model, optimizer, method="rigl", goal="sparsity=0.5", steps=4, args=x) as s:
        for _ in range(4):
            optimizer.zero_grad()
            model(x).pow(2).mean().backward()
            optimizer.step()
            s.step()
    assert s.density == 0.5


def test_the_modules_say_what_the_trace_says():
    """Where both are known, kinds and dimensions agree."""

    class Every(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn, self.conv = nn.Embedding(9, 6), nn.LSTM(6, 8, batch_first=True), nn.Conv1d(8, 10, 3, padding=1)
            self.up, self.norm, self.last = nn.ConvTranspose1d(10, 6, 2, 2), nn.LayerNorm(6), nn.Linear(6, 9)
            self.last.weight = self.embed.weight

        def forward(self, ids):
            x = self.rnn(self.embed(ids))[0].transpose(1, 2)
            return self.last(self.norm(self.up(self.conv(x)).transpose(1, 2)))

    from pomona.graph.untraced import untraced

    model, ids = Every(), torch.randint(9, (2, 4))
    traced, listed = trace(model, ids).weights, untraced(model, "").weights
    assert traced.keys() == listed.keys()
    for name, weight in traced.items():
        mine = listed[name]
        assert (mine.kind, mine.shape, mine.conv) == (weight.kind, weight.shape, weight.conv), name
        if weight.prunable:
            assert (mine.out_dim, mine.in_dim) == (weight.out_dim, weight.in_dim), name


def test_a_model_that_traces_is_traced():
    model, x = nn.Sequential(nn.Linear(8, 4)), torch.randn(2, 8)
    assert survey(model, x).missing is None


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (torch.randn(4, 9), r"at module '0' \(Linear\): RuntimeError: .*shapes"),
        ((torch.randn(4, 8), torch.randn(4, 8)), "positional argument"),
        (torch.randn(4, 8, device="meta"), "device"),
        (torch.randint(0, 5, (4, 8)), "dtype"),
        (torch.randn(4, 8, dtype=torch.float16), "dtype"),
        ({"pixels": torch.randn(4, 8)}, "pixels"),
    ],
    ids=["shape", "too many", "device", "whole numbers", "precision", "name"],
)
def test_inputs_that_are_not_for_the_model_are_refused(args, sentence):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    with pytest.raises(InputError, match=f"does not take the example inputs.*{sentence}"):
        pomona.prune(model, args, goal="params=0.5x", structure="neurons", latency=False)
