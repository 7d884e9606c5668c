"""Advice before pruning: what pays, from where on, and what does not."""

import json
import time

import pytest
import torch
from torch import nn

import pomona
from pomona.runtime.breakeven import Curve
from pomona.vocabulary import InputError


@pytest.fixture(autouse=True)
def curves(monkeypatch, tmp_path):
    """Layers of a machine where blocks pay early, single weights late, and 2:4 never."""
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    known = {"weights": Curve((0.3, 0.95), (1.3, 0.65)), "2:4": Curve((0.5,), (1.0,))}
    blocks = Curve((0.3, 0.95), (0.7, 0.05))
    asked = []

    def curve(shape, pattern, *_):
        asked.append((shape.weight, pattern))
        return known.get(pattern, blocks)

    monkeypatch.setattr("pomona.face.advise.curve", curve)
    monkeypatch.setattr("pomona.face.advise.unpruned", lambda *_: 1.0)
    return asked


class Slow(nn.Module):
    """Half of its time is in one layer, which takes 4 ms."""

    def __init__(self):
        super().__init__()
        self.linear = Sleepy(8, 8)

    def forward(self, x):
        time.sleep(0.004)
        return self.linear(x)


class Sleepy(nn.Linear):
    def forward(self, x):
        time.sleep(0.004)
        return super().forward(x)


def advise(**wish):
    net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 8)).eval()
    return pomona.advise(net, torch.randn(4, 256), threads=1, **{"channels": False, **wish})


def test_a_wish_that_cannot_pay_is_told_so_with_what_would():
    found = advise(sparsity=0.5)
    assert not found.pays and found.structure == "weights" and found.batch == 4 and found.threads == 1
    assert "weights at 50% would not be faster at batch 4 on 1 thread" in found.told and "It pays from" in found.told
    assert "block:4x1 would take" in found.told


def test_a_wish_that_pays_is_told_by_how_much():
    found = advise(structure="block:8x1", sparsity=0.9)
    option = next(o for o in found.options if o.structure == "block:8x1")
    assert found.pays and option.shares[0.9] < 0.97 and f"{option.shares[0.9]:.2f} of the dense latency" in found.told


def test_zeros_pay_only_where_they_help_more_than_packing_alone(monkeypatch):
    monkeypatch.setattr("pomona.face.advise.unpruned", lambda *_: 0.5)
    found = advise(sparsity=0.9)
    weights, blocks = (next(o for o in found.options if o.structure == name) for name in ("weights", "block:8x1"))
    assert weights.shares[0.9] == weights.unpruned == pytest.approx(1 - 0.5 * found.layers_share)  # 0.7 by the zeros: stored
    assert not found.pays and not weights.pays(0.9) and weights.pays_from is None
    assert blocks.pays(0.9) and 0.5 < blocks.pays_from < 0.6  # the line from 0.7 to 0.05 passes 0.5 at 50 %
    assert f"over packing alone, which takes {weights.unpruned:.2f} of the dense latency" in found.told


def test_the_whole_is_its_layers_and_what_lies_between():
    found = advise(sparsity=0.95)
    weights = next(o for o in found.options if o.structure == "weights")
    assert 0 < found.layers_share <= 1
    assert weights.shares[0.95] == pytest.approx(1 - 0.35 * found.layers_share)
    assert weights.shares[0.5] == 1.0  # no layer gets slower: it stays dense
    blocks = next(o for o in found.options if o.structure == "block:4x1")
    assert blocks.pays_from == 0.3 and weights.pays_from > 0.6


def test_two_to_four_has_its_own_sparsity_and_never_pays_here():
    found = advise(structure="2:4")
    option = next(o for o in found.options if o.structure == "2:4")
    assert set(option.shares) == {0.5} and option.pays_from is None and not found.pays and "pays from" not in found.told


def test_layers_are_timed_where_they_run(monkeypatch):
    monkeypatch.setattr("pomona.face.advise.own_clock", lambda: time.perf_counter)
    monkeypatch.setattr("pomona.face.advise.LAYERS", (Sleepy,))
    found = pomona.advise(Slow().eval(), torch.randn(1, 8), threads=1, channels=False)
    assert found.layers_share == pytest.approx(0.5, abs=0.15) and found.dense_ms > 8


def test_more_threads_than_processors_are_noted(monkeypatch):
    monkeypatch.setattr("pomona.face.advise.processors", lambda: (0,))
    net, x = nn.Linear(8, 8), torch.randn(1, 8)
    assert "2 threads take turns on 1 processors" in pomona.advise(net, x, threads=2, channels=False).notes[-1]
    assert not [note for note in pomona.advise(net, x, threads=1, channels=False).notes if "turns" in note]


def test_alike_layers_are_asked_about_once(curves):
    net = nn.Sequential(*(nn.Linear(16, 16) for _ in range(5)))
    pomona.advise(net, torch.randn(1, 16), threads=1, channels=False)
    assert len(curves) == len(set(curves)) == 5  # one shape, five structures


def test_removed_channels_come_from_the_graph():
    found = advise(channels=True, structure="channels", sparsity=0.8)
    option = found.options[-1]
    assert option.structure == "channels" and 0 < option.shares[0.9] < 1.5
    assert found.pays == (option.shares[0.8] <= 0.97)
    assert list(option.shares) == sorted(option.shares)
    assert list(option.shares.values()) == sorted(option.shares.values(), reverse=True)  # nobody must become slower


def test_models_without_a_graph_get_the_other_advice():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(x) if float(x.sum()) > 0 else x

    found = pomona.advise(Branching(), torch.ones(1, 8), threads=1)
    assert "Removed channels are not foretold" in found.notes[-1] and len(found.options) == 5
    with pytest.raises(InputError, match="cannot be foretold"):
        pomona.advise(Branching(), torch.ones(1, 8), threads=1, structure="channels")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"structure": "stars"}, "not for 'stars'"),
        ({"sparsity": 1.0}, "between 0 and 1"),
        ({"structure": "2:4", "sparsity": 0.7}, "sparsity of 0.5"),
        ({"values": "f8"}, "f32, bf16, int8"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(wish, says):
    with pytest.raises(InputError, match=says):
        advise(**wish)


def test_models_that_do_not_run_or_have_no_layers_are_refused():
    with pytest.raises(InputError, match="does not run on these inputs"):
        pomona.advise(nn.Linear(4, 4), torch.ones(1, 5), channels=False)
    with pytest.raises(InputError, match="nothing to pack"):
        pomona.advise(nn.ReLU(), torch.ones(1, 5), channels=False)


def test_the_command_prints_a_verdict_and_a_table(tmp_path, monkeypatch, capsys):
    from pomona.cli.app import run

    (tmp_path / "nets.py").write_text(
        "import torch\ndef net():\n    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()), torch.ones(1, 64)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert run(["advise", "nets.py:net", "--threads", "1", "--batch", "2", "--no-channels"]) == 0
    out = capsys.readouterr().out
    assert "would not be faster at batch 2" in out and " 0% " in out and "block:16x1" in out and "never" in out
    assert run(["advise", "nets.py:net", "--threads", "1", "--no-channels", "--json", "--structure", "block:4x1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["structure"] == "block:4x1" and set(found["options"][0]["shares"]) == {"0.5", "0.7", "0.8", "0.9"}
    assert run(["advise", "nets.py:net", "--structure", "stars"]) == 2
