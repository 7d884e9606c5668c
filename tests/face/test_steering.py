"""Where pruning may act: names, patterns, families, classes; and only where it is exact."""

import copy

import pytest
import torch
from torch import nn

import pomona
import zoo
from pomona.vocabulary import InputError, Limits


def pruned(name, **wish):
    model, args = getattr(zoo, name)()
    return pomona.prune(
        model, args, latency=False, **{"method": "magnitude-uniform", "structure": "axes", "goal": "units=0.5", **wish}
    )


def names(result):
    return {site.name for site in result.report.sites}


@pytest.mark.parametrize("name", ["vit", "bert", "convnext", "llama", "gpt2"])
def test_exact_pruning_is_zeroing_and_nothing_else(name):
    model, args = getattr(zoo, name)()
    model = model.double()  # in float32 a scale that is multiplied into weights would be rounded
    args = args if isinstance(args, dict) else tuple(a.double() if a.is_floating_point() else a for a in args)
    wish = {"method": "magnitude-uniform", "structure": "axes", "goal": "units=0.5", "exact": True, "latency": False}
    result = pomona.prune(model, args, **wish)
    assert result.report.sites and not any(site.normalisers for site in result.report.sites)
    assert not result.report.proof.approximate_groups
    plain = copy.deepcopy(model)
    for site in result.plan.sites.values():
        dead = ~result.plan.keep(site.name)
        for member in site.members:
            if not member.buffer and bool(dead.any()):
                where = dead.nonzero().flatten() if member.index is None else member.index[dead].flatten()
                plain.get_parameter(member.tensor).data.index_fill_(member.dim, where, 0)
    with torch.no_grad():
        small, zeroed = ((m(**args) if isinstance(args, dict) else m(*args)) for m in (result.model, plain))
    small, zeroed = (out if isinstance(out, torch.Tensor) else out[0] for out in (small, zeroed))
    assert float((small - zeroed).abs().max() / zeroed.abs().max()) < 1e-9


def test_without_it_the_stream_goes_too_and_the_report_names_what_runs_over_it():
    sites = {site.name: site.normalisers for site in pruned("vit").report.sites}
    assert sites["patch.weight:0"] and sites["patch.weight:0"][0] == "layer_norm at blocks.0.norm1"


def test_where_nothing_is_exact_one_sentence_names_the_normalisers():
    with pytest.raises(InputError, match=r"Over all of the width runs a normaliser \(layer_norm at blocks.0.norm1, .* more\)"):
        pruned("vit", structure="width", exact=True)
    with pytest.raises(InputError, match="Over all of the width"):
        pruned("vit", goal="width=0.5", structure=None, exact=True)


def test_weights_and_blocks_are_exact_anyway():
    assert pruned("mlp", structure="weights", goal="sparsity=0.5", exact=True).report.proof.passed
    assert pruned("bert", structure="layers", goal="layers=0.5", exact=True).report.proof.passed


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ({"keep": ("width",)}, {"head", "head-dim", "neuron"}),
        ({"keep": ("width", "*/head*")}, {"neuron"}),
        ({"keep": ("Conv2d", "heads")}, {"head-dim", "neuron"}),
        ({"only": ("neurons", "heads")}, {"head", "neuron"}),
    ],
)
def test_families_patterns_and_classes_say_what_stays(bounds, kept):
    result = pruned("vit", **bounds)
    assert {site.family for site in result.report.sites} == kept


def test_what_is_kept_comes_back_untouched():
    result = pruned("vit", keep=("blocks.0.*", "width"))
    before = zoo.vit()[0].state_dict()
    assert names(result) and not any("blocks.0" in name for name in names(result))
    assert all(torch.equal(value, before[key]) for key, value in result.model.state_dict().items() if "blocks.0" in key)


@pytest.mark.parametrize("place", ["blocks.0", "blocks.0.*", "blocks.0.fc1", "blocks.0.fc?.weight"])
def test_a_module_means_everything_in_it(place):
    assert names(pruned("vit", structure="neurons", keep=(place,))) == {"blocks.1.fc1.weight:0"}


def test_where_a_word_is_also_a_module_keeping_it_keeps_both():
    with pytest.raises(InputError, match="Nothing is left"):
        pruned("vit", keep=("blocks", "width"))
    assert {site.family for site in pruned("vit", structure="axes", only=("blocks",)).report.sites} > {"head", "neuron"}


def test_blocks_that_are_kept_stay_and_the_others_share_the_cut():
    result = pruned("resnet", structure="layers", goal="layers=0.5", keep=("layer2.1",))
    dead = {block for site in result.plan.sites.values() for block in site.blocks}
    assert dead and "layer2.1" not in dead
    assert isinstance(result.model.get_submodule("layer2"), nn.Module)


def test_bounds_reach_every_part_of_a_union():
    result = pruned("bert", structure="neurons+layers", goal="neurons=0.5", only=("*.1", "*.1.*", "*.1.*.*"))
    assert names(result) and not any(".0." in name or name.endswith(".0") for name in names(result))


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ({"keep": ("blokcs.0.qkv",)}, "did you mean 'blocks.0.qkv'"),
        ({"only": ("kv-groups",)}, "names nothing in the model; it has head-dims, heads, neurons"),
        ({"only": ("heads",), "keep": ("heads",)}, "Nothing is left to prune"),
        ({"keep": ("Conv3d",)}, "did you mean 'Conv2d'"),
        ({"only": ("head",), "structure": "neurons"}, r"head.weight:0 is frozen \(output\)"),
        ({"goal": "neurons=0.9", "structure": None, "limits": Limits(minimum={"*": 1.0})}, "removes nothing .* what must stay"),
        ({"goal": "macs=0.9999x", "limits": Limits(minimum={"*": 1.0})}, "Nothing may be removed here"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_the_nearest(bounds, sentence):
    with pytest.raises(InputError, match=sentence):
        pruned("vit", **bounds)


def body(name):
    """The model without its head: what a backbone is."""
    model, args = getattr(zoo, name)()
    model.head = nn.Identity()
    return model, args


@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_a_model_without_a_head_gets_narrower_outputs_where_the_user_releases_them(name, tmp_path):
    model, args = body(name)
    wish = {"method": "magnitude-uniform", "structure": "axes", "goal": "units=0.5", "latency": False}
    with torch.no_grad():
        width = model(*args).shape[-1]
    held = pomona.prune(model, args, **wish)
    assert held.model(*args).shape[-1] == width and "output" in {row.reason for row in held.report.frozen}
    result = pomona.prune(model, args, release="output", **wish)
    assert result.report.proof.passed and result.model(*args).shape[-1] == width // 2
    assert any("narrower" in note for note in result.report.proof.notes)
    again = pomona.replay(model, result.plan, args, latency=False)
    assert torch.equal(again.model(*args), result.model(*args))


def test_the_released_output_is_the_masked_one_at_the_kept_places():
    model, args = zoo.resnet()
    model = nn.Sequential(*list(model.children())[:-1]).double()
    args = tuple(a.double() for a in args)
    graph = pomona.trace(model, args, release="output")
    assert "output" not in {axis.frozen for axis in graph.axes.values()}
    result = pomona.prune(
        model, args, method="magnitude-uniform", structure="channels", goal="units=0.5", release="output", latency=False
    )
    small, whole = (m(*args).detach() for m in (result.model, result.masked()))
    stays = whole.flatten(2).abs().sum((0, 2)) > 0
    assert int(stays.sum()) == small.shape[1] < whole.shape[1]
    assert float((small - whole[:, stays]).abs().max() / whole.abs().max()) < 1e-9


def test_only_outputs_can_be_released():
    with pytest.raises(InputError, match="only 'output'"):
        pruned("mlp", release="input")
