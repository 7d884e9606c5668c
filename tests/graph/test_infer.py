import pytest
import torch
from torch import nn

import zoo
from pomona.graph import trace
from pomona.graph.expr import Const, norm, size
from pomona.graph.infer import tied

every_model = pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)


class Middle(nn.Module):
    """Does something to what a linear layer writes, between two layers that have nothing to do with it."""

    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x)


def sandwich(act, after=8):
    layers = nn.Sequential(
        nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), Middle(act), nn.Linear(after, 10), nn.ReLU(), nn.Linear(10, 3)
    )
    return layers.eval(), (torch.randn(2, 6),)


@every_model
def test_every_op_of_the_zoo_has_a_rule(make):
    assert trace(*make()).unknown == ()


@every_model
def test_every_value_has_the_traced_lengths(make):
    graph = trace(*make())
    for node, dims in graph.values.items():
        if isinstance(dims, tuple):
            assert [size(e, {}) for e in dims] == list(node.meta["val"].shape)


@every_model
def test_the_batch_changes_no_axis(make):
    def seen(batch):
        axes = trace(*make(batch)).axes.values()
        return [(a.name, a.size, a.family, a.frozen, [(m.tensor, m.dim, m.role) for m in a.members]) for a in axes]

    assert seen(1) == seen(2)


@every_model
def test_names_are_the_same_every_time(make):
    assert list(trace(*make()).axes) == list(trace(*make()).axes)


@pytest.mark.parametrize(
    ("act", "op"),
    [
        (lambda x: torch.fft.fft(x).real.contiguous(), "fft_fft"),
        (lambda x: torch.linalg.solve(torch.eye(8), x.T).T.contiguous(), "linalg_solve"),
        (lambda x: torch.renorm(x, 2, 0, 1.0), "renorm"),
    ],
)
def test_an_op_without_a_rule_freezes_and_never_breaks(act, op):
    graph = trace(*sandwich(act))
    assert op in [name for name, _ in graph.unknown]
    assert graph.unknown[0][1].startswith("3") and graph.axes["2.weight:0"].frozen == f"op {graph.unknown[0][0]} (3)"
    assert graph.axes["0.weight:0"].frozen is None and graph.axes["4.weight:0"].frozen is None


def test_a_rule_that_does_not_understand_freezes_too():
    graph = trace(*sandwich(lambda x: torch.take(x, torch.arange(16).view(2, 8))))
    assert graph.unknown and graph.axes["2.weight:0"].frozen.startswith("op take")


def test_inputs_and_outputs_are_frozen_and_say_so():
    graph = trace(*zoo.mlp())
    assert graph.axes["0.weight:1"].frozen == "input"
    assert graph.axes["4.weight:0"].frozen == "output"
    assert [m.tensor for m in graph.axes["4.weight:0"].members] == ["4.weight", "4.bias"]


def test_a_view_that_does_not_align_freezes_its_own_block_only():
    graph = trace(*sandwich(lambda x: x.view(2, 2, 4).transpose(1, 2).reshape(2, 8).view(16).view(2, 8)))
    assert graph.unknown == ()
    twisted = nn.Sequential(
        nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 12), Middle(lambda x: x.view(2, 4, 3).transpose(0, 1).reshape(3, 8))
    )
    graph = trace(nn.Sequential(twisted, nn.Linear(8, 3)).eval(), (torch.randn(2, 6),))
    assert graph.axes["0.2.weight:0"].frozen and graph.axes["0.0.weight:0"].frozen is None


def test_tied_parameters_are_one():
    model, args = zoo.llama()
    assert tied(model) == {"lm_head.weight": "model.embed_tokens.weight"}
    graph = trace(model, args)
    assert "lm_head.weight" not in graph.weights and graph.ties["lm_head.weight"] == "model.embed_tokens.weight"
    assert graph.weights["model.embed_tokens.weight"].calls == 2
    assert isinstance(norm(graph.dims["model.embed_tokens.weight"][0]), Const)


def test_a_shared_module_is_one_set_of_axes():
    shared = nn.Linear(8, 8)
    model = nn.Sequential(nn.Linear(6, 8), shared, nn.ReLU(), shared, nn.Linear(8, 3)).eval()
    graph = trace(model, torch.randn(2, 6))
    assert graph.ties == {"3.weight": "1.weight", "3.bias": "1.bias"}
    (axis,) = [a for a in graph.axes.values() if a.frozen is None]
    assert [(m.tensor, m.dim) for m in axis.members] == [
        ("0.weight", 0),
        ("0.bias", 0),
        ("1.weight", 0),
        ("1.weight", 1),
        ("1.bias", 0),
        ("4.weight", 1),
    ]


def test_a_parameter_that_nothing_reads_is_frozen():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    model.spare = nn.Parameter(torch.zeros(5))
    graph = trace(model, torch.randn(2, 6))
    assert graph.axes["spare:0"].frozen == "never read"
    assert graph.costs().params == sum(p.numel() for p in model.parameters())
