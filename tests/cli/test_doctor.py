"""`pomona doctor`, which must speak where something is missing above all."""

from types import SimpleNamespace

import pytest

from pomona.face import condition as home
from pomona.native import library, using
from pomona.vocabulary import InputError


@pytest.mark.skipif(library().isa is None, reason="no kernels here")
def test_the_kernels_in_use_are_named(cli):
    ran = cli("doctor", "--json")
    found = ran.json
    assert ran.code == 0 and found["isa"] == library().isa and found["kernels"] == str(library().path)
    assert found["isas"][-1] == "portable" and "bitmask" in found["layouts"] and found["machine"]["cores"] >= 1
    assert found["packages"]["onnx"] is not None and "openvino" in found["packages"]
    shown = cli("doctor").out
    assert f"{library().isa} of " in shown and "to do" not in shown


@pytest.mark.parametrize(("compiler", "advice"), [(None, "Install a C++ compiler"), ("/usr/bin/c++", "Install Pomona again")])
def test_without_kernels_it_says_why_and_what_to_do(cli, monkeypatch, compiler, advice):
    monkeypatch.setattr(home.shutil, "which", lambda _: compiler)
    monkeypatch.delenv("POMONA_NATIVE", raising=False)
    with using(None):
        ran = cli("doctor")
    assert ran.code == 0 and "none: torch was asked for" in ran.out and advice in ran.out
    assert (compiler or "none found") in ran.out


def test_each_gpu_target_is_told_with_its_device_or_what_it_lacks(cli, monkeypatch):
    def gpu_for(target):
        if target == "gpu-sparse":
            raise InputError("There is no Triton.")
        return SimpleNamespace(name="One Of Ours")

    monkeypatch.setattr(home, "gpu_for", gpu_for)
    assert cli("doctor", "--json").json["gpu"] == {"gpu-2:4": "One Of Ours", "gpu-sparse": "none: There is no Triton."}
    assert "One Of Ours" in cli("doctor").out
