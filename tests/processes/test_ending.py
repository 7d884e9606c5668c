"""Processes end together, with one sentence."""

import textwrap

import pytest

from launched import launch
from pomona.processes import Processes

HEAD = """
import os, sys, time
from datetime import timedelta
import pomona
from pomona.processes import Elsewhere, Lost
"""


def run(body, number=2, seconds=60):
    inner = textwrap.indent(textwrap.dedent(body), "        ")
    code = f"""{HEAD}
try:
    with pomona.joined(timedelta(seconds={seconds})) as processes:
{inner}
except (pomona.InputError, Elsewhere, Lost) as error:
    print(type(error).__name__, error)
"""
    return launch(["-c", code], number)


def test_an_error_in_one_ends_all_and_is_told_once():
    ended = run(
        """
        if processes.rank == 1:
            raise pomona.InputError("Batch 2 is bad.")
        processes.of_first(lambda: time.sleep(0.2))
        processes.all(1)
        """
    )
    assert ended[1].out == "InputError Batch 2 is bad.\n"
    assert ended[0].out == "Elsewhere Another process of this run ended it: Batch 2 is bad.\n"


def test_a_process_that_dies_is_noticed_at_once():
    first, dead = run(
        """
        if processes.rank == 1:
            os.kill(os.getpid(), 9)
        processes.all(1)
        """
    )
    assert dead.code == -9
    assert first.out.startswith("Lost Another process of this run ended or did not answer") and first.out.count("\n") == 1


@pytest.mark.slow
def test_a_process_that_is_silent_is_given_up_after_the_timeout():
    first, _ = run(
        """
        if processes.rank == 1:
            time.sleep(12)
        processes.all(1)
        """,
        seconds=4,
    )
    assert first.out.startswith("Lost Another process of this run ended or did not answer")


@pytest.mark.slow
def test_three_exchange_trees_of_any_types():
    ended = run(
        """
        import torch
        x = torch.full((3,), float(processes.rank), dtype=torch.bfloat16)
        mine = {"x": x, "none": torch.empty(0, 2), "flag": torch.tensor(True)}
        got = [processes.broadcast(mine if rank == processes.rank else None, rank) for rank in range(3)]
        assert [one["x"].tolist() for one in got] == [[float(rank)] * 3 for rank in range(3)]
        assert got[1]["none"].shape == (0, 2) and got[2]["flag"].item() is True and got[0]["x"].dtype == torch.bfloat16
        mask = torch.arange(21).view(3, 7) % 3 == 0
        assert torch.equal(processes.of_first(lambda: mask), mask)
        assert processes.all(processes.rank) == [0, 1, 2]
        print("fine")
        """,
        number=3,
    )
    assert [one.out for one in ended] == ["fine\n"] * 3, ended


def test_alone_everything_is_there_already():
    alone, value = Processes(), object()
    assert alone.first and not alone.several
    assert alone.broadcast(value, 0) is value and alone.of_first(lambda: value) is value and alone.all(3) == [3]
    assert alone.share([1, 2]) == [1, 2] and alone.place(5) == 5
