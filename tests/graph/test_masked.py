import pytest
import torch
from torch import nn

import zoo
from plans import axes_plan, blocks_plan, both, elements_plan
from pomona.graph import trace
from pomona.graph.masked import dead_units, masked, skipping, solved
from pomona.graph.surgery import realise
from pomona.vocabulary import Decision, InputError, Member, Plan, Site


@pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)
def test_the_plain_masked_model_equals_the_small_one_on_exact_groups(make):
    model, args = make()
    graph = trace(model, args)
    plan = axes_plan(graph, [name for name, axis in graph.axes.items() if axis.frozen is None and axis.exact])
    small, whole = realise(model, graph, plan).model.double(), masked(model, plan).double()
    positional, keywords = graph.program.example_inputs
    with torch.no_grad():
        a, b = (m(*(x.double() if x.is_floating_point() else x for x in positional), **keywords) for m in (small, whole))
    a, b = ((x if isinstance(x, torch.Tensor) else x.logits) for x in (a, b))
    # Parts of a language model run in float32 whatever the model's precision.
    assert (a - b).abs().max() <= (1e-12 if isinstance(args, tuple) and make is not zoo.vit else 1e-5) * b.abs().max()


@pytest.mark.parametrize("make", zoo.EVERY, ids=lambda make: make.__name__)
def test_removed_units_are_zero_in_parameters_and_whole_in_buffers(make):
    model, args = make()
    plan = axes_plan(trace(model, args))
    whole = masked(model, plan)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, whole.get_buffer(name))
    zeros = {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in model.named_parameters(remove_duplicate=False)}
    for name, site in plan.sites.items():
        dead = (~plan.keep(name)).nonzero().flatten()
        for m in site.members:
            if not m.buffer:
                there = zeros[m.tensor].movedim(m.dim or 0, 0)
                there[dead if m.index is None else m.index[dead].flatten()] = True
    for name, dead in zeros.items():
        if dead.any():
            assert torch.equal(whole.get_parameter(name), model.get_parameter(name).masked_fill(dead, 0))


def test_solved_tensors_are_written_before_the_zeros():
    model = nn.Sequential(nn.Linear(2, 3))
    site = Site("0.weight", "element", (3, 2), (Member("0.weight", "self"),))
    keep = torch.tensor([[True, False], [True, True], [False, True]])
    plan = Plan({"w": site}, {"w": Decision(keep, {"0.weight": torch.full((3, 2), 5.0)})})
    assert torch.equal(masked(model, plan)[0].weight, 5.0 * keep)


def test_what_axes_are_cut_from_shares_all_that_no_solver_and_no_element_changes():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 2))
    before = [p.clone() for p in model.parameters()]
    sites = {
        "axis": Site("axis", "axis", (3,), (Member("0.weight", "out", 0), Member("1.weight", "in", 1))),
        "w": Site("w", "element", (2, 2), (Member("2.weight", "self"),)),
    }
    mask = torch.tensor([[True, False], [True, True]])
    decisions = {"axis": Decision(torch.tensor([True, True, False]), {"1.weight": torch.full((2, 3), 5.0)}), "w": Decision(mask)}
    whole = solved(model, Plan(sites, decisions))
    assert whole[0] is not model[0]
    assert whole[0].weight is model[0].weight
    assert torch.equal(whole[1].weight, torch.full((2, 3), 5.0))
    assert torch.equal(whole[2].weight, model[2].weight * mask)
    assert all(map(torch.equal, model.parameters(), before))


def test_a_member_says_where_its_units_lie():
    member = Member("w", "in", 1, torch.tensor([[0, 3], [1, 4], [2, 5]]))
    dim, dead = dead_units(member, torch.tensor([True, False, True]), torch.zeros(2, 6))
    assert dim == 1 and dead.tolist() == [1, 4]


def test_tied_parameters_stay_tied():
    model, args = zoo.llama()
    whole = masked(model, axes_plan(trace(model, args)))
    assert whole.lm_head.weight is whole.model.embed_tokens.weight


class Pair(nn.Module):
    """A block that answers with a tuple."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, mask, *, hidden=None):
        self.calls += 1
        return (self.fc(mask), "attention weights")


def test_a_skipped_block_answers_in_its_own_form():
    model = nn.ModuleDict({"blocks": nn.ModuleList([Pair(), nn.Linear(4, 4)])})
    whole = masked(model, blocks_plan("blocks", [0, 1], [0, 1]))
    x = torch.randn(2, 4)
    answer = whole["blocks"][0](x)
    assert answer[0] is x and answer[1] == "attention weights"
    assert whole["blocks"][1](x) is x
    assert sum(p.numel() for p in whole.parameters()) == 0
    assert model["blocks"][0].calls == 0


def test_blocks_are_back_after_skipping():
    model, args = zoo.resnet()
    plan = blocks_plan("layer2", [1], [1, 2])
    block, before = model.layer2[1], model(*args)
    with skipping(model, plan):
        skipped = model(*args)
    torch.testing.assert_close(skipped, masked(model, plan)(*args))
    assert model.layer2[1] is block and torch.equal(model(*args), before) and not torch.equal(before, skipped)


def test_plans_of_other_models_are_refused():
    model, _ = zoo.mlp()
    other, _ = zoo.vgg()
    for plan in (elements_plan(other), blocks_plan("layer2", [1], [1, 2])):
        with pytest.raises(InputError, match="use the model it was made for"):
            masked(model, plan)
    site = Site("0.weight", "element", (4, 4), (Member("0.weight", "self"),))
    with pytest.raises(InputError, match="masks of elements"):
        masked(model, Plan({"0.weight": site}, {"0.weight": Decision(torch.zeros(4, 4, dtype=torch.bool))}))


def test_a_saved_plan_masks_the_same(tmp_path):
    model, args = zoo.resnet()
    plan = both(blocks_plan("layer2", [1], [1, 2]), axes_plan(trace(model, args)))
    plan.save(tmp_path / "plan.safetensors")
    a, b = masked(model, plan), masked(model, Plan.load(tmp_path / "plan.safetensors"))
    assert torch.equal(a(*args), b(*args))
