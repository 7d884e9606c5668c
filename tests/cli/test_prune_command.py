import pytest
import torch

from pomona.vocabulary import Limits


def test_every_option_reaches_the_face(face, net, cli, tmp_path):
    ran = cli(
        "prune", net, "--method", "wanda", "--goal", "macs=0.5x", "--structure", "channels", "--data", "nets.py:data",
        "--loss", "nets.py:loss", "--recover", "finetune:3epochs", "--only", "0.*", "--only", "2.*", "--keep", "4.*",
        "--skip", "6.*", "--exact",
        "--min", "0.1", "--max", "0.*=0.5", "--multiple", "8", "--batch", "4", "--threads", "1", "--metric", "f1",
        "--seed", "7", "--checkpoint", tmp_path / "kept", "-o", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    (model, args, kwargs), named = face.calls["prune"]
    assert isinstance(model, torch.nn.Sequential) and args[0].shape == (1, 4) and not kwargs
    wanted = {
        "method": "wanda", "goal": "macs=0.5x", "structure": "channels", "recover": "finetune:3epochs",
        "only": ("0.*", "2.*"), "keep": ("4.*", "6.*"), "exact": True, "limits": Limits({"*": 0.1}, {"0.*": 0.5}, 8),
        "latency": {"batch": 4, "threads": 1}, "metric": "f1", "seed": 7, "checkpoint": tmp_path / "kept",
    }  # fmt: skip
    assert {key: named[key] for key in wanted} == wanted
    assert named["command"].startswith("pomona prune nets.py:net --method wanda")
    assert len(list(named["data"])) == 1 and named["source"].kind == "function"
    assert named["loss"](torch.ones(2), None) == 2
    assert (tmp_path / "out").is_dir()


def test_the_metric_is_what_fits_the_data(face, net, cli):
    assert cli("prune", net, "--data", "nets.py:data").code == 0
    assert face.calls["prune"][1]["metric"] == "accuracy"


def test_no_latency_and_the_default(face, net, cli):
    cli("prune", net, "--no-latency")
    assert face.calls["prune"][1]["latency"] is False
    cli("prune", net)
    assert face.calls["prune"][1]["latency"] is True


def test_the_input_shape_wins_over_the_models_own(face, net, cli):
    cli("prune", net, "--input", "3,4")
    assert face.calls["prune"][0][1][0].shape == (3, 4)


def test_without_a_folder_the_user_is_told_before_the_work(face, net, cli):
    assert "not saved" in cli("prune", net).err


def test_json_names_the_folder_and_the_plan(face, net, cli, tmp_path):
    ran = cli("prune", net, "-o", tmp_path / "out", "--json")
    found = ran.json
    assert found["out"] == str(tmp_path / "out") and found["plan"].startswith(found["out"])
    assert found["notes"] == ["How it opens."] and "How it opens." in ran.err  # which is known when it has been saved
    assert {"params", "nonzeros", "macs", "bytes", "latency", "quality", "proof"} <= set(found)


def test_a_folder_that_exists_is_refused_before_work_starts(face, net, cli, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    ran = cli("prune", net, "-o", tmp_path / "out")
    assert ran.code == 2 and "exists already" in ran.err and not face.calls


def test_a_folder_inside_a_file_is_refused_before_work_starts(face, net, cli, tmp_path):
    (tmp_path / "file").touch()
    ran = cli("prune", net, "-o", tmp_path / "file" / "out")
    assert ran.code == 2 and not face.calls and "Traceback" not in ran.err


@pytest.mark.parametrize("option", [["--min", "much"], ["--max", "0.*=2"], ["--loss", "cross-entropi"], ["--input", "1,x"]])
def test_values_that_cannot_be_read_are_refused_before_work_starts(option, face, net, cli):
    ran = cli("prune", net, *option)
    assert ran.code == 2 and not face.calls


@pytest.mark.parametrize(("name", "expected"), [("mse", 1.0), ("cross-entropy", 0.6931)])
def test_losses_have_names(name, expected, face, net, cli):
    cli("prune", net, "--loss", name)
    loss = face.calls["prune"][1]["loss"]
    target = torch.tensor([0]) if name == "cross-entropy" else torch.ones(1, 2)
    assert loss(torch.zeros(1, 2), target).item() == pytest.approx(expected, abs=1e-4)
