"""The page of engines: every model has its table, and the page is written where it should be."""

import benchmarks.engines as page_module
import pytest
import torch
from torch import nn


@pytest.fixture
def tiny(monkeypatch):
    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval(), torch.randn(1, 4)

    monkeypatch.setattr(page_module, "MODELS", {"one": ("One", make, ("pt2",)), "two": ("Two", make, ("pt2", "pomona"))})


def test_the_page_has_a_table_for_each_model(tiny, tmp_path, capsys):
    page_module.main(["--rounds", "5", "--seconds", "0.1", "--out", str(tmp_path / "engines.md")])
    page = (tmp_path / "engines.md").read_text()
    assert page == capsys.readouterr().out[: len(page)]
    assert page.count("## ") == 2 and page.count("Deploy on ") == 2 and "| pomona |" in page.split("## Two")[1]
    assert "Made by `python -m benchmarks.engines --threads 1 --rounds 5 --seconds 0.1`" in page
    tables = [line for line in page.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in tables} == {8}


def test_some_models_alone_make_no_page(tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(page_module, "OUT", tmp_path / "engines.md")
    page_module.main(["--models", "one", "--rounds", "5", "--seconds", "0.1"])
    assert "## One" in capsys.readouterr().out and not (tmp_path / "engines.md").exists()


def test_sparse_models_are_as_sparse_as_they_are_said_to_be():
    model = page_module.zeroed("resnet18", "8x1")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)][1:]
    alive = sum(int(layer.weight.count_nonzero()) for layer in layers) / sum(layer.weight.numel() for layer in layers)
    assert alive == pytest.approx(0.1, abs=0.002) and bool(model.fc.weight.all())
    blocks = layers[3].weight.flatten(1).unflatten(0, (-1, 8)) != 0
    assert bool((blocks.all(1) == blocks.any(1)).all())
