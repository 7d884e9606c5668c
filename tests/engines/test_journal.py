"""A run that was killed, started again with the same arguments, ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import pomona
from pomona.criteria.taylor import Taylor
from pomona.recipes.lottery import lottery
from pomona.recipes.magnitude import magnitude_iterative
from pomona.recovery.fine_tune import FineTune
from pomona.recovery.retrain import Retrain
from pomona.schedules.rounds import Rounds
from pomona.structures.axes import Axes
from pomona.vocabulary import InputError, Limits

SGD = {"optimizer": "sgd", "lr": 0.05}
RUNS = {
    "weights": (magnitude_iterative.but(schedule=Rounds(n=3), recovery=FineTune(2, **SGD)), "sparsity=0.8"),
    "channels": (
        magnitude_iterative.but(structure=Axes(), criterion=Taylor(), schedule=Rounds(n=3), recovery=FineTune(2, lr=0.01)),
        "macs=0.4x",
    ),
    "ticket": (lottery.but(schedule=Rounds(n=2, first_train=True), recovery=Retrain(2, **SGD)), "sparsity=0.6"),
    "late ticket": (
        lottery.but(schedule=Rounds(n=2, first_train=True), recovery=Retrain(2, start="step 2", **SGD)),
        "sparsity=0.6",
    ),
    "one shot": (magnitude_iterative.but(schedule=Rounds(n=1), recovery=FineTune(3, **SGD)), "sparsity=0.8"),
}


class Killed(BaseException):
    """Nothing catches it."""


class Mortal:
    """A loss that counts its calls and dies at one of them."""

    def __init__(self, dies=None):
        self.calls, self.dies = 0, dies

    def __call__(self, output, target):
        self.calls += 1
        if self.calls == self.dies:
            raise Killed
        return cross_entropy(output, target)


def net():
    """Small, with batch norms and dropout, whose masks and statistics depend on every step before."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2), nn.BatchNorm2d(12), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(12 * 9, 5)).eval()


def pictures(batch=8, shuffle=True):
    """Four batches, shuffled by torch's global generator, as most people's loaders are."""
    x = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(x, torch.arange(32) % 5), batch, shuffle=shuffle)


def prune(name, loss, folder=None, model=None, data=None, **more):
    recipe, goal = RUNS[name]
    some = 2 if name == "channels" else 64  # which batches these are is up to the loader
    wish = {"method": recipe, "goal": goal, "seed": 3, "calibrate": some, "latency": False, **more}
    model, data = model or net(), data or pictures()
    torch.seed()  # whoever comes back from a kill finds the generator somewhere else
    return pomona.prune(model, torch.randn(1, 3, 8, 8), data=data, loss=loss, test=data, checkpoint=folder, **wish)


def same(a, b):
    assert all(torch.equal(a.plan.keep(name), b.plan.keep(name)) for name in a.plan.sites)
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert a.report.rounds == b.report.rounds and a.plan.provenance == b.plan.provenance
    if a.report.recovery:
        assert a.report.recovery.epochs == b.report.recovery.epochs


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_run_that_dies_anywhere_ends_bit_identical(name, tmp_path):
    loss = Mortal()
    straight = prune(name, loss)
    for number, share in enumerate((0.2, 0.5, 0.7, 0.95)):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            prune(name, Mortal(dies=int(share * loss.calls)), folder)
        again = Mortal()
        same(straight, prune(name, again, folder))
        assert again.calls < loss.calls or share < 0.3


def test_a_run_that_dies_again_and_again_ends_bit_identical(tmp_path):
    straight = prune("weights", cross_entropy)
    for _ in range(8):
        try:
            result = prune("weights", Mortal(dies=9), tmp_path)  # an epoch has four steps
            break
        except Killed:
            continue
    same(straight, result)


def test_a_finished_run_costs_no_training_any_more(tmp_path):
    first = prune("weights", cross_entropy, tmp_path)
    loss = Mortal(dies=1)
    same(first, prune("weights", loss, tmp_path))


def test_every_recovery_has_its_own_folder(tmp_path):
    prune("ticket", cross_entropy, tmp_path / "ticket")
    assert {p.name for p in (tmp_path / "ticket").iterdir()} == {"rounds.safetensors", "before", "round-1", "round-2"}
    prune("weights", cross_entropy, tmp_path / "weights")
    assert {p.name for p in (tmp_path / "weights").iterdir()} == {"rounds.safetensors", "round-1", "round-2", "final"}
    for file in tmp_path.rglob("*.*"):
        with safe_open(str(file), framework="pt") as opened:  # not pickle
            assert opened.metadata()


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"method": magnitude_iterative.but(schedule=Rounds(n=4))}, "recipe"),
        ({"goal": "sparsity=0.7"}, "goal"),
        ({"seed": 4}, "seed"),
        ({"limits": Limits(minimum={"0*": 0.5})}, "limits"),
        ({"model": nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()}, "model"),
        ({"data": pictures(batch=16)}, "data"),
        ({"calibrate": 2}, "data"),
    ],
)
def test_the_folder_of_another_run_is_refused_and_left_alone(other, word, tmp_path):
    with pytest.raises(Killed):
        prune("weights", Mortal(dies=20), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(InputError, match=f"another {word}") as refusal:
        prune("weights", cross_entropy, tmp_path, **other)
    assert "\n" not in str(refusal.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


def test_a_damaged_journal_and_an_impossible_folder_are_refused(tmp_path):
    prune("one shot", cross_entropy, tmp_path / "a")
    journal = tmp_path / "a" / "rounds.safetensors"
    journal.write_bytes(journal.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        prune("one shot", cross_entropy, tmp_path / "a")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="not a folder"):
        prune("one shot", cross_entropy, tmp_path / "file")


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from torch.nn.functional import cross_entropy
    sys.path[:0] = {paths!r}
    import test_journal

    calls = 0
    def loss(output, target):
        global calls
        calls += 1
        if calls == 22:
            os.kill(os.getpid(), signal.SIGKILL)
        return cross_entropy(output, target)

    test_journal.prune("weights", loss, Path({folder!r}))
"""


def test_a_run_killed_by_the_system_goes_on_in_another_process(tmp_path):
    here = Path(__file__).parent
    child = textwrap.dedent(CHILD).format(paths=[str(here), str(here.parent)], folder=str(tmp_path / "kept"))
    threads = str(torch.get_num_threads())  # as here: sums over other threads end in other last bits
    done = subprocess.run([sys.executable, "-c", child], env={**os.environ, "OMP_NUM_THREADS": threads}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not [path for path in (tmp_path / "kept").rglob("*.partial")]
    loss = Mortal()
    again = prune("weights", loss, tmp_path / "kept")
    assert loss.calls < 22
    same(prune("weights", cross_entropy), again)
