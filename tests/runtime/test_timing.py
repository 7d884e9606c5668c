import time
from itertools import pairwise

import pytest
import torch

from pomona.runtime.timing import quantile, threads_set, time_pairs
from pomona.vocabulary import InputError, Silent


def test_both_are_timed_in_turn_and_neither_always_first():
    calls = []

    def before():
        calls.append("b")
        time.sleep(0.003)

    def after():
        calls.append("a")
        time.sleep(0.003)

    timed = time_pairs(before, after, pairs=12, seconds=10, seed=0, stage=Silent())
    pairs = ["".join(p) for p in zip(*[iter(calls[6:])] * 2, strict=True)]
    assert len(timed.before) == len(timed.after) == 12
    assert set(pairs) == {"ab", "ba"} and len(pairs) == 12


def test_the_ratio_is_that_of_the_work_done():
    timed = time_pairs(lambda: time.sleep(0.02), lambda: time.sleep(0.005), 5, 10, 0, Silent())
    assert 0.15 < timed.ratios[len(timed.ratios) // 2] < 0.6
    assert all(a <= b for a, b in pairwise(timed.ratios))


def test_time_runs_out_after_five_pairs_at_the_earliest():
    timed = time_pairs(lambda: time.sleep(0.003), lambda: None, 1000, 1e-9, 0, Silent())
    assert len(timed.before) == 5


def test_threads_are_put_back_whatever_happens():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads_set(before + 1) as running:
        assert running == torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="one thread"), threads_set(0):
        pass


def test_quantiles_of_a_line():
    line = [float(i) for i in range(11)]
    assert [quantile(line, share) for share in (0.0, 0.1, 0.25, 1.0)] == [0.0, 1.0, 2.5, 10.0]
