"""A plan that exists already, carried out on a model: the second half of prune, from a training run or a file."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

import pomona
import zoo
from pomona.vocabulary import Decision, InputError, Plan


def faded(name="resnet", goal="macs=0.5x", steps=12):
    """A model that GReg-1 has masked in a training loop, its inputs and its plan."""
    model, args = getattr(zoo, name)(batch=8)
    y = torch.arange(8) % 5
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    with pomona.sparsify(model, optimizer, method="greg1", goal=goal, steps=steps, args=args) as s:
        for _ in range(steps):
            optimizer.zero_grad()
            (cross_entropy(model(*args), y) + s.loss()).backward()
            optimizer.step()
            s.step()
        plan = s.plan()
    return model.eval(), args, plan


@pytest.mark.parametrize("name", ["vgg", "resnet", "mobilenet"])
def test_a_model_that_faded_channels_comes_back_smaller_and_equal(name, tmp_path):
    model, args, plan = faded(name)
    result = pomona.replay(model, plan, args, latency=False)
    assert result.form == "eager" and result.report.proof.passed
    with torch.no_grad():
        wide, small = copy.deepcopy(model).double(), copy.deepcopy(result.model).double()
        assert torch.allclose(small(args[0].double()), wide(args[0].double()), rtol=1e-9, atol=1e-9)
    assert result.report.params.after == sum(p.numel() for p in result.model.parameters()) < result.report.params.before
    assert result.report.macs.after <= 0.5 * result.report.macs.before
    assert result.report.recipe.method == "greg1" and result.report.goal == "macs=0.5x" and result.report.recipe.papers
    result.save(tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(pomona.load(tmp_path / "out")(*args), result.model(*args))


@pytest.mark.parametrize(
    ("name", "wish"),
    [
        ("resnet", {"method": "l1-filters", "goal": "macs=0.5x"}),
        ("llama", {"structure": "kv-groups+neurons", "goal": "params=0.7x"}),
        ("gpt2", {"method": "random", "structure": "layers", "goal": "params=0.9x"}),
        ("bert", {"method": "magnitude-uniform", "structure": "2:4"}),
        ("lstm", {"goal": "sparsity=0.7"}),
    ],
)
def test_a_saved_plan_on_another_copy_gives_the_same_weights_bit_for_bit(name, wish, tmp_path):
    model, args = getattr(zoo, name)()
    first = pomona.prune(model, args, latency=False, **wish)
    first.plan.save(tmp_path / "plan.safetensors")
    copied, _ = getattr(zoo, name)()
    before = copy.deepcopy(copied.state_dict())
    again = pomona.replay(copied, tmp_path / "plan.safetensors", args, latency=False)
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert all(torch.equal(value, before[key]) for key, value in copied.state_dict().items())
    told = ("recipe", "goal", "seed", "params", "nonzeros", "macs", "bytes", "sites", "layers", "proof")
    assert {key: first.report[key] for key in told} == {key: again.report[key] for key in told}


def test_what_is_replayed_can_be_recovered_and_measured():
    model, args, plan = faded()
    data = [(args[0], torch.arange(8) % 5)] * 4
    result = pomona.replay(
        model, plan, args, data=data, loss=cross_entropy, recover="finetune:2epochs", test=data, latency={"pairs": 2}
    )
    assert result.report.proof.passed and len(result.report.recovery.epochs) == 2
    assert result.report.quality.recovered is not None and result.report.latency.ratio > 0
    still = pomona.replay(model, plan, args, latency=False).model
    assert any(not torch.equal(a, b) for a, b in zip(still.parameters(), result.model.parameters(), strict=True))


def test_a_plan_made_by_hand_is_carried_out_and_the_report_says_that_it_knows_no_recipe(tmp_path):
    model, args = zoo.vgg()
    made = pomona.prune(model, args, method="l1-filters", goal="macs=0.5x", latency=False).plan
    result = pomona.replay(model, Plan(made.sites, made.decisions), args, latency=False)
    assert result.report.recipe.method == "custom" and result.report.goal is None and result.report.seed is None
    result.save(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").stat().st_size > 0


def test_plans_of_other_models_and_empty_plans_are_refused_in_one_sentence(tmp_path):
    model, args = zoo.resnet()
    foreign = pomona.prune(*zoo.vgg(), method="l1-filters", goal="macs=0.5x", latency=False).plan
    masks = pomona.prune(*zoo.vgg(), goal="sparsity=0.5", latency=False).plan
    layers = pomona.prune(*zoo.llama(), method="random", structure="layers", goal="params=0.9x", latency=False).plan
    own = pomona.prune(model, args, method="l1-filters", goal="macs=0.5x", latency=False).plan
    nothing = Plan(own.sites, {name: Decision(torch.ones_like(d.keep)) for name, d in own.decisions.items()})
    for plan, words in [
        (foreign, "the model it was made for"),
        (masks, "the model it was made for"),
        (layers, "the model it was made for"),
        (nothing, "removes nothing"),
        (tmp_path / "no.safetensors", "no plan"),
    ]:
        with pytest.raises(InputError, match=words) as refusal:
            pomona.replay(model, plan, args, latency=False)
        assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="needs data and a loss"):
        pomona.replay(model, own, args, recover="finetune:1epochs", latency=False)
