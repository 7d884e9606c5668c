import json

import pytest

import pomona
from pomona.cli import words


def test_inspect_tells_costs_groups_and_frozen_axes(face, net, cli):
    found = cli("inspect", net, "--json").json
    assert (found["params"], found["macs"], found["activation_bytes"], found["peak_bytes"]) == (100, 1000, 4096, 1024)
    assert found["families"] == [{"family": "channel", "goal": "channels", "axes": 1, "macs": 0.5}]
    shares = {"params": 0.75, "macs": 0.5, "macs_two_factors": 0.25, "macs_exact": 0.125, "macs_two_widths": 0.375}
    assert found["prunable"] == shares
    assert [axis["normalisers"] for axis in found["axes"]] == [["softmax at 1"], []]
    assert [axis["frozen"] for axis in found["axes"]] == [None, "it is the model's input"]
    text = cli("inspect", net, "--members").out
    assert "it is the model's input" in text and "2.weight  in dim 1" in text and "2 blocks can be left out" in text
    text = cli("inspect", net).out
    assert "channels" in text and "approximate: softmax at 1" in text and "12.5" in text and "no rule for sort: layers.2" in text


def test_eval_measures_on_the_data(face, net, cli):
    found = cli("eval", net, "--data", "nets.py:data", "--json").json
    assert found["value"] == 0.75 and found["data"] == "nets.py:data"
    assert face.calls["evaluate"][0][2] == "accuracy"
    assert "cat  0.75" in cli("eval", net, "--data", "nets.py:data", "--dense", net).out
    assert face.calls["evaluate"][1]["dense"] is not None


def test_bench_times_both_on_the_same_inputs(face, net, cli):
    ran = cli("bench", net, net, "--threads", "1", "--batch", "2")
    assert "0.5" in ran.out
    _, named = face.calls["measure_latency"]
    assert (named["threads"], named["batch"]) == (1, 2)


def test_bench_passes_on_what_an_honest_measurement_takes(face, net, cli, monkeypatch):
    monkeypatch.setattr("pomona.runtime.engines.engines_here", lambda: ("eager", "compile", "onnxruntime"))
    assert cli("bench", net, net, "--cold", "--clock", "cpu", "--pin", "--engine", "all", "--limit", "--energy").code == 0
    _, named = face.calls["measure_latency"]
    assert named["cold"] and named["pin"] and named["limit"] and named["energy"] and named["clock"] == "cpu"
    assert named["engines"] == ["compile", "onnxruntime"] and named["watts"] == 10.0
    for wrong, says in (("--clock=sun", "clock"), ("--engine=opnvino", "openvino")):
        ran = cli("bench", net, net, wrong)
        assert ran.code == 2 and says in ran.err


def test_report_is_shown_and_made_again(cli, tmp_path, a_report):
    (tmp_path / "report.json").write_text(json.dumps(a_report))
    assert cli("report", tmp_path, "--json").json["macs"] == {"before": 1000, "after": 500}
    assert str(tmp_path / "report.html") in cli("report", tmp_path, "--remake").out.replace("\n", "")
    assert (tmp_path / "report.html").is_file()


def test_report_refuses_folders_without_one(cli, tmp_path):
    ran = cli("report", tmp_path)
    assert ran.code == 2 and "There is no report" in ran.err
    (tmp_path / "report.json").write_text('{"params": ')
    assert "truncated" in cli("report", tmp_path).err


def test_the_demo_takes_the_next_free_name(tmp_path):
    assert words.free(tmp_path / "demo") == tmp_path / "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert words.free(tmp_path / "demo") == tmp_path / "demo-3"


def test_methods_are_a_table_and_cards(cli):
    known = pomona.methods()
    rows = cli("methods", "--json").json["methods"]
    assert [row["method"] for row in rows] == list(known)
    for name in known:
        card = cli("methods", name, "--json").json
        assert card["text"] == str(known[name]) and card["parts"]


def test_the_parts_of_every_method_are_told(cli):
    rows = {row["method"]: row for row in cli("methods", "--json").json["methods"]}
    made = {slot: rows["sparsegpt"][slot] for slot in ("structure", "criterion", "allocation", "schedule", "solver", "recovery")}
    assert made == {
        "structure": "weights",
        "criterion": "Wanda",
        "allocation": "Uniform",
        "schedule": "Once",
        "solver": "SparseGPT",
        "recovery": None,
    }
    assert "pomona methods NAME shows" in cli("methods").out


@pytest.mark.parametrize("name", ["methods"])
def test_the_table_is_readable_in_a_pipe(name, cli):
    lines = cli(name).out.splitlines()
    assert all(len(line) <= 160 for line in lines)
