import json
from pathlib import Path

import pytest

from pomona.report import html, text, to_json, write


def test_both_files_are_written_and_nothing_else(sample, tmp_path):
    page, twin = write(sample, tmp_path / "new" / "out")
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
    assert page.read_text(encoding="utf-8") == html(sample)
    assert json.loads(twin.read_text(encoding="utf-8")) == sample


def test_a_report_that_cannot_be_written_leaves_nothing_behind(sample, tmp_path):
    with pytest.raises(TypeError, match=r"report\.layers\[0\]\.name is a object"):
        write({**sample, "layers": [{"name": object()}]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_report_makes_the_same_bytes(sample):
    assert html(sample) == html(json.loads(to_json(sample)))


def refuse(constant):
    raise AssertionError(constant)


def test_the_twin_is_strict_json_with_null_for_what_is_no_number():
    report = {"a": float("nan"), "b": [float("inf"), (1, float("-inf"))], "c": Path("x") / "y", "d": True, "ü": "→"}
    assert json.loads(to_json(report), parse_constant=refuse) == {
        "a": None,
        "b": [None, [1, None]],
        "c": "x/y",
        "d": True,
        "ü": "→",
    }


def test_not_a_number_reads_as_not_measured(sample):
    broken = {**sample, "latency": {**sample["latency"], "ratio": float("nan")}}
    assert "no-latency" in html(broken)
    assert "Latency not measured" in text(broken)


def test_the_terminal_shows_before_after_and_change(sample):
    shown = text(sample).replace("\u00a0", " ")
    row = next(line for line in shown.splitlines() if line.startswith("MACs"))
    assert row.split("  ")[0] == "MACs" and "29.0 k" in row and "10.0 k" in row and row.endswith("2.9×")
    assert shown.startswith("2.9× fewer MACs")


def test_markup_of_the_terminal_in_a_name_is_only_text(sample):
    assert "[red]acc[/red]" in text({**sample, "quality": {**sample["quality"], "metric": "[red]acc[/red]"}})
