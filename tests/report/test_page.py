import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from pomona.report import html

VOID = {"meta", "br", "hr", "input", "link", "wbr"}
PARTS = {
    "layers": ("layers", "sites"),
    "tradeoff": ("quality",),
    "latency": ("latency",),
    "classes": ("quality",),
    "tasks": ("tasks",),
    "errors": ("blocks", "sites"),
    "proof": ("proof",),
    "frozen": ("frozen",),
    "method": ("recipe",),
    "recovery": ("recovery",),
    "notes": ("notes",),
}


class Reader(HTMLParser):
    """Checks that tags balance; keeps ids, attributes and visible text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.attributes, self.text, self.tags = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script", "head"} & set(self.open):
            self.text.append(data)


def words(page):
    return "".join(Reader(page).text).replace("\u00a0", " ")


def figures(page):
    """Numbers in attributes and text that Python wrote for something that is not one."""
    return re.findall(r"\bnan\b|\binf\b|None", words(page)) + re.findall(r'="(?:nan|inf|None)%?"', page)


def test_the_full_report_balances_and_has_every_section_once_and_in_order(sample):
    reader = Reader(html(sample))
    assert len(reader.ids) == len(set(reader.ids))
    sections = [name for name in reader.ids if name not in {"hatch", "by-0", "by-1"}]
    assert (
        " ".join(sections)
        == "verdict numbers layers tradeoff latency classes tasks errors proof frozen method recovery notes repeat"
    )


@pytest.mark.parametrize("section", sorted(PARTS))
def test_a_section_vanishes_with_its_data(sample, section):
    page = html({**sample, **dict.fromkeys(PARTS[section])})
    assert section not in Reader(page).ids and not figures(page)


@pytest.mark.parametrize("missing", ["latency", "proof"])
def test_what_a_reader_would_miss_is_said_to_be_missing(sample, missing):
    page = html({**sample, missing: None})
    assert f"no-{missing}" in Reader(page).ids
    assert "nothing here says" in words(page)


def test_an_empty_report_is_still_a_page():
    page = html({})
    assert set(Reader(page).ids) & {"layers", "latency"} == set() and not figures(page)
    assert "not measured" in words(page)


def test_every_single_null_leaves_a_wellformed_page_without_python_words(sample):
    for key, value in sample.items():
        for inner in value if isinstance(value, dict) else ():
            page = html({**sample, key: {**value, inner: None}})
            Reader(page)
            assert not figures(page), (key, inner)


def test_nulls_inside_lists_leave_a_wellformed_page(sample):
    for key in ("layers", "sites", "frozen", "rounds", "blocks", "tasks"):
        for inner in sample[key][0]:
            page = html({**sample, key: [{**row, inner: None} for row in sample[key]]})
            Reader(page)
            assert not figures(page), (key, inner)


def test_nothing_is_loaded_from_anywhere(sample):
    page = html({**sample, "notes": ["see https://example.org/paper"]})
    reader = Reader(page)
    assert not [name for name, _ in reader.attributes if name in {"src", "href", "xlink:href", "srcset", "data"}]
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(reader.tags)
    assert "@import" not in page and not re.findall(r"url\((?!#)", page)
    policy = dict(pairwise(reader.attributes))[("http-equiv", "Content-Security-Policy")]
    assert policy[1].startswith("default-src 'none'")


HOSTILE = """<script>alert("x")</script>'&"><b onload=alert(1)>"""


def test_hostile_names_are_text_and_nothing_else(sample):
    def poison(value):
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return HOSTILE if isinstance(value, str) else value

    reader = Reader(html(poison(sample)))
    assert reader.tags.count("script") == 1
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert "<script>alert" in "".join(reader.text)


def test_a_page_without_scripts_shows_exactly_one_of_the_two_views(sample):
    page = html(sample)
    assert page.count("checked=") == 1
    assert ".by-0:checked ~ .view-1" in page


@pytest.mark.parametrize("depth", [1, 5, 33, 300])
def test_any_depth_is_drawn_with_all_layers(sample, depth):
    layers = [{**sample["layers"][0], "name": f"block.{n}.fc"} for n in range(depth)]
    page = html({**sample, "layers": layers, "sites": []})
    text = words(page)
    assert all(f"block.{n}.fc" in text for n in (0, depth - 1))
    assert ("skyline" in page.split("<body>")[1]) == (depth > 32)
    assert ("block.*.fc" in text) == (depth > 32)


@pytest.mark.parametrize(("number", "folded"), [(2, False), (16, False), (17, True), (1000, True)])
def test_any_number_of_classes_is_listed_the_worst_first(sample, number, folded):
    rows = [
        {"label": f"class{n}", "support": 10, "before": 0.5, "after": n / (2 * number), "recovered": None} for n in range(number)
    ]
    page = html({**sample, "quality": {**sample["quality"], "per_class": rows[::-1]}})
    text = words(page).split("Class by class")[1]
    assert text.index("class0") < text.index("class1")
    assert f"class{number - 1}" in text
    assert ("classes between" in text) == folded


def test_layers_stand_beside_the_block_that_they_are_in_and_others_below(sample):
    own = ("q_proj", "down_proj")
    sites = [{"name": f"layers.{n}.{name}.weight", "error": 0.01 * (n + 1)} for n in range(2) for name in own]
    page = html({**sample, "sites": [*sites, {"name": "lm_head.weight", "error": 0.5}]})
    text = words(page).split("Layer by layer")[1].split("The proof")[0]
    assert text.index("q_proj") < text.index("down_proj") < text.index("layers.0") < text.index("layers.1")
    assert text.index("layers.1") < text.index("lm_head.weight") < text.index("50 %") and "30 %" in text
    assert "layers.0.q_proj" not in text
    many = [{"name": f"layers.0.experts.{n}.w.weight", "error": 0.001 * n} for n in range(100)]
    listed = words(html({**sample, "sites": many})).split("Layer by layer")[1]
    assert listed.index("layers.0.experts.99.w.weight") < listed.index("layers.0.experts.3.w.weight")


def test_a_task_shows_both_models_and_the_spread(sample):
    text = words(html(sample)).split("The proof")[0]
    assert all(word in text for word in ("arc_easy", "acc", "61", "58", "2 376"))
    program = html({**sample, "tasks": [{**sample["tasks"][0], "after": None}]})
    assert "rewritten program" in words(program)
