"""`pomona bench MODEL`: one model in every engine."""

import pytest


@pytest.fixture
def asked(monkeypatch):
    """What reaches the face; the answer is made by hand."""
    import pomona
    from pomona.runtime.engines import EngineTable, Row

    seen = []
    rows = (
        Row(
            "eager",
            True,
            0.0,
            True,
            nbytes=2_000_000,
            ms=4.0,
            spread=(3.9, 4.4),
            ratio=1.0,
            ratio_spread=(1.0, 1.0),
            limit_ms=1.0,
        ),
        Row("openvino", True, why="not installed: pip install 'pomona[openvino]'"),
        Row("pomona", False, 2e-7, True, nbytes=1_000_000, ms=2.0, spread=(1.9, 2.4), ratio=0.5, ratio_spread=(0.4, 0.6)),
    )

    def bench(*args, **kwargs):
        seen.append(kwargs)
        return EngineTable(rows, batch=1, threads=1, rounds=9, tolerance=1e-4)

    monkeypatch.setitem(vars(pomona), "bench", bench)
    return seen


def test_all_engines_are_asked_for_and_the_one_to_deploy_on_comes_first(net, cli, asked):
    ran = cli("bench", net, "--threads", "1", "--batch", "2", "--cold", "--tolerance", "1e-3", "--values", "int8")
    assert ran.code == 0 and ran.out.startswith("Deploy on pomona: 2 ms, 2x as fast as the best dense engine (eager).")
    assert "pip install 'pomona[openvino]'" in ran.out and "0.50 (0.4 to 0.6)" in ran.out and "9 rounds in turn" in ran.out
    (given,) = asked
    assert given["engines"] == "all" and (given["threads"], given["batch"], given["cold"]) == (1, 2, True)
    assert given["tolerance"] == 1e-3 and given["values"] == "int8"
    found = cli("bench", net, "--engine", "pt2", "--engine", "decoder", "--json").json
    assert found["best"] == "pomona" and found["model"] == net and len(found["rows"]) == 3
    assert asked[-1]["engines"] == ["pt2", "decoder"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--engine", "opnvino"], "openvino"),
        (["--energy"], "name AFTER"),
        (["--clock", "sun"], "clock"),
        (["nets.py:net", "--values", "int8"], "leave them or AFTER out"),
    ],
)
def test_what_does_not_go_together_is_refused(net, cli, asked, arguments, says):
    ran = cli("bench", net, *arguments)
    assert ran.code == 2 and says in ran.err and not asked


def test_a_real_table(net, cli):
    found = cli("bench", net, "--engine", "pt2", "--threads", "1", "--json").json
    assert [row["holds"] for row in found["rows"]] == [True, True] and found["best"] in ("eager", "pt2")
