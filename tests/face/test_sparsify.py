"""Sparse training through the public face, on real traced models: what is promised at every step and of what is left."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import pomona
import zoo
from pomona.allocations.uniform import Uniform
from pomona.recipes.dst import dst
from pomona.recipes.gradual import gradual_magnitude
from pomona.recipes.greg import greg1
from pomona.recipes.rigl import rigl
from pomona.recipes.rigl import set as set_
from pomona.regularisers.growing_l2 import GrowingL2
from pomona.regularisers.threshold_pull import ThresholdPull
from pomona.runtime import export_program
from pomona.schedules.cubic import Cubic
from pomona.schedules.drop_grow import DropGrow
from pomona.structures import structure
from pomona.structures.weights import Weights
from pomona.vocabulary import InputError, Limits

STEPS = 12


def moving(recipe):
    return recipe.but(schedule=DropGrow(recipe.schedule.first, recipe.schedule.grow, every=2))


# The named recipes at a pace that fits a dozen steps.
METHODS = {
    "gradual-magnitude": (gradual_magnitude.but(schedule=Cubic(every=2)), "sparsity=0.75"),
    "rigl": (moving(rigl), "sparsity=0.75"),
    "set": (moving(set_), "sparsity=0.75"),
    "greg1": (greg1.but(regulariser=GrowingL2(delta=0.2, every=2)), "macs=0.6x"),
    "dst": (dst.but(regulariser=ThresholdPull(alpha=0.02)), None),
    "dst to a goal": (dst.but(regulariser=ThresholdPull(alpha=0.02)), "sparsity=0.6"),
}
STEADY = ("rigl", "set")
MODELS = ("vgg", "resnet", "mobilenet", "lstm", "vit", "gpt2", "llama")
PAIRS = [(m, n) for m in METHODS for n in MODELS if m != "greg1" or n in ("vgg", "resnet", "mobilenet")]
each_pair = pytest.mark.parametrize(("method", "name"), PAIRS)


def outputs(model, args):
    out = model(**args) if isinstance(args, dict) else model(*args)
    return out if isinstance(out, torch.Tensor) else out.logits


def objective(model, args):
    scores = outputs(model, args)
    scores = scores.flatten(0, -2)
    return cross_entropy(scores, torch.arange(len(scores)) % scores.shape[-1])


def batch(args, step):
    """The example inputs, pictures slightly moved at every step."""
    moved = torch.Generator().manual_seed(step)
    return tuple(a + 0.1 * torch.randn(a.shape, generator=moved) for a in args) if _pictures(args) else args


def _pictures(args):
    return isinstance(args, tuple) and args[0].is_floating_point()


def start(method, name, make=torch.optim.SGD, goal="the method's own", **more):
    recipe, own = METHODS[method]
    model, args = getattr(zoo, name)()
    model.train()
    settings = {"lr": 0.02, "momentum": 0.9} if make is torch.optim.SGD else {"lr": 1e-3}
    optimizer = make(model.parameters(), weight_decay=1e-2, **settings)
    goal = own if goal == "the method's own" else goal
    return model, args, optimizer, pomona.sparsify(
        model, optimizer, method=recipe, goal=goal, steps=STEPS, args=args, **more
    )  # fmt: skip


def train(model, args, optimizer, s, first=0, last=STEPS, each=None):
    for step in range(first, last):
        torch.manual_seed(step)  # dropout
        optimizer.zero_grad()
        (objective(model, batch(args, step)) + s.loss()).backward()
        optimizer.step()
        s.step()
        if each:
            each(step + 1)


@each_pair
def test_what_is_left_is_the_plain_model_with_zeros_where_the_masks_say(method, name):
    model, args, optimizer, s = start(method, name)
    plain, _ = getattr(zoo, name)()
    parameters, groups = [id(p) for p in model.parameters()], len(optimizer.param_groups)
    with s:
        densities = {0: s.density}
        train(model, args, optimizer, s, each=lambda step: densities.update({step: s.density}))
        inside = outputs(model.eval(), args)
        masks, density = s.masks, s.density
    assert torch.equal(outputs(model, args), inside)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert [id(p) for p in model.parameters()] == parameters
    assert len(optimizer.param_groups) == groups and [id(p) for p in optimizer.param_groups[0]["params"]] == parameters
    for tensor, mask in masks.items():
        parameter = model.get_parameter(tensor)
        assert mask.dtype == torch.bool and mask.shape == parameter.shape and not parameter[~mask].any()
    prunable = [w.tensor for w in s.graph.weights.values() if w.prunable and w.tensor in masks]
    left = sum(int(model.get_parameter(n).count_nonzero()) for n in prunable)
    total = sum(model.get_parameter(n).numel() for n in prunable)
    assert 0 < density < 1 and left <= density * total + 1e-6 and left >= 0.9 * density * total
    assert torch.equal(outputs(copy.deepcopy(model), args), inside)
    check_densities(method, s, densities, len(masks) / total)


def check_densities(method, s, densities, unit):
    """Exact at every step that promises it: within one weight a layer below what the method says."""
    if method in STEADY:
        assert all(0 <= 0.25 - density <= unit for density in densities.values()), densities
    if method == "gradual-magnitude":
        for step in (0, 2, 4, 6, 8, 9, 12):  # the formula of the paper, from 0 to 75 % within nine steps
            wanted = 0.25 + 0.75 * (1 - min(step, 9) / 9) ** 3
            assert -1e-12 <= wanted - densities[step] <= unit, step
    if method == "dst to a goal":
        assert -1e-12 <= 0.4 - densities[STEPS] <= unit
    if method == "greg1":
        kept = {site: int(d.keep.sum()) for site, d in s.plan().decisions.items()}
        assert s.graph.costs(kept).macs <= 0.6 * s.graph.costs().macs and len(set(densities.values())) == 1


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize(("method", "name"), [(m, n) for m, n in PAIRS if n in ("resnet", "lstm", "gpt2")])
def test_a_resumed_run_in_fresh_objects_ends_bit_identical(method, name, make):
    model, args, optimizer, s = start(method, name, make)
    with s:
        train(model, args, optimizer, s)
        masks = s.masks
    file = io.BytesIO()
    half, _, opt, s = start(method, name, make)
    with s:
        train(half, args, opt, s, 0, 7)
        torch.save({"model": half.state_dict(), "optimizer": opt.state_dict(), "masks": s.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other, _, opt, s = start(method, name, make)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)  # nothing of the fresh model may shine through
    with s:
        other.load_state_dict(saved["model"])
        opt.load_state_dict(saved["optimizer"])
        s.load_state_dict(saved["masks"])
        train(other, args, opt, s, 7)
        assert all(torch.equal(mask, masks[n]) for n, mask in s.masks.items())
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("method", STEADY)
def test_a_run_goes_on_from_a_state_given_at_the_start_without_deciding_anew(method):
    model, args, optimizer, s = start(method, "vgg")
    with s:
        train(model, args, optimizer, s)
    half, _, opt, s = start(method, "vgg")
    with s:
        train(half, args, opt, s, 0, 7)
        saved = copy.deepcopy({"model": half.state_dict(), "optimizer": opt.state_dict(), "masks": s.state_dict()})
    other, _ = zoo.vgg()
    other.load_state_dict(saved["model"])
    opt = torch.optim.SGD(other.train().parameters(), lr=0.02, momentum=0.9, weight_decay=1e-2)
    opt.load_state_dict(saved["optimizer"])
    recipe, goal = METHODS[method]
    batches = [(args[0], torch.zeros(2))]  # the first batch of the data serves as example inputs
    with pomona.sparsify(other, opt, method=recipe, goal=goal, steps=STEPS, data=batches, state=saved["masks"]) as s:
        assert all(torch.equal(saved["masks"]["alive"][site], keep) for site, keep in s.state_dict()["alive"].items())
        train(other, args, opt, s, 7)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("method", ["rigl", "dst"])
def test_the_saved_state_is_of_its_own_run_only(method):
    *_, s = start(method, "vgg")
    with s:
        state = s.state_dict()
    foreign = "rigl" if method != "rigl" else "set"
    *_, s = start(foreign, "vgg")
    with s, pytest.raises(InputError, match="of another run"):
        s.load_state_dict(state)


@pytest.mark.parametrize(("method", "name"), [("rigl", "resnet"), ("gradual-magnitude", "lstm"), ("dst", "vit")])
def test_what_is_left_exports(method, name, tmp_path):
    model, args, optimizer, s = start(method, name)
    with s:
        train(model, args, optimizer, s)
    model.eval()
    export_program(model, args, {}, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert torch.allclose(outputs(program, args), outputs(model, args), atol=1e-6)


def test_batch_norm_parameters_of_faded_channels_are_zero_and_of_pruned_weights_are_left_alone():
    model, args, optimizer, s = start("greg1", "resnet")
    with s:
        train(model, args, optimizer, s)
        masks, plan = s.masks, s.plan()
    norms = {n: m for n, m in masks.items() if ".bn" in n or n.startswith("bn")}
    assert norms and all(not model.get_parameter(n)[~m].any() for n, m in norms.items())
    assert any((~m).any() for n, m in norms.items())
    assert {site.kind for site in plan.sites.values()} == {"axis"}
    model, args, optimizer, s = start("rigl", "resnet")
    with s:
        assert not [n for n in s.masks if "bn" in n or n.endswith("bias")]


def test_embeddings_are_pruned_only_when_asked_for():
    model, args, optimizer, s = start("rigl", "bert")
    with s:
        assert not [n for n in s.masks if "embeddings" in n] and s.masks
    recipe = METHODS["rigl"][0].but(structure=Weights(embeddings=True))
    model, args = zoo.bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with pomona.sparsify(model, optimizer, method=recipe, goal="sparsity=0.5", steps=4, args=args) as s:
        train(model, args, optimizer, s, 0, 4)
        name = "bert.embeddings.word_embeddings.weight"
        assert name in s.masks and 0 < s.masks[name].float().mean() < 1
    assert not model.get_parameter(name)[~s.masks[name]].any()


def test_tied_weights_stay_tied_and_share_one_mask():
    model, args, optimizer, s = start("gradual-magnitude", "llama")
    with s:
        train(model, args, optimizer, s)
        masks = s.masks
    assert model.lm_head.weight is model.model.embed_tokens.weight
    shared = [n for n in masks if n in ("lm_head.weight", "model.embed_tokens.weight")]
    assert len(shared) <= 1


def test_limits_only_skip_and_structure_bind():
    limits = Limits(minimum={"conv1.weight": 1.0, "fc.weight": 0.5})
    *_, s = start("gradual-magnitude", "resnet", goal="sparsity=0.8", limits=limits)
    with s:
        train(*_, s)
        share = {n: float(m.float().mean()) for n, m in s.masks.items()}
    assert share["conv1.weight"] == 1 and share["fc.weight"] >= 0.5 and abs(s.density - 0.2) < 1e-3
    *_, s = start("rigl", "resnet", goal="sparsity=0.2", keep=("layer1*",))
    with s:
        assert not [n for n in s.masks if n.startswith("layer1")]
    *_, s = start("gradual-magnitude", "bert", goal=None, structure="2:4")
    with s:
        train(*_, s)
        for name, mask in s.masks.items():
            groups = mask.view(-1, 4).sum(1)
            assert bool((groups == 2).all()), name


def test_the_methods_by_name_run_at_their_own_pace_and_say_so_in_the_plan():
    for method in ("gradual-magnitude", "rigl", "set", "greg1", "dst"):
        model, args = zoo.vgg()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        goal = "macs=0.6x" if method == "greg1" else "sparsity=0.5"
        with pomona.sparsify(model, optimizer, method=method, goal=goal, steps=STEPS, args=args, seed=5) as s:
            train(model, args, optimizer, s)
            plan = s.plan()
        assert plan.provenance["method"] == method and plan.provenance["goal"] == goal and plan.provenance["seed"] == 5
        before, after = plan.provenance["price"].values()
        assert after <= (0.6 if method == "greg1" else 0.5) * before * (1 + 1e-9)


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"method": "magnitude", "goal": "sparsity=0.5"}, "use prune"),
        ({"method": "rigl", "goal": None}, "needs a goal"),
        ({"goal": "sparsity=0.5", "steps": 0}, "at least one step"),
        ({"goal": "sparsity=0.5", "args": None}, "example inputs"),
        ({"method": "rigl", "structure": "2:4", "keep": ("features.0",), "steps": 400}, "dropped and grown"),
        ({"structure": "2:4", "keep": ("features.0",), "goal": "sparsity=0.9"}, "already means"),
        ({"method": "rigl", "structure": "layers", "goal": "sparsity=0.5"}, "layers|blocks"),
        ({"goal": "sparsity=0.5", "only": ("nothing*",)}, "nothing"),
    ],
)
def test_bad_wishes_are_refused_before_anything_is_touched(wish, sentence):
    model, args = zoo.vgg()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match=sentence) as refusal:
        pomona.sparsify(model, optimizer, **{"steps": 10, "args": args, **wish})
    assert "\n" not in str(refusal.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert type(model.features[0]) is nn.Conv2d


def test_the_width_that_a_model_returns_shrinks_where_it_is_released():
    x = torch.randn(4, 8)
    for release, width in ((None, 6), ("output", 3)):
        net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        recipe = greg1.but(structure=structure("axes"), allocation=Uniform(), regulariser=GrowingL2(delta=0.2, every=2))
        with pomona.sparsify(net, optimizer, method=recipe, goal="units=0.5", steps=4, args=x, release=release) as s:
            for _ in range(4):
                optimizer.zero_grad()
                (net(x).square().mean() + s.loss()).backward()
                optimizer.step()
                s.step()
        assert pomona.replay(net, s.plan(), x, latency=False).model[2].out_features == width
    with pytest.raises(InputError, match="without release"):
        pomona.sparsify(net, optimizer, method=recipe, goal="units=0.5", steps=4, args=pomona.trace(net, x), release="output")


def test_an_optimizer_of_another_model_is_refused():
    model, args = zoo.vgg()
    other, _ = zoo.vgg()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with pytest.raises(InputError, match="does not train"):
        pomona.sparsify(model, optimizer, goal="sparsity=0.5", steps=10, args=args)
