"""Blocks that can go: which they are, how far it may go, and that what is left is the masked model."""

import pytest
import torch
from torch import nn

import pomona
import zoo
from pomona.graph import trace
from pomona.graph.proof import prove
from pomona.graph.surgery import realise
from pomona.models import Source
from pomona.structures.layers import Layers
from pomona.vocabulary import Branch, Decision, InputError, Plan


class Stage(nn.Module):
    """Named blocks that the module runs one after the other, as custom stages do."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        for number, block in enumerate(blocks):
            self.add_module(f"b{number}", block)

    def forward(self, x):
        for block in self.children():
            x = block(x)
        return x


class ByName(nn.Module):
    """A module that calls its blocks by name."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 3), zoo.Residual(8, 8), zoo.Residual(8, 8)

    def forward(self, x):
        return self.two(self.one(self.stem(x)))


class Post(nn.Module):
    """A block in which a child takes the sum, as in BERT: children in a row, but not a chain."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

        def forward(self, h, x):
            return self.norm(self.fc(h) + x)

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Sequential(nn.Linear(8, 8), nn.GELU()), Post.Sum()

    def forward(self, x):
        return self.last(self.first(x), x)


def without(graph, *gone):
    sites = Layers().sites(graph)
    keeps = {s.name: torch.tensor([block not in gone for block in s.blocks]) for s in sites}
    return Plan({s.name: s for s in sites}, {name: Decision(keep) for name, keep in keeps.items()}, {})


def proven(model, args, *gone):
    graph = trace(model, args)
    plan = without(graph, *gone)
    small = realise(model, graph, plan)
    return small, prove(model, graph, plan, small.model, args)


def test_a_stage_may_lose_all_that_can_go():
    model, args = zoo.resnet()
    small, proof = proven(model, args, "layer1.0", "layer1.1", "layer2.1", "layer2.2")
    assert proof.passed and small.form == "eager"
    assert len(small.model.layer1) == 0 and len(small.model.layer2) == 1
    assert {m.stride for m in small.model.layer2.modules() if isinstance(m, nn.Conv2d)} == {(2, 2), (1, 1)}


def test_a_list_may_lose_all_where_another_stays():
    model, args = nn.Sequential(zoo.Residual(3, 8), zoo.Residual(8, 8)).eval(), (zoo.image(),)
    small, proof = proven(model, args, "1")
    assert proof.passed and small.form == "eager" and len(small.model) == 1


@pytest.mark.parametrize(
    ("model", "branch", "gone"),
    [
        (Stage(zoo.Residual(3, 8), zoo.Residual(8, 8), zoo.Residual(8, 8)), Branch("", ("b1", "b2"), rest=True), ("b1", "b2")),
        (ByName(), Branch("", ("one", "two"), rest=True), ("one",)),
        (nn.Sequential(Stage(zoo.Residual(3, 3), zoo.Residual(3, 3))), Branch("0", ("0.b0", "0.b1")), ("0.b1",)),
    ],
)
def test_modules_that_only_run_their_children_are_containers(model, branch, gone):
    args = (zoo.image(),)
    assert trace(model.eval(), args).branches == (branch,)
    small, proof = proven(model, args, *gone)
    assert proof.passed and small.form == "eager"
    assert not [name for name, _ in small.model.named_parameters() if name.startswith(tuple(f"{block}." for block in gone))]


def test_a_block_whose_child_takes_the_sum_is_one_block():
    graph = trace(nn.Sequential(Post(), Post()).eval(), torch.randn(2, 8))
    assert graph.branches == (Branch("", ("0", "1")),)


def test_blocks_of_unequal_shape_are_runs_of_their_own():
    blocks = (zoo.Residual(3, 8), zoo.Residual(8, 8), zoo.Residual(8, 8), zoo.Residual(8, 16), zoo.Residual(16, 16))
    graph = trace(nn.Sequential(*blocks).eval(), zoo.image())
    assert [branch.blocks for branch in graph.branches] == [("1", "2"), ("4",)]


def test_one_block_of_the_model_stays():
    model, args = zoo.vit()
    (site,) = Layers().sites(trace(model, args))
    assert site.least == 1
    with pytest.raises(InputError, match="the least that may stay"):
        pomona.prune(model, args, method="random", structure="layers", goal="params=0.05x", latency=False)
    everywhere = {site.name: site.least for site in Layers().sites(trace(*zoo.resnet()))}
    assert everywhere == {"layer1": 0, "layer2": 0}  # the first block of layer2 stays anyway


def test_a_model_of_one_block_has_nothing_to_leave_out():
    with pytest.raises(InputError, match="no run of blocks"):
        Layers().sites(trace(nn.Sequential(zoo.Residual(3, 3)).eval(), zoo.image()))


def test_a_goal_that_empties_a_stage_is_met_saved_and_loaded(tmp_path):
    model, args = zoo.resnet()
    result = pomona.prune(
        model,
        args,
        method="random",
        structure="layers",
        goal="params=0.4x",
        latency=False,
        source=Source("function", "zoo:resnet"),
    )
    assert result.report["params"]["after"] <= 0.4 * result.report["params"]["before"] and result.report.proof.passed
    result.save(tmp_path / "out")
    again = pomona.load(tmp_path / "out")
    assert torch.equal(again(*args), result.model(*args))


def test_two_blocks_in_a_row_leave_a_program_too():
    """T5 asks for its sublayers by their place, so the program is cut; the way round the second leads past the first."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_heads": 2, "num_layers": 1, "num_decoder_layers": 2}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).eval()
    ids = torch.randint(1, 40, (2, 6))
    inputs = {"input_ids": ids, "decoder_input_ids": ids[:, :4], "use_cache": False}
    graph = trace(model, (), inputs)
    (site,) = (site for site in Layers().sites(graph) if site.name == "decoder.block.1.layer")
    plan = Plan({site.name: site}, {site.name: Decision(torch.tensor([True, False, False]))})
    small = realise(model, graph, plan)
    assert small.form == "graph"
    assert prove(model, graph, plan, small.model, (), inputs).passed


def test_numbers_that_only_look_like_a_length_stay():
    model, args = zoo.resnet()
    model.two = 2  # not the number of blocks of layer1: no block goes there
    model.layer2[1].one = 1
    small, _ = proven(model, args, "layer2.1")
    assert (small.model.two, len(small.model.layer2)) == (2, 2)
