"""Laws of every named method, found through the registry, and the table that the registry derives from them."""

from __future__ import annotations

import pytest

from pomona import registry

RECIPES = registry.recipes()
NOTHING, DATA, LABELS, ALL = (
    frozenset(),
    frozenset({"data"}),
    frozenset({"data", "labels"}),
    frozenset({"data", "labels", "gradients"}),
)


@pytest.fixture(params=sorted(RECIPES))
def recipe(request):
    return RECIPES[request.param]


def test_to_text_and_back_is_the_same_recipe(recipe):
    assert registry.parse(str(recipe)) == recipe


def test_every_part_is_found_by_its_name_and_fits_its_slot(recipe):
    families = {"criterion": "criteria", "recovery": "recovery"}
    for slot, part in recipe.parts.items():
        assert registry.parts(families.get(slot, f"{slot}s"))[type(part).__name__] is type(part)


def test_every_method_says_what_it_does_in_one_sentence(recipe):
    assert recipe.summary.endswith(".")
    assert len(recipe.summary) > 20


def test_every_method_names_its_paper_unless_it_is_the_baseline(recipe):
    assert recipe.papers or recipe is RECIPES["random"]


@pytest.mark.parametrize(
    ("name", "needs", "when"),
    [
        ("magnitude", NOTHING, "post"),
        ("random", NOTHING, "post"),
        ("lamp", NOTHING, "post"),
        ("erk", NOTHING, "post"),
        ("magnitude-iterative", NOTHING, "post"),
        ("l1-filters", NOTHING, "post"),
        ("fpgm", NOTHING, "post"),
        ("bn-scale", NOTHING, "post"),
        ("depgraph", NOTHING, "post"),
        ("performance-aware", NOTHING, "post"),
        ("latency-aware", NOTHING, "post"),
        ("apoz", DATA, "post"),
        ("mean-activation", DATA, "post"),
        ("hrank", DATA, "post"),
        ("chip", DATA, "post"),
        ("hrel", LABELS, "post"),
        ("nisp", DATA, "post"),
        ("wanda", DATA, "post"),
        ("ria", DATA, "post"),
        ("dsnot", DATA, "post"),
        ("owl", DATA, "post"),
        ("equal-slope", DATA, "post"),
        ("sparsegpt", DATA, "post"),
        ("alps", DATA, "post"),
        ("admm-update", DATA, "post"),
        ("obc", DATA, "post"),
        ("obc-levels", DATA, "post"),
        ("wanda-refit", DATA, "post"),
        ("thinet", DATA, "post"),
        ("coreset", NOTHING, "post"),
        ("lrp", DATA | {"labels"}, "post"),
        ("shortgpt", DATA, "post"),
        ("flap", DATA, "post"),
        ("flap-refit", DATA, "post"),
        ("osscar", DATA, "post"),
        ("reap", DATA, "post"),
        ("deeper-layers", DATA, "post"),
        ("taylor", ALL, "post"),
        ("taylor-activation", ALL, "post"),
        ("taylor-iterative", ALL, "post"),
        ("taylor-activation-iterative", ALL, "post"),
        ("fisher", ALL, "post"),
        ("taylor-second", ALL, "post"),
        ("halp", ALL, "post"),
        ("sosp", ALL, "post"),
        ("llm-pruner", ALL, "post"),
        ("llm-pruner-mixed", ALL, "post"),
        ("fast-posttrain", ALL, "post"),
        ("bonsai", LABELS | {"loss"}, "post"),
        ("learning-rate-rewinding", ALL, "post"),
        ("lottery", ALL, "init"),
        ("late-rewinding", ALL, "init"),
        ("gradual-magnitude", ALL, "during"),
        ("rigl", ALL, "during"),
        ("set", ALL, "during"),
        ("greg1", ALL, "during"),
        ("slimming", ALL, "during"),
        ("slimming-passes", ALL, "post"),
        ("depgraph-sparse", ALL, "during"),
        ("dst", ALL, "during"),
    ],
)
def test_what_a_method_needs_and_when_it_acts_follow_from_its_parts(name, needs, when):
    assert RECIPES[name].needs == needs
    assert RECIPES[name].when == when


def test_names_of_parts_are_unique_over_all_families():
    names = [name for family in registry.FAMILIES for name in registry.parts(family)]
    assert len(names) == len(set(names))
