"""What a table of engines says, and what it does with engines that fail, lie or are not there."""

from functools import partial
from time import sleep

import pytest
import torch
from torch import nn

from pomona.runtime.engines import Engine, EngineTable, Files, Row, Running
from pomona.runtime.engines.compared import compared
from pomona.runtime.engines.known import GENERAL
from pomona.runtime.work import operations_left
from pomona.vocabulary import InputError, Silent

NAMED = {engine.name: engine for engine in GENERAL}


def row(engine, ms, dense=True, holds=True, near=9.0):
    return Row(engine, dense, error=0.0, holds=holds, nbytes=1, ms=ms, spread=(ms, ms), near=near)


def table(*rows):
    return EngineTable(rows, batch=1, threads=1, rounds=5, tolerance=1e-4)


def run(engines, model=None, x=None, **but):
    torch.manual_seed(0)
    model, x = model or nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), torch.randn(3, 8) if x is None else x
    asked = {"threads": 1, "rounds": 5, "seconds": 0.1, "seed": 0, "cold": False, "clock": "wall", "pin": False}
    return compared(model, (x,), {}, engines, **{**asked, "tolerance": 1e-4, "progress": Silent(), **but})


def engine(name, function, dense=True, **about):
    """One that calls a function in place of the model."""

    def opened(files):
        run = partial(function, files.model)
        return Running(partial(run, *files.args), lambda args, kwargs: [run(*args)], 100, **about)

    return Engine(name, opened, dense)


def test_the_fastest_that_holds_is_named_beside_the_best_dense_one():
    found = table(row("eager", 4.0), row("openvino", 2.0), row("liar", 0.1, holds=False), row("pomona", 1.0, dense=False))
    assert found.best.engine == "pomona" and found.best_dense.engine == "openvino"
    assert found.told == "Deploy on pomona: 1 ms, 2x as fast as the best dense engine (openvino)."
    assert found.document()["best"] == "pomona" and len(found.document()["rows"]) == 4


def test_a_dense_winner_is_compared_with_eager_and_what_is_as_fast_is_said():
    found = table(row("eager", 4.0), row("openvino", 2.0, near=1.0), row("onnxruntime", 2.02, near=1.01))
    assert found.told == "Deploy on openvino: 2 ms, 2x as fast as torch's eager mode. As fast within 3 %: onnxruntime."
    assert table(row("eager", 4.0)).told == "Deploy on eager: 4 ms."


def test_where_nothing_holds_nothing_is_named():
    found = table(row("eager", 1.0, holds=False), Row("openvino", True, why="not installed"))
    assert found.best is None and "none to deploy on" in found.told
    assert "differ by more than 0.0001" in found.table() and "not installed" in found.table()


def test_an_engine_that_differs_is_shown_and_never_named_nor_compared_with():
    eager, liar = engine("eager", lambda m, x: sleep(2e-3) or m(x)), engine("liar", lambda m, x: 1.001 * m(x))
    blind = engine("blind", lambda m, x, y=[]: y[0] if y else y.append(m(x)) or y[0])  # remembers the first input's answer
    found = run([eager, liar, blind], x=torch.randn(3, 8) / 1e3)  # small outputs are held to the same share
    assert [r.holds for r in found.rows] == [True, False, False]
    assert found.rows[1].error == pytest.approx(1e-3, rel=0.1) and found.rows[1].ms < found.rows[0].ms
    assert found.best.engine == found.best_dense.engine == "eager"
    assert found.rows[0].ratio == 1 and found.rounds == 5


def test_an_engine_that_fails_says_why_and_the_others_go_on():
    def fails(files):
        raise ValueError("out of paper\nand more")

    def refuses(files):
        raise InputError("takes no paper.")

    found = run([Engine("broken", fails), Engine("picky", refuses), NAMED["eager"], engine("late", lambda m, x: 1 / 0)])
    assert [r.why for r in found.rows] == [
        "ValueError: out of paper",
        "takes no paper",
        None,
        "ZeroDivisionError: division by zero",
    ]
    assert found.best.engine == "eager" and found.rows[0].ms is None


def test_a_model_that_does_not_take_the_inputs_is_refused():
    with pytest.raises(InputError, match="does not run on these inputs"):
        run([NAMED["eager"]], x=torch.randn(3, 9))


def test_outputs_that_are_not_numbers_are_refused():
    with pytest.raises(InputError, match="Sequential gives NaN on these inputs"):
        run([NAMED["eager"]], x=torch.full((3, 8), float("nan")))


def test_models_in_half_precision_are_held_to_what_they_can_hold():
    rough = engine("rough", lambda m, x: 1.01 * m(x).float())
    model = nn.Sequential(nn.Linear(8, 4)).bfloat16()
    found = run([NAMED["eager"], rough], model, torch.randn(3, 8).bfloat16(), tolerance=None)
    assert found.tolerance == 0.03 and found.rows[1].holds and found.rows[1].error == pytest.approx(0.01, rel=0.1)
    assert run([NAMED["eager"]], tolerance=None).tolerance == 1e-4


def test_missing_packages_and_compilers_are_told_in_a_clause(monkeypatch):
    monkeypatch.setattr("pomona.runtime.engines.engine.find_spec", lambda name: None if name == "openvino" else object())
    monkeypatch.setattr("pomona.runtime.engines.in_torch.shutil.which", lambda name: None)
    found = run([NAMED[name] for name in ("eager", "compile", "aoti", "openvino")])
    compiler = "needs a C++ compiler"
    assert [r.why for r in found.rows] == [None, compiler, compiler, "not installed: pip install 'pomona[openvino]'"]


def test_all_engines_run_on_the_threads_asked_for():
    before, seen = torch.get_num_threads(), []
    run([engine("eager", lambda m, x: seen.append(torch.get_num_threads()) or m(x))], threads=before + 1)
    assert set(seen) == {before + 1} and torch.get_num_threads() == before


def test_what_is_read_again_is_what_the_file_holds(tmp_path):
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 6))
    model[3].weight = model[0].weight
    files = Files(model.eval(), (torch.arange(6),), {}, tmp_path)
    again = files.again()
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert again[3].weight is again[0].weight and again[0].weight is not model[0].weight
    raw = bytearray(files.weights.read_bytes())
    raw[-4:] = b"\0\0\0\0"
    files.weights.write_bytes(raw)
    assert not all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), files.again().state_dict().values(), strict=True)
    )


def test_operations_left_are_those_of_living_weights():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 9, 5, bias=False)).eval()
    with torch.no_grad():
        model[0].weight[:1] = 0  # a quarter
        model[2].weight[:, ::2] = 0  # half
        left = operations_left(model, (torch.randn(3, 2, 5, 5),), {})
        alone = operations_left(model[2], (torch.randn(3, 36),), {})
    assert left == 2 * 3 * (9 * 2 * 9 * 3 + 18 * 5) and alone == 2 * 3 * 18 * 5
