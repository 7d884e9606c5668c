"""The docs say what is: made pages are up to date, quoted code is quoted, examples run, every public name is there."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import pomona
from pomona.evaluate import TaskScore

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
QUOTES = [
    pytest.param(source, code, id=f"{page.name}-{source}-{number}")
    for page in PAGES
    for number, (source, code) in enumerate(re.findall(r"<!-- from (\S+) -->\n```python\n(.*?)```", page.read_text(), re.DOTALL))
]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in (ROOT / "README.md", ROOT / "docs" / "python.md")
    for number, code in enumerate(re.findall(r"^```python\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE))
]


def maker(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_made_from_the_registry_are_up_to_date():
    stale = [str(path.relative_to(ROOT)) for path, text in maker("make_methods").pages().items() if path.read_text() != text]
    assert not stale, f"run `make docs`: {stale}"


@pytest.mark.slow
def test_the_example_in_the_readme_is_what_the_command_prints_but_for_the_times():
    example = maker("make_example")
    rows = r"^(?:Parameters|Non-zeros|MACs|On disk) .*$"
    shown = re.findall(rows, example.block(), re.MULTILINE)
    assert len(shown) == 4 and shown == re.findall(rows, example.shown("--no-latency"), re.MULTILINE)
    assert f"$ {example.COMMAND}\n" in example.block()


def test_every_method_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in pomona.methods() if f"| {name} |" not in readme]


@pytest.mark.parametrize("name", pomona.__all__)
def test_every_public_name_is_in_the_docs(name):
    text = "".join(path.read_text() for path in PAGES)
    assert re.search(rf"\bpomona\.{name}\b", text)


@pytest.mark.parametrize(("source", "code"), QUOTES)
def test_quoted_code_is_in_the_file_it_is_from(source, code):
    assert code.strip("\n") in (ROOT / source).read_text()


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})


def fields(value, at=""):
    """The paths of a report: `a.b` for mappings, `a[].b` for lists of mappings."""
    if isinstance(value, dict):
        return {f"{at}{key}" for key in value}.union(*(fields(item, f"{at}{key}.") for key, item in value.items()))
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        return fields(value[0], f"{at[:-1]}[].")
    return set()


def test_the_page_about_the_report_names_every_field_and_no_other():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    data = [(torch.randn(6, 3, 5, 5), torch.arange(6) % 3)]
    report = pomona.prune(
        net,
        data[0][0],
        method="l1-filters",
        goal="macs=0.5x",
        data=data,
        test=data,
        tasks=lambda _: [TaskScore("arc_easy", "acc", 0.5, 0.1, True, 25, 0, "1.0")],
        loss=nn.functional.cross_entropy,
        recover="finetune:1epochs",
        latency={"pairs": 3, "seconds": 0.1},
    ).report
    layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
    by_blocks = pomona.prune(Stack(layers), data := torch.randn(8, 4), method="wanda", goal="sparsity=0.5", data=[data]).report
    told = set(re.findall(r"^\| \**`([^`]+)`", (ROOT / "docs" / "report.md").read_text(), re.MULTILINE))
    assert told == fields(dict(report)) | fields({"blocks": by_blocks["blocks"]})


class Stack(nn.Module):
    """A list of layers, which is pruned one after the other."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]
