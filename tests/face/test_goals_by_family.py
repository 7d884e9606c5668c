"""Goals by family and pattern: each family keeps its own share, the rest bears the price."""

import pytest
import torch

import pomona
import zoo
from pomona.vocabulary import InputError, Limits


def pruned(name, **wish):
    model, args = getattr(zoo, name)()
    return pomona.prune(model, args, latency=False, **{"method": "magnitude-uniform", **wish})


def left(result):
    """Family -> the counts that stay."""
    found = {}
    for site in result.report.sites:
        found.setdefault(site.family, []).append((site.after, site.before))
    return found


@pytest.mark.parametrize("method", ["magnitude-uniform", "magnitude", "depgraph"])
def test_each_family_keeps_its_own_share_and_nothing_else_is_touched(method):
    result = pruned("vit", method=method, goal="heads=0.5,neurons=0.75")
    found = left(result)
    assert found.keys() == {"head", "neuron"}
    assert sum(after for after, _ in found["head"]) == 4 and sum(after for after, _ in found["neuron"]) == 36
    assert result.report.goal == "heads=0.5,neurons=0.75" and result.report.proof.passed


def test_uniform_shares_are_the_same_at_every_site():
    assert left(pruned("vit", goal="neurons=0.7"))["neuron"] == [(16, 24), (16, 24)]


def test_what_has_no_share_meets_the_price():
    result = pruned("vit", structure="heads+neurons", goal="heads=0.5,macs=0.6x")
    found = left(result)
    assert found["head"] == [(2, 4), (2, 4)]
    assert result.report.macs.after <= 0.6 * result.report.macs.before
    assert all(after < before for after, before in found["neuron"])
    assert left(pruned("vit", structure="heads+neurons", goal="heads=0.5,macs=0.95x"))["neuron"] == [(24, 24)] * 2


def test_a_price_beside_shares_may_take_from_every_other_axis():
    assert {"width", "neuron", "head-dim"} <= left(pruned("vit", goal="heads=0.5,params=0.3x")).keys()


def test_patterns_name_single_sites_and_the_first_that_names_a_site_holds():
    result = pruned("vit", structure="neurons", goal="blocks.0.*=0.25,neurons=0.5")
    assert left(result)["neuron"] == [(6, 24), (12, 24)]


def test_patterns_of_goals_and_limits_mean_the_site_and_not_what_it_reaches():
    result = pruned("vgg", structure="channels", goal="features.3*=0.5")
    assert [(s.name, s.after / s.before) for s in result.report.sites] == [
        ("features.0.weight:0", 1),
        ("features.3.weight:0", 0.5),
    ]


def test_a_share_of_one_keeps_a_family_whole():
    result = pruned("vit", structure="heads+neurons", goal="heads=1,macs=0.85x")
    assert left(result)["head"] == [(4, 4), (4, 4)] and result.report.macs.after <= 0.85 * result.report.macs.before


def test_weights_have_shares_by_pattern_too():
    result = pruned("mlp", method="magnitude", goal="2.*=0.25")
    alive = {name: float((p != 0).float().mean()) for name, p in result.model.named_parameters() if p.dim() == 2}
    assert alive == {"0.weight": 1.0, "2.weight": 0.25, "4.weight": 1.0}


def test_depth_is_a_family():
    result = pruned("bert", goal="layers=0.5,neurons=0.5", method="magnitude-uniform")
    found = left(result)
    assert found["branch"][0][0] * 2 == found["branch"][0][1] and result.report.proof.passed


def test_rounds_approach_shares_and_end_at_them():
    result = pruned("vit", method="magnitude-uniform", goal="neurons=0.5")
    many = pruned(
        "vit", goal="neurons=0.5", method="structure=Axes(); criterion=Magnitude(); allocation=Uniform(); schedule=Rounds(3)"
    )
    assert left(many) == left(result) and len(many.report.rounds) == 3
    assert many.report.rounds[0].params > many.report.rounds[1].params > many.report.rounds[2].params


def test_a_share_below_the_least_keeps_the_least_and_the_report_says_so():
    result = pruned("vit", goal="heads=0.1,neurons=0.5")
    assert left(result)["head"] == [(1, 4), (1, 4)]
    assert [site.name for site in result.report.sites if site.held] == [s.name for s in result.report.sites if s.family == "head"]
    held = pruned("vit", goal="neurons=0.1", limits=Limits(minimum={"neurons": 0.3}, multiple=8))
    assert left(held)["neuron"] == [(8, 24), (8, 24)] and all(site.held for site in held.report.sites)


@pytest.mark.parametrize(
    ("goal", "sentence"),
    [
        ("kv-groups=0.5", "no kv-groups to prune; it has head-dims, heads, neurons, width"),
        ("kv-groups=0.5,heads=0.5", "kv-groups=0.5 names nothing here that can be pruned; there are heads"),
        ("heads=0.5,bloks.*=0.5", "names nothing here"),
        ("heads=0.5,*=0.7,neurons=0.5", "named before"),
        ("haeds=0.5", "did you mean heads"),
        ("heads=0.5,heads=0.7", "twice"),
        ("macs=0.5x,params=0.5x", "one price"),
        ("heads=0.5,units=0.5", "twice"),
    ],
)
def test_bad_goals_are_refused_in_one_sentence(goal, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        pruned("vit", goal=goal)
    assert "\n" not in str(refusal.value)


def test_a_training_run_ends_at_its_shares():
    model, args = zoo.vgg()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pomona.sparsify(model, optimizer, method="greg1", goal="channels=0.5", steps=8, args=args) as s:
        for _ in range(8):
            optimizer.step()
            s.step()
        plan = s.plan()
    assert {int(plan.keep(name).sum()) * 2 for name in plan.sites} == {site.units for site in plan.sites.values()}
