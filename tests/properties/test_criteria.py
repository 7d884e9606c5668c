"""Laws of every criterion, found through the registry; a criterion without an example here fails."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from handmade import SITES, data, net, view
from pomona import registry
from pomona.collect import collect
from pomona.criteria.activation_taylor import ActivationTaylor
from pomona.criteria.fluctuation import Fluctuation
from pomona.criteria.grouped import Grouped
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.perturbative import Perturbative
from pomona.criteria.random import Random
from pomona.criteria.sosp import Sosp
from pomona.criteria.taylor import Taylor
from pomona.vocabulary import Criterion, Gathered, InputError, Undeclared

# Variants besides the defaults. Every registered criterion is tried as it is made without arguments, on every kind of site.
VARIANTS = [
    Magnitude("l2"),
    Magnitude("linf", roles=("self", "out", "in")),
    Taylor(roles=("out",)),
    Taylor(order=2),
    Fluctuation(standardised=True),
    Sosp(first=False),
    ActivationTaylor(normalise=False),
    Grouped(Taylor(), combine="product", normalise="mean", roles=("out", "in", "scale")),
    Grouped(Random(), combine="first"),
]
BLIND = {Random: "draws by position, sees no unit", Perturbative: "draws by position whom it tries"}
ELSEWHERE = {
    "Principal": "scores directions of residual streams; what it gives is in tests/methods/test_slicegpt.py",
    "GateMargin": "reads the thresholds of a learned gate, which only the training engine has",
    "Reap": "scores experts; what it gives is in tests/methods/test_reap.py",
}


def score(criterion, model, site, seed=0, **changes):
    x, y = data(8)
    stats = collect(model, [site], criterion.needs, [(x[:4], y[:4]), (x[4:], y[4:])], cross_entropy)[site.name]
    return criterion.score(replace(view(model, site, stats, seed), **changes)).value


def fitting():
    """Every criterion with each kind of site that it does not refuse."""
    for criterion in [kind() for name, kind in registry.parts("criteria").items() if name not in ELSEWHERE] + VARIANTS:
        for kind, (site, _) in SITES.items():
            try:
                score(criterion, net(), site())
            except InputError:
                continue
            yield criterion, kind


EXAMPLES = list(fitting())


@pytest.fixture(params=EXAMPLES, ids=lambda e: f"{e[0]}-{e[1]}")
def example(request):
    criterion, kind = request.param
    return criterion, SITES[kind][0]()


@pytest.mark.parametrize("name", sorted(set(registry.parts("criteria")) - set(ELSEWHERE)))
def test_every_criterion_is_for_some_kind_of_site(name):
    assert [kind for criterion, kind in EXAMPLES if type(criterion).__name__ == name]


def test_scores_are_finite_float32_of_the_sites_shape(example):
    criterion, site = example
    value = score(criterion, net(), site)
    assert isinstance(criterion, Criterion)
    assert value.shape == site.shape
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()


def test_the_dead_do_not_make_scores_infinite(example):
    criterion, site = example
    alive = (torch.arange(site.units) % 2 == 0).view(site.shape)
    assert torch.isfinite(score(criterion, net(), site, alive=alive)).all()


def test_the_same_seed_gives_the_same_scores(example):
    criterion, site = example
    assert torch.equal(score(criterion, net(), site, seed=3), score(criterion, net(), site, seed=3))


def test_scoring_changes_neither_the_model_nor_the_view(example):
    criterion, site = example
    model = net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score(criterion, model, site)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_permuting_the_units_permutes_the_scores(example):
    criterion, site = example
    if type(getattr(criterion, "criterion", criterion)) in BLIND:
        return
    if site.kind == "branch":
        order = torch.tensor([2, 0, 1])
        again = score(criterion, net(), replace(site, blocks=tuple(site.blocks[i] for i in order)))
    else:
        order = torch.tensor([3, 1, 4, 0, 2])
        again = score(criterion, permuted(net(), order), site)
    assert_close(again, score(criterion, net(), site)[order])


def permuted(model, order):
    """The same function with the convolution's channels in another order."""
    with torch.no_grad():
        running = (model.norm.running_mean, model.norm.running_var)
        for tensor in (model.conv.weight, model.conv.bias, *model.norm.parameters(), *running):
            tensor.copy_(tensor[order].clone())
        columns = (order.unsqueeze(1) * 16 + torch.arange(16)).flatten()
        model.fc.weight.copy_(model.fc.weight[:, columns].clone())
    return model


def test_an_undeclared_statistic_is_refused(example):
    criterion, site = example
    if criterion.needs:
        with pytest.raises(Undeclared):
            criterion.score(view(net(), site, Gathered()))
