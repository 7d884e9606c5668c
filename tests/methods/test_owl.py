"""OWL (Yin et al., 2024): outliers counted and mapped to densities by hand."""

import pytest
import torch

import language
import pomona
from budgets import on, wish
from papergraph import linear
from pomona.allocations.owl import Owl, block, shifts
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import InputError, Scores

SITES = {name: on(linear(name, 10, 100)) for name in ("layers.0.a", "layers.0.b", "layers.1.a", "layers.2.a")}


def scores(**outliers):
    made = {}
    for name, site in SITES.items():
        value = torch.ones(site.shape)
        value.view(-1)[: outliers.get(f"of_{name[7]}", 0)] = 100.0
        made[name] = Scores(value)
    return made


def shares(keeps):
    return [round(1 - int(keeps[name].sum()) / SITES[name].units, 3) for name in SITES]


def test_outliers_are_above_so_many_means():
    values = [Scores(torch.tensor([1.0, 1, 1, 1, 16]))]
    assert Owl(outlier=3.0)._outliers(values) == pytest.approx(0.2)
    assert Owl(outlier=5.0)._outliers(values) == 0


def test_shares_of_outliers_become_densities_around_the_mean():
    assert shifts([1, 3, 5], 0.08) == pytest.approx([-0.08, 0, 0.08])
    assert shifts([2, 2, 2], 0.08) == [0, 0, 0]


@pytest.mark.parametrize("per", ["site", "row"])
def test_the_worked_example_meets_its_goal(per):
    budget = wish({name: SITES[name] for name in SITES}, 0.3)
    found = shares(Owl(per=per).allocate(SITES, scores(of_0=1, of_1=3, of_2=5), budget))
    # Shares 0.1 %, 0.3 %, 0.5 %; the first block has twice the weights, so all are shifted until the whole is at 70 %.
    assert found == pytest.approx([0.76, 0.76, 0.68, 0.6], abs=0.011)
    assert sum(found) / 4 == pytest.approx(0.7, abs=1e-3)


def test_blocks_alike_are_cut_alike():
    budget = wish(SITES, 0.5)
    alike = scores(of_0=2, of_1=2, of_2=2)
    assert shares(Owl().allocate(SITES, alike, budget)) == shares(Uniform("row").allocate(SITES, alike, budget))


def test_blocks_are_entries_of_the_repeated_list():
    assert block("model.layers.11.mlp.up_proj.weight") == "model.layers.11."
    assert block("h.3.attn.c_proj.weight") == "h.3."
    assert block("lm_head.weight") == "lm_head.weight"


def test_a_spread_that_is_no_share_is_refused():
    with pytest.raises(InputError, match="spread"):
        Owl(spread=1.5)


@pytest.mark.parametrize("method", ["owl", "equal-slope", "lamp", "erk"])
def test_where_groups_fix_how_many_stay_there_is_nothing_to_share_out(method):
    model, data = language.model("llama")
    with pytest.raises(InputError, match=r"2:4 .*has nothing to share out"):
        pomona.plan(model, data[0], data=data, method=method, structure="2:4")


def test_methods_that_share_nothing_out_cut_groups_as_ever():
    model, data = language.model("llama")
    assert pomona.plan(model, data[0], data=data, method="wanda", structure="2:4").removes
