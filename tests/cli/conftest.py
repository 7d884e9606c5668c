"""The command line against a face that answers from memory: parsing, printing and refusing are what is tested here."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import pomona
from pomona.cli.app import run
from pomona.evaluate import ClassQuality, Quality
from pomona.graph import Shares
from pomona.vocabulary import Axis, Branch, Member

REPORT = {
    "pomona": "0.1.0", "command": None, "seed": 0, "model": {"name": "net", "class": "Sequential", "source": None},
    "recipe": {"method": "magnitude", "text": "", "sentence": "", "summary": "", "papers": [], "needs": [], "when": "post",
               "structure": ""},
    "goal": "macs=0.5x", "params": {"before": 100, "after": 50}, "nonzeros": {"before": 100, "after": 50},
    "macs": {"before": 1000, "after": 500}, "bytes": {"before": 400, "after": 200}, "latency": None, "quality": None,
    "proof": {"passed": True, "max_error": 1e-15, "tolerance": 1e-9, "exact_groups": ["a"], "approximate_groups": [],
              "form": "eager", "sensitivity": 1.0, "notes": []},
    "layers": [], "sites": [], "frozen": [], "rounds": [], "recovery": None, "notes": [], "plan": None, "out": None,
}  # fmt: skip


@dataclass
class Timed:
    before_ms: float = 4.0
    after_ms: float = 2.0
    ratio: float = 0.5
    spread: tuple[float, float] = (0.4, 0.6)
    pairs: int = 20
    batch: int = 1
    threads: int = 1
    clock: str = "wall"
    cold: bool = False
    pinned: tuple[int, ...] = ()
    rivals: tuple[Any, ...] = ()
    limit_ms: float | None = None
    joules: tuple[float, float] | None = None
    energy_by: str | None = None


@dataclass
class Face:
    """Remembers how it was called; `fails` is raised instead of an answer."""

    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    fails: BaseException | None = None

    def answer(self, name, result):
        def call(*args, **kwargs):
            self.calls[name] = (args, kwargs)
            if self.fails is not None:
                raise self.fails
            return result

        return call


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def face(monkeypatch):
    """The public face, faked, so that these tests say nothing about pruning."""
    made = Face()

    def save(folder: Path) -> Path:
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(REPORT | {"notes": ["How it opens."]}))
        return folder

    axes = {
        "1": Axis("1", 8, "channel", (Member("0.weight", "out", 0), Member("2.weight", "in", 1)), normalisers=("softmax at 1",)),
        "0": Axis("0", 3, "channel", (Member("0.weight", "in", 1),), frozen="it is the model's input"),
    }
    costs = SimpleNamespace(params=100, macs=1000, activation_bytes=4096, peak_bytes=1024)
    graph = SimpleNamespace(
        axes=axes,
        branches=(Branch("blocks", ("blocks.0", "blocks.1")),),
        costs=lambda: costs,
        shares=lambda names=None: Shares(0.75, 0.5, 0.25, 0.125, 0.375),
        unknown=(("sort", "layers.2: no rule"),),
    )
    timed = Timed()
    answers = {
        "prune": SimpleNamespace(report=dict(REPORT), save=save),
        "trace": graph,
        "measure_latency": timed,
        "evaluate": Quality("accuracy", 0.75, per_class=(ClassQuality("cat", 4, 0.75),), examples=4),
        "load": torch.nn.Linear(2, 2),
    }
    for name, result in answers.items():
        monkeypatch.setitem(vars(pomona), name, made.answer(name, result))
    return made


@pytest.fixture
def net(tmp_path, monkeypatch):
    """A MODEL of the user's own, in the working directory."""
    (tmp_path / "nets.py").write_text(
        "import torch\n"
        "def net():\n"
        "    print('a library that chats')\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)), torch.ones(1, 4)\n"
        "def data():\n"
        "    return [(torch.ones(2, 4), torch.tensor([0, 1]))]\n"
        "def loss(output, target):\n"
        "    return output.sum()\n"
    )
    monkeypatch.chdir(tmp_path)
    return "nets.py:net"


@pytest.fixture
def cli(capsys):
    def call(*arguments) -> Ran:
        code = run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def a_report():
    return REPORT
