"""`pomona doctor`, which must speak where something is missing above all."""

import pytest

from pomona.face import condition as home
from pomona.native import library, using


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
